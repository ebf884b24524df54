// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import type { IotlbGather } from './gather.ts';
import { contigLg2, isPresent, isTable, oaFrame } from './item.ts';
import { POW2 } from './lg2.ts';
import type { Table } from './table.ts';

/** Told for each stretch that was written to, in order of address, in input frames. */
export type DirtyRecord = (frame: number, frames: number) => void;

interface Read {
  readonly table: Table;
  readonly record: DirtyRecord | undefined;
  /** Where what was cleaned is to be flushed; undefined cleans nothing. */
  readonly gather: IotlbGather | undefined;
}

/**
 * Tells what was written to among `frames` frames from `start`, and cleans it where there is a `gather`. 0, or -EINVAL (no length),
 * -ERANGE. Source: Linux iommu_pt.h `read_and_clear_dirty()`.
 */
export function readDirty(
  table: Table,
  start: number,
  frames: number,
  record: DirtyRecord | undefined,
  gather: IotlbGather | undefined,
): number {
  if (!(frames > 0)) return -Errno.EINVAL;
  if (!table.reaches(start, start + frames)) return -Errno.ERANGE;
  readIn({ table, record, gather }, table.top, table.topLevel, start, start + frames);
  return 0;
}

function readIn(op: Read, at: number, level: number, start: number, end: number): void {
  const { table } = op;
  const { format, ram } = table;
  const lanes = ram.lanesOf(at);
  const first = ram.laneOf(at);
  const itemFrames = POW2[table.itemLg2[level] ?? 0] ?? 1;
  const startIndex = table.index(start, level);
  const endIndex = table.index(end - 1, level) + 1;
  const base = (Math.floor(start / itemFrames) - startIndex) * itemFrames;
  for (let index = startIndex; index < endIndex;) {
    const lane = first + 2 * index;
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    const itemStart = base + index * itemFrames;
    if (!isPresent(format, lo, hi)) {
      index++;
    } else if (isTable(format, lo, level)) {
      const [from, to] = [Math.max(start, itemStart), Math.min(end, itemStart + itemFrames)];
      readIn(op, oaFrame(format, lo, hi), level - 1, from, to);
      index++;
    } else {
      const items = 1 << contigLg2(format, lo, hi, level);
      const entryIndex = index & -items;
      if (isDirty(op, lanes, first + 2 * entryIndex, items)) {
        const frames = itemsTold(index, entryIndex, items, endIndex) * itemFrames;
        op.record?.(Math.max(start, itemStart), frames);
        op.gather?.addRange(Math.max(start, itemStart), frames);
        if (op.gather) table.onWrite?.(at, entryIndex, items);
      }
      index = entryIndex + items;
    }
  }
}

/**
 * How many items of a dirty entry are told. Linux tells one less of a contiguous entry than it reads (kernel-quirks 1): programs
 * see it in the bitmap of a smaller page size, so it is kept. Where that would be none, Linux hangs; the right answer is one.
 */
function itemsTold(index: number, entryIndex: number, items: number, endIndex: number): number {
  if (items === 1) return 1;
  return Math.max(1, Math.min(entryIndex + items - 1, endIndex) - index);
}

/** Any item of the entry is dirty, for the hardware sets the bit in the one it walked; cleans all of them on the way. */
function isDirty(op: Read, lanes: Uint32Array, lane: number, items: number): boolean {
  const { lo, hi } = op.table.format.dirty;
  let found = 0;
  for (let i = lane; i < lane + 2 * items; i += 2) {
    found |= ((lanes[i] ?? 0) & lo) | ((lanes[i + 1] ?? 0) & hi);
  }
  if (found === 0) return false;
  if (!op.gather) return true;
  for (let i = lane; i < lane + 2 * items; i += 2) {
    lanes[i] = (lanes[i] ?? 0) & ~lo;
    lanes[i + 1] = (lanes[i + 1] ?? 0) & ~hi;
  }
  return true;
}

/** Does what the hardware does when it writes through a frame's item. 0, or -ENOENT where it is not mapped. */
export function setDirty(table: Table, frame: number): number {
  const { format, ram } = table;
  if (!table.reaches(frame, frame + 1)) return -Errno.ERANGE;
  let at = table.top;
  for (let level = table.topLevel; level >= 0; level--) {
    const lanes = ram.lanesOf(at);
    const lane = ram.laneOf(at) + 2 * table.index(frame, level);
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (!isPresent(format, lo, hi)) break;
    if (!isTable(format, lo, level)) {
      lanes[lane] = lo | format.dirty.lo;
      lanes[lane + 1] = hi | format.dirty.hi;
      return 0;
    }
    at = oaFrame(format, lo, hi);
  }
  return -Errno.ENOENT;
}
