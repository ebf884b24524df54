// SPDX-License-Identifier: Apache-2.0
import type { Encoding } from './format.ts';
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
  if (!(frames > 0 && table.reaches(start, end))) return 0;
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
      table.onWrite?.(at, index, items);
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
      table.onWrite?.(at, index, 1);
    }
    index++;
  }
  return true;
}

/** The same for a table of leaves, where nearly all the time goes. */
function unmapLeaves(op: Unmap, at: number, start: number, end: number): boolean {
  const { table } = op;
  const { format, ram } = table;
  const index = table.index(start, 0);
  const endIndex = table.index(end - 1, 0) + 1;
  // Inside its first item a range starts inside an entry.
  if (Math.floor(start / format.granuleFrames) * format.granuleFrames !== start) return false;
  const stop = clearLeaves(format, ram.lanesOf(at), ram.laneOf(at), index, endIndex);
  op.unmapped += (stop - index) * format.granuleFrames;
  if (stop > index) table.onWrite?.(at, index, stop - index);
  return stop >= endIndex;
}

/**
 * Empties whole entries from `index` on, up to `endIndex` or the end of the entry there; returns where it stopped, earlier at an item
 * that is empty or inside an entry. It calls nothing, not even `contigLg2`: in V8's budget for inlining that call came last, and
 * whether it fitted made 10 or 32 ns an entry.
 */
function clearLeaves(
  format: Encoding,
  lanes: Uint32Array,
  first: number,
  index: number,
  endIndex: number,
): number {
  const { codeShift, codeMask, contigCode, oaShift } = format;
  const { lo: presentLo, hi: presentHi } = format.present;
  let at = index;
  while (at < endIndex) {
    const lane = first + 2 * at;
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (((lo & presentLo) | (hi & presentHi)) === 0) return at;
    const isContig = ((lo >>> codeShift) & codeMask) === contigCode;
    // Contig.ONES_IN_OA, the only kind so far: n ones at the low end are 2^(n+1) items of level 0.
    const field = lo >>> oaShift;
    const items = isContig ? (field ^ (field + 1)) + 1 : 1;
    if ((at & (items - 1)) !== 0) return at;
    for (let i = lane; i < lane + 2 * items; i++) lanes[i] = 0;
    at += items;
  }
  return at;
}
