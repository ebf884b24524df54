// SPDX-License-Identifier: Apache-2.0
import type { IotlbGather } from './gather.ts';
import { contigLg2, isPresent, isTable, oaFrame } from './item.ts';
import { POW2 } from './lg2.ts';
import type { Table } from './table.ts';

/** One unmap under way. */
class Unmap {
  readonly table: Table;
  /** Where removed tables go; undefined keeps all tables. */
  readonly gather: IotlbGather | undefined;
  unmapped = 0;

  constructor(table: Table, gather: IotlbGather | undefined) {
    this.table = table;
    this.gather = gather;
  }
}

/**
 * Empties the entries of `frames` frames from `start`, and hands over the tables that this leaves without a use. Returns how many
 * frames are no longer mapped: it stops at the first that was not; an entry that the range ends in goes as a whole; nothing goes where
 * the range starts inside one (Linux's choices: large entries are never split). Source: Linux iommu_pt.h `__unmap_range()`.
 */
export function unmap(
  table: Table,
  start: number,
  frames: number,
  gather: IotlbGather | undefined,
): number {
  const end = start + frames;
  if (!(start >= 0 && frames > 0 && end <= table.end)) return 0;
  const unmapping = new Unmap(table, gather);
  unmapIn(unmapping, table.top, table.topLevel, start, end);
  if (unmapping.unmapped > 0) gather?.addRange(start, unmapping.unmapped);
  return unmapping.unmapped;
}

/** The part of the range that a table reaches; false where it had to stop. */
function unmapIn(op: Unmap, at: number, level: number, start: number, end: number): boolean {
  const { table } = op;
  const { format, ram } = table;
  if (level === 0) return unmapLeaves(op, at, start, end);
  const lanes = ram.lanesOf(at);
  const first = ram.laneOf(at);
  const itemFrames = POW2[table.itemLg2[level] ?? 0] ?? 1;
  let index = table.index(start, level);
  const endIndex = table.index(end - 1, level) + 1;
  // The address of item 0 of this table.
  const base = (Math.floor(start / itemFrames) - index) * itemFrames;
  while (index < endIndex) {
    const lane = first + 2 * index;
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (!isPresent(format, lo, hi)) return false;
    const itemStart = base + index * itemFrames;
    if (!isTable(format, lo, level)) {
      const items = 1 << contigLg2(format, lo, hi, level);
      if ((index & (items - 1)) !== 0 || itemStart < start) return false;
      for (let i = lane; i < lane + 2 * items; i++) lanes[i] = 0;
      op.unmapped += items * itemFrames;
      index += items;
      continue;
    }
    const below = oaFrame(format, lo, hi);
    const [from, to] = [Math.max(start, itemStart), Math.min(end, itemStart + itemFrames)];
    if (!unmapIn(op, below, level - 1, from, to)) return false;
    if (op.gather && from === itemStart && to === itemStart + itemFrames) {
      op.gather.addTable(below);
      lanes[lane] = 0;
      lanes[lane + 1] = 0;
    }
    index++;
  }
  return true;
}

/**
 * The same for a table of leaves, where nearly all the time goes: apart from the recursion the loop is compiled on its own, 10 ns an
 * entry; inside it, it was 10 or 32 as V8 happened to inline.
 */
function unmapLeaves(op: Unmap, at: number, start: number, end: number): boolean {
  const { table } = op;
  const { format, ram } = table;
  const { present, codeShift, codeMask, contigCode } = format;
  const lanes = ram.lanesOf(at);
  const first = ram.laneOf(at);
  const itemFrames = format.granuleFrames;
  const startIndex = table.index(start, 0);
  const endIndex = table.index(end - 1, 0) + 1;
  // A range that starts inside its first item has the entry's start before it, as one inside a contiguous entry has.
  let index = Math.floor(start / itemFrames) * itemFrames === start ? startIndex : endIndex;
  let isDone = index === startIndex;
  while (index < endIndex) {
    const lane = first + 2 * index;
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    const isContig = ((lo >>> codeShift) & codeMask) === contigCode;
    const items = isContig ? 1 << contigLg2(format, lo, hi, 0) : 1;
    if (((lo & present.lo) | (hi & present.hi)) === 0 || (index & (items - 1)) !== 0) {
      isDone = false;
      break;
    }
    for (let i = lane; i < lane + 2 * items; i++) lanes[i] = 0;
    index += items;
  }
  if (index > startIndex && (isDone || index < endIndex)) {
    op.unmapped += (index - startIndex) * itemFrames;
  }
  return isDone;
}
