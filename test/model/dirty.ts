// SPDX-License-Identifier: Apache-2.0
/**
 * What devices have written to, in the model: a set of leaves for each table. How large leaves are is the driver's business; they are
 * taken from the tables as `tables.ts` reads them.
 */
import type { Step } from './commands.ts';
import { HALF, PAGE, refuse } from './memory.ts';
import type { Hwpt } from './objects.ts';
import type { Outcome } from './outcome.ts';
import { LAST, type Range } from './space.ts';
import type { Leaf } from './tables.ts';
import type { World } from './world.ts';

const ENABLE = 1;
const NO_CLEAR = 1;
const HALF_N = BigInt(HALF);
/** The test driver reads at most 16 MiB of bits. */
const MOST_BITS = 1n << 27n;

const startOf = ({ iova }: Leaf): bigint => BigInt(iova) * HALF_N;
const lastOf = ({ iova, frames }: Leaf): bigint => BigInt(iova + frames) * HALF_N - 1n;

/** Switching on begins with everything clean. */
export function trackDirty(world: World, step: Step & { op: 'dirty_track' }): void {
  if (step.flags & ~ENABLE) refuse('EOPNOTSUPP');
  const hwpt = world.get(step.hwpt, 'HWPT_PAGING');
  if (!hwpt.dirty) refuse('EOPNOTSUPP');
  hwpt.tracking = (step.flags & ENABLE) !== 0;
  if (hwpt.tracking) {
    hwpt.written.clear();
    world.changes++;
  }
}

/** A device writes to the pages whose bits are set, mapped or not. */
export function markDirty(world: World, step: Step & { op: 'dirty_mark' }): Outcome['out'] {
  const { iova, length, pageSize, bits } = step;
  if (pageSize === 0n || length === 0n || iova % pageSize || length % pageSize || step.isNull)
    refuse('EINVAL');
  const count = length / pageSize;
  if (count > MOST_BITS) refuse('EOVERFLOW');
  const hwpt = world.get(step.hwpt, 'HWPT_PAGING');
  if (!hwpt.tracking) refuse('EINVAL');
  if ((count + 7n) / 8n > BigInt(step.room)) refuse('EFAULT');
  const leaves = world.leaves(hwpt);
  const asked = bits.filter((bit) => BigInt(bit) < count);
  for (const bit of asked) {
    const at = iova + BigInt(bit) * pageSize;
    const leaf = leaves.find((each) => startOf(each) <= at && at <= lastOf(each));
    if (leaf) hwpt.written.add(leaf.iova);
  }
  world.changes++;
  if (step.readOnly) refuse('EFAULT');
  return { count: BigInt(asked.length) };
}

/** Bits of a bitmap in memory of which `room` bytes are there, the last ones up to the end of a page. */
class Bitmap {
  readonly bytes: Uint8Array;
  private readonly total: number;

  constructor(room: number, total: number) {
    this.bytes = new Uint8Array(room);
    this.total = total;
  }

  /** Bits `first..last`; where they do not all belong to the bitmap, as far as the pages go that are pinned for its rest. */
  set(first: number, last: number): void {
    let end = last;
    const byte = Math.floor(first / 8);
    if (last >= this.total * 8) {
      const into = (PAGE - ((this.bytes.length - byte) % PAGE)) % PAGE;
      const pages = Math.ceil((this.total - byte) / PAGE) + (into > 0 ? 1 : 0);
      end = Math.min(last, (byte - into + pages * PAGE) * 8 - 1);
    }
    for (let bit = first; bit <= end && bit < this.bytes.length * 8; bit++)
      this.bytes[bit >> 3] = (this.bytes[bit >> 3] ?? 0) | (1 << (bit & 7));
  }
}

export function readDirty(world: World, step: Step & { op: 'dirty_read' }): Outcome['out'] {
  const { iova, length, pageSize } = step;
  if (step.flags & ~NO_CLEAR) refuse('EOPNOTSUPP');
  const hwpt = world.get(step.hwpt, 'HWPT_PAGING');
  const last = iova + BigInt.asUintN(64, length - 1n);
  if (last > LAST) refuse('EOVERFLOW');
  const ends = iova | BigInt.asUintN(64, last + 1n);
  if (ends & (hwpt.space.alignment - 1n) || pageSize === 0n || ends & (pageSize - 1n))
    refuse('EINVAL');
  if (!hwpt.dirty) refuse('EOPNOTSUPP');
  // A page size that is no power of two counts as its lowest bit.
  const bit = pageSize & -pageSize;
  const bitmap = new Bitmap(step.room, Number((last - iova) / bit / 8n) + 1);
  const leaves = world.leaves(hwpt);
  for (const range of leadingRanges(hwpt, iova, last)) {
    for (const leaf of leaves) {
      if (!hwpt.written.has(leaf.iova)) continue;
      if (lastOf(leaf) < range.start || startOf(leaf) > range.last) continue;
      const told = toldOf(leaf, range);
      bitmap.set(Number((told.start - iova) / bit), Number((told.last - iova) / bit));
      if (step.flags & NO_CLEAR) continue;
      hwpt.written.delete(leaf.iova);
      world.changes++;
    }
  }
  return { bitmap: bitmap.bytes };
}

/** The parts of areas in a range, up to the first gap. */
function leadingRanges({ space }: Hwpt, iova: bigint, last: bigint): Range[] {
  const found: Range[] = [];
  for (let at = iova; at <= last;) {
    const area = space.areaAt(at);
    if (!area) break;
    const end = area.last < last ? area.last : last;
    found.push({ start: at, last: end });
    at = end + 1n;
  }
  return found;
}

/**
 * What is told of a leaf that was written to. Of one item: all of it, from where the range begins. Of several items: one less than are
 * asked for, where the last of them is; Linux hangs where that would be none, and one is told here.
 */
function toldOf(leaf: Leaf, range: Range): Range {
  const start = range.start > startOf(leaf) ? range.start : startOf(leaf);
  const item = BigInt(leaf.itemFrames) * HALF_N;
  const items = BigInt(leaf.frames / leaf.itemFrames);
  if (items === 1n) return { start, last: start + item - 1n };
  const first = (start - startOf(leaf)) / item;
  const end = (range.last - startOf(leaf)) / item + 1n;
  const told = (end < items ? end : items - 1n) - first;
  return { start, last: start + (told > 0n ? told : 1n) * item - 1n };
}
