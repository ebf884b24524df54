// SPDX-License-Identifier: Apache-2.0
import { contigLg2, isPresent, isTable, oaFrame } from './item.ts';
import { INVERSE_POW2, POW2 } from './lg2.ts';
import type { Table } from './table.ts';

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Every item on the way of an input frame through a table, a line each, and where it ends: for people. */
export function explainFrame(table: Table, frame: number): string[] {
  const { format, ram, topLevel } = table;
  const lines: string[] = [];
  if (!(frame >= 0 && frame < table.end)) {
    lines.push(
      `refused: the ${topLevel + 1} levels of this ${format.name} table do not reach so far`,
    );
    return lines;
  }
  let at = table.top;
  for (let level = topLevel; level >= 0; level--) {
    const lg2 = table.itemLg2[level] ?? 0;
    const index = Math.floor(frame * (INVERSE_POW2[lg2] ?? 1)) % (table.indexMask + 1);
    const lane = ram.laneOf(at) + 2 * index;
    const lo = ram.lanesOf(at)[lane] ?? 0;
    const hi = ram.lanesOf(at)[lane + 1] ?? 0;
    const bits = hi.toString(16).padStart(8, '0') + lo.toString(16).padStart(8, '0');
    const item = `${format.name}, level ${level + 1} at frame ${hex(at)}[${index}] = 0x${bits}`;
    if (!isPresent(format, lo, hi)) {
      lines.push(`${item}: not present`, 'refused: not mapped');
      return lines;
    }
    if (level > 0 && isTable(format, lo, level)) {
      at = oaFrame(format, lo, hi);
      lines.push(`${item}: table at frame ${hex(at)}`);
      continue;
    }
    const size = POW2[lg2 + contigLg2(format, lo, hi, level)] ?? 1;
    const start = Math.floor(oaFrame(format, lo, hi) / size) * size;
    const has = (mask: { readonly lo: number; readonly hi: number }): boolean =>
      ((lo & mask.lo) | (hi & mask.hi)) !== 0;
    const rights = [has(format.read) ? 'R' : '', has(format.write) ? 'W' : ''].join('');
    lines.push(
      `${item}: ${rights || 'no rights'}, ${size} frames from ${hex(start)} on`,
      `ends at frame ${hex(start + (frame % size))}`,
    );
    return lines;
  }
  return lines;
}
