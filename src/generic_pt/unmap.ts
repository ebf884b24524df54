// SPDX-License-Identifier: Apache-2.0
import type { IotlbGather } from './gather.ts';
import { contigLg2, oaFrame } from './item.ts';
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
  const { present, codeShift, codeMask, tableCodes, contigCode } = format;
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
    if (((lo & present.lo) | (hi & present.hi)) === 0) return false;
    const code = (lo >>> codeShift) & codeMask;
    const itemStart = base + index * itemFrames;
    if (level !== 0 && ((tableCodes >>> code) & 1) !== 0) {
      const below = oaFrame(format, lo, hi);
      const itemEnd = itemStart + itemFrames;
      const isWhole = itemStart >= start && itemEnd <= end;
      const [from, to] = [Math.max(start, itemStart), Math.min(end, itemEnd)];
      if (!unmapIn(op, below, level - 1, from, to)) return false;
      if (isWhole && op.gather) {
        op.gather.addTable(below);
        lanes[lane] = 0;
        lanes[lane + 1] = 0;
      }
      index++;
      continue;
    }
    const items = code === contigCode ? 1 << contigLg2(format, lo, hi, level) : 1;
    if (itemStart < start || (index & (items - 1)) !== 0) return false;
    for (let i = lane; i < lane + 2 * items; i++) lanes[i] = 0;
    op.unmapped += items * itemFrames;
    index += items;
  }
  return true;
}
