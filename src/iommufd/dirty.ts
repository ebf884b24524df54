// SPDX-License-Identifier: Apache-2.0
/** What devices have written to: switched on, read and cleaned per hardware page table (hw_pagetable.c, io_pagetable.c). */
import {
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
  type iommu_hwpt_get_dirty_bitmap,
  type iommu_hwpt_set_dirty_tracking,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { ctz } from '../base/bits.ts';
import { ErrnoError } from '../base/errno.ts';
import { type DirtyOps, DIRTY_NO_CLEAR, IotlbGather, type PagingDomain } from '../iommu/domain.ts';
import { FRAME_SHIFT } from '../memory/frame.ts';
import type { Area } from './area.ts';
import { type Call, checkFlags, checkReserved } from './call.ts';
import { check } from './check.ts';
import { HwptPaging } from './hw_pagetable.ts';
import { hex, IOVA_LAST } from './iova.ts';
import { IovaBitmap } from './iova_bitmap.ts';
import { reading } from './locks.ts';

const SHIFT = BigInt(FRAME_SHIFT);

function dirtyOps(hwpt: HwptPaging): DirtyOps {
  const { dirty } = hwpt.domain;
  if (dirty) return dirty;
  const how = 'IOMMU_HWPT_ALLOC_DIRTY_TRACKING';
  throw new ErrnoError(
    'EOPNOTSUPP',
    `hardware page table ${hwpt.id} was not allocated with ${how}`,
  );
}

/** The part of an area between two addresses, in whole frames. */
function framesOf(area: Area, from: bigint, last: bigint): { start: bigint; frames: number } {
  const start = area.start > from ? area.start : from;
  const end = area.last < last ? area.last : last;
  return { start, frames: Number(((end - start) >> SHIFT) + 1n) };
}

/** IOMMU_HWPT_SET_DIRTY_TRACKING: switching on begins with everything clean. */
export function setDirtyTracking(call: Call<Cmd<typeof iommu_hwpt_set_dirty_tracking>>): void {
  const { cmd, context } = call;
  checkFlags(cmd.flags, IOMMU_HWPT_DIRTY_TRACKING_ENABLE);
  context.withObject(cmd.hwpt_id, HwptPaging, 'a hardware page table', (hwpt) => {
    const dirty = dirtyOps(hwpt);
    const enable = (cmd.flags & IOMMU_HWPT_DIRTY_TRACKING_ENABLE) !== 0;
    const { table } = hwpt.ioas;
    reading(table.iovaLock, () => {
      if (enable) cleanAll(hwpt.domain, dirty, table.areas);
      check(dirty.setTracking(enable), 'the driver refused to change dirty tracking');
    });
  });
}

function cleanAll(domain: PagingDomain, dirty: DirtyOps, areas: Iterable<Area>): void {
  const gather = new IotlbGather();
  for (const area of areas) {
    const { start, frames } = framesOf(area, area.start, area.last);
    check(dirty.readAndClear(start, frames, 0, gather), `the driver can not clean ${hex(start)}`);
  }
  domain.iotlbSync(gather);
}

type GetDirtyBitmap = Cmd<typeof iommu_hwpt_get_dirty_bitmap>;

/** Source: iommufd_check_iova_range(). The end is checked as Linux computes it, modulo 2^64. */
function checkRange(
  { iova, length, page_size: pageSize }: GetDirtyBitmap,
  alignment: bigint,
): void {
  const last = iova + BigInt.asUintN(64, length - 1n);
  if (last > IOVA_LAST) {
    throw new ErrnoError('EOVERFLOW', `iova ${hex(iova)} + length ${hex(length)} exceeds 2^64`);
  }
  const end = BigInt.asUintN(64, last + 1n);
  if ((iova | end) & (alignment - 1n)) {
    throw new ErrnoError('EINVAL', `iova or length is not aligned to ${hex(alignment)}`);
  }
  if (pageSize === 0n) throw new ErrnoError('EINVAL', 'page_size is 0');
  if ((iova | end) & (pageSize - 1n)) {
    throw new ErrnoError('EINVAL', `iova or length is not aligned to page_size ${hex(pageSize)}`);
  }
}

/**
 * IOMMU_HWPT_GET_DIRTY_BITMAP: sets a bit for each page written to, and cleans the pages unless told otherwise. It ends at the
 * first gap between maps, and where bits can not be written they are left out: neither is an error.
 */
export function getDirtyBitmap(call: Call<GetDirtyBitmap>): void {
  const { cmd, context, task } = call;
  checkFlags(cmd.flags, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR);
  checkReserved(cmd.__reserved);
  context.withObject(cmd.hwpt_id, HwptPaging, 'a hardware page table', (hwpt) => {
    const { table } = hwpt.ioas;
    checkRange(cmd, table.alignment);
    const dirty = dirtyOps(hwpt);
    if (context.iommufd.faults.point('alloc'))
      throw new ErrnoError('ENOMEM', 'no memory for the bitmap');
    const { iova, data, page_size: pageSize } = cmd;
    const last = iova + BigInt.asUintN(64, cmd.length - 1n);
    const bitmap = new IovaBitmap(task.mm, data, iova, last - iova + 1n, ctz(pageSize));
    const noClear = (cmd.flags & IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR) !== 0;
    const gather = new IotlbGather();
    reading(table.iovaLock, () => {
      for (const area of leadingAreas(table.areas.first(iova, iova), last, (a) =>
        table.areas.next(a, iova, last),
      )) {
        const { start, frames } = framesOf(area, iova, last);
        const error = dirty.readAndClear(
          start,
          frames,
          noClear ? DIRTY_NO_CLEAR : 0,
          gather,
          (frame, count) => bitmap.set(frame, count),
        );
        if (error) break;
      }
    });
    bitmap.flush();
    if (!noClear) hwpt.domain.iotlbSync(gather);
  });
}

/** The areas from `first` on that follow each other without a gap, up to `last`. */
function* leadingAreas(
  first: Area | undefined,
  last: bigint,
  next: (area: Area) => Area | undefined,
): IterableIterator<Area> {
  for (let area = first; area;) {
    yield area;
    if (area.last >= last) return;
    const following = next(area);
    area = following?.start === area.last + 1n ? following : undefined;
  }
}
