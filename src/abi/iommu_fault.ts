// SPDX-License-Identifier: Apache-2.0
/**
 * Fault records of the guest-translation interface of 2018-2020, 64 bytes each (C14). Source: Linux 5.10 include/uapi/linux/iommu.h
 * (unverified); no kernel of today has it.
 */
import { flagsOf, hex, oneOf, reserved, struct, u32, u64 } from './struct.ts';

export const iommu_fault_type = { IOMMU_FAULT_DMA_UNRECOV: 1, IOMMU_FAULT_PAGE_REQ: 2 } as const;
export const { IOMMU_FAULT_DMA_UNRECOV, IOMMU_FAULT_PAGE_REQ } = iommu_fault_type;

export const iommu_fault_perm = {
  IOMMU_FAULT_PERM_READ: 1 << 0,
  IOMMU_FAULT_PERM_WRITE: 1 << 1,
  IOMMU_FAULT_PERM_EXEC: 1 << 2,
  IOMMU_FAULT_PERM_PRIV: 1 << 3,
} as const;

export const iommu_fault_reason = {
  IOMMU_FAULT_REASON_UNKNOWN: 0,
  /** The PASID table or its entry could not be fetched. */
  IOMMU_FAULT_REASON_PASID_FETCH: 1,
  IOMMU_FAULT_REASON_BAD_PASID_ENTRY: 2,
  /** Beyond the table. */
  IOMMU_FAULT_REASON_PASID_INVALID: 3,
  /** A walk was aborted from outside. */
  IOMMU_FAULT_REASON_WALK_EABT: 4,
  /** No valid item on the way. */
  IOMMU_FAULT_REASON_PTE_FETCH: 5,
  IOMMU_FAULT_REASON_PERMISSION: 6,
  /** The access flag is clear. */
  IOMMU_FAULT_REASON_ACCESS: 7,
  IOMMU_FAULT_REASON_OOR_ADDRESS: 8,
} as const;

export const iommu_fault_unrecoverable_flags = {
  IOMMU_FAULT_UNRECOV_PASID_VALID: 1 << 0,
  IOMMU_FAULT_UNRECOV_ADDR_VALID: 1 << 1,
  IOMMU_FAULT_UNRECOV_FETCH_ADDR_VALID: 1 << 2,
} as const;

export const iommu_fault_page_request_flags = {
  IOMMU_FAULT_PAGE_REQUEST_PASID_VALID: 1 << 0,
  IOMMU_FAULT_PAGE_REQUEST_LAST_PAGE: 1 << 1,
  IOMMU_FAULT_PAGE_REQUEST_PRIV_DATA: 1 << 2,
} as const;

/** How a record begins; its part for the type follows at {@link IOMMU_FAULT_PART}. */
export const iommu_fault_header = struct('iommu_fault', {
  type: oneOf(u32, iommu_fault_type),
  padding: reserved(u32),
});

export const iommu_fault_unrecoverable = struct('iommu_fault_unrecoverable', {
  reason: oneOf(u32, iommu_fault_reason),
  flags: flagsOf(u32, iommu_fault_unrecoverable_flags),
  pasid: u32,
  perm: flagsOf(u32, iommu_fault_perm),
  addr: hex(u64),
  fetch_addr: hex(u64),
});

export const iommu_fault_page_request = struct('iommu_fault_page_request', {
  flags: flagsOf(u32, iommu_fault_page_request_flags),
  pasid: u32,
  grpid: u32,
  perm: flagsOf(u32, iommu_fault_perm),
  addr: hex(u64),
  /** `private_data[2]` in C. */
  private_data_low: hex(u64),
  private_data_high: hex(u64),
});

/** Where the union of the parts begins; it has room for 56 bytes. */
export const IOMMU_FAULT_PART = 8;
export const IOMMU_FAULT_BYTES = 64;
