// SPDX-License-Identifier: Apache-2.0
/** What a guest asks its hardware to forget, read from what its client has handed over. */
import {
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  iommu_hwpt_vtd_s1_invalidate,
  IOMMU_VTD_INV_FLAGS_LEAF,
} from '../abi/iommufd.ts';
import type { GuestRequest } from './guest_translations.ts';
import { hex } from './stale_expectation.ts';

const PAGES_OF_ALL = 2 ** 52;
const PAGE_BYTES = 0x1000n;

/** Requests that can be read; what is of another type asks for nothing that is known here. */
export function guestRequests(type: number, entries: readonly Uint8Array[]): GuestRequest[] {
  if (type !== IOMMU_HWPT_INVALIDATE_DATA_VTD_S1) return [];
  return entries.flatMap((bytes) => {
    if (bytes.length < iommu_hwpt_vtd_s1_invalidate.size) return [];
    const { addr, npages, flags } = iommu_hwpt_vtd_s1_invalidate.on(
      new DataView(bytes.buffer, bytes.byteOffset),
    );
    if (npages === 0n) return [];
    const first = Number(addr / PAGE_BYTES);
    const end = first + Number(npages);
    const last = end >= PAGES_OF_ALL ? Infinity : end - 1;
    return { first, last, leavesOnly: (flags & IOMMU_VTD_INV_FLAGS_LEAF) !== 0 };
  });
}

/** `0x200000-0x200fff` */
export function rangeText({ first, last }: GuestRequest): string {
  const bytes = (page: number): string => hex(BigInt(page) * PAGE_BYTES);
  if (last === Infinity) return first === 0 ? 'everything' : `everything from ${bytes(first)} on`;
  return `${bytes(first)}-${hex(BigInt(last + 1) * PAGE_BYTES - 1n)}`;
}
