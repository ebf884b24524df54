// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import { FRAME_SIZE } from '../memory/frame.ts';
import { isBadPage } from '../memory/client_memory.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import type { Call } from './call.ts';
import { HwptPaging } from './hw_pagetable.ts';
import { hex, IOVA_LAST } from './iova.ts';
import type { TestCall } from './selftest.ts';
import type { TestPaging } from './test_hardware.ts';

const PAGE = BigInt(PAGE_SIZE);

/** IOMMU_TEST_OP_ADD_RESERVED: reserves a range until the address space ends. */
export function addReserved({ call, cmd, arg: { start, length } }: TestCall<'add_reserved'>): void {
  if (length === 0n) throw new ErrnoError('EINVAL', 'length is 0');
  const last = start + length - 1n;
  if (last > IOVA_LAST)
    throw new ErrnoError('EOVERFLOW', `start ${hex(start)} + length ${hex(length)} exceeds 2^64`);
  call.context.withIoas(cmd.id, ({ table }) => table.reserve(start, last, undefined));
}

/** Linux's own memory limit for batches: it must hold one element. */
const LEAST_LIMIT = 12;

/** IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT: Linux cuts its batches smaller, with no change in results. We have no batches. */
export function memoryLimit({ arg: { limit } }: TestCall<'memory_limit'>): void {
  if (limit < LEAST_LIMIT)
    throw new ErrnoError('EINVAL', `limit ${limit} is less than ${LEAST_LIMIT}`);
}

/** The frame under a page of the caller; throws EFAULT. */
function frameAt(call: Call<unknown>, address: bigint): number {
  const found = call.context.iommufd.memory.lookup(call.task.mm, address, 1, false);
  if (isBadPage(found))
    throw new ErrnoError('EFAULT', `the page at ${hex(address)} is ${found.reason}`);
  return found[0]?.frame ?? 0;
}

/** IOMMU_TEST_OP_MD_CHECK_REFS: the pages at `uptr` are each pinned `refs` times, else EIO. */
export function checkRefs({ call, arg: { uptr, length, refs } }: TestCall<'check_refs'>): void {
  if (length % PAGE || uptr % PAGE || uptr + length > IOVA_LAST) {
    throw new ErrnoError(
      'EINVAL',
      `uptr ${hex(uptr)} or length ${hex(length)} is not aligned to pages`,
    );
  }
  for (let at = uptr; at < uptr + length; at += PAGE) {
    const pins = call.context.iommufd.memory.pinsOf(frameAt(call, at));
    if (pins !== refs)
      throw new ErrnoError('EIO', `the page at ${hex(at)} is pinned ${pins} times, not ${refs}`);
  }
}

/** Runs `body` with a table of the test driver; throws ENOENT, or EINVAL for another driver's. */
export function withMockPaging<R>(
  call: Call<unknown>,
  id: number,
  body: (table: { readonly hwpt: HwptPaging; readonly mock: TestPaging }) => R,
): R {
  return call.context.withObject(id, HwptPaging, 'a hardware page table', (hwpt) => {
    const mock = call.context.iommufd.testHardware?.paging(hwpt.domain);
    if (!mock) throw new ErrnoError('EINVAL', `hardware page table ${id} is not the test driver's`);
    return body({ hwpt, mock });
  });
}

/** IOMMU_TEST_OP_MD_CHECK_MAP: the domain translates `[iova, iova + length)` to the pages at `uptr`, else EINVAL. */
export function checkMap({ call, cmd, arg: { iova, length, uptr } }: TestCall<'check_map'>): void {
  withMockPaging(call, cmd.id, ({ hwpt: { domain } }) => {
    const granule = domain.pgsizeBitmap & -domain.pgsizeBitmap;
    if (iova % granule || length % granule || uptr % granule || uptr + length > IOVA_LAST) {
      throw new ErrnoError('EINVAL', `iova, length or uptr is not aligned to ${hex(granule)}`);
    }
    for (let done = 0n; done < length; done += granule) {
      const address = uptr + done;
      const offset = address % PAGE;
      const want = BigInt(frameAt(call, address - offset)) * BigInt(FRAME_SIZE) + offset;
      if (domain.iovaToPhys(iova + done) === want) continue;
      const where = `the page at ${hex(address)}`;
      throw new ErrnoError('EINVAL', `iova ${hex(iova + done)} does not translate to ${where}`);
    }
  });
}
