// SPDX-License-Identifier: Apache-2.0
import { contigLg2, isPresent, isTable, oaFrame } from './item.ts';
import { POW2 } from './lg2.ts';
import type { Table } from './table.ts';

/**
 * Every item of a table that is not zero, as text, a line each: for people, and for tests that compare a table as a whole. A line
 * holds the table's frame, the index, the 64 bits, and what they mean.
 */
export function dumpTable(table: Table): string[] {
  const lines = [`${table.format.name}: top 0x${hex(table.top)} at level ${table.topLevel}`];
  dumpLevel(table, table.top, table.topLevel, 0, lines);
  return lines;
}

function dumpLevel(table: Table, at: number, level: number, base: number, lines: string[]): void {
  const { format, ram } = table;
  const lanes = ram.lanesOf(at);
  const first = ram.laneOf(at);
  const itemFrames = POW2[table.itemLg2[level] ?? 0] ?? 1;
  for (let index = 0; index <= table.indexMask; index++) {
    const lo = lanes[first + 2 * index] ?? 0;
    const hi = lanes[first + 2 * index + 1] ?? 0;
    if (lo === 0 && hi === 0) continue;
    const va = base + index * itemFrames + extension(table, level, index);
    const isBelow = isPresent(format, lo, hi) && isTable(format, lo, level);
    const below = oaFrame(format, lo, hi);
    const what = isBelow ? `table 0x${hex(below)}` : leaf(table, lo, hi, level);
    const bits = hex(hi).padStart(8, '0') + hex(lo).padStart(8, '0');
    lines.push(`0x${hex(at)} L${level}[${index}] ${bits} frame 0x${hex(va)}: ${what}`);
    if (isBelow) dumpLevel(table, below, level - 1, va, lines);
  }
}

/** What the sign adds to the address of an item in the upper half of the top. */
function extension(table: Table, level: number, index: number): number {
  const isUpper = level === table.topLevel && index > table.indexMask >> 1;
  if (!isUpper || table.upperStart === Infinity) return 0;
  return 2 ** 53 - (table.indexMask + 1) * (POW2[table.itemLg2[level] ?? 0] ?? 1);
}

function leaf(table: Table, lo: number, hi: number, level: number): string {
  const { format } = table;
  if (!isPresent(format, lo, hi)) return 'not present';
  const lg2 = contigLg2(format, lo, hi, level);
  const size = POW2[(table.itemLg2[level] ?? 0) + lg2] ?? 1;
  const has = (mask: { readonly lo: number; readonly hi: number }, name: string): string =>
    ((lo & mask.lo) | (hi & mask.hi)) !== 0 ? name : '';
  const bits = has(format.read, 'R') + has(format.write, 'W') + has(format.dirty, ' dirty');
  const oa = Math.floor(oaFrame(format, lo, hi) / size) * size;
  return `${size} frames to 0x${hex(oa)} ${bits}`;
}

const hex = (value: number): string => value.toString(16);
