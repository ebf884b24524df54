// SPDX-License-Identifier: Apache-2.0
/** iommufd.h, page faults that user space answers. Source: Linux 7.2 include/uapi/linux/iommufd.h. */
import { ioctlNumber } from './ioctl.ts';
import { IOMMUFD_CMD_FAULT_QUEUE_ALLOC, IOMMUFD_TYPE } from './iommufd_cmd.ts';
import { fd, flagsOf, hex, id, oneOf, reserved, struct, u32, u64 } from './struct.ts';

export const iommu_hwpt_pgfault_flags = {
  IOMMU_PGFAULT_FLAGS_PASID_VALID: 1 << 0,
  IOMMU_PGFAULT_FLAGS_LAST_PAGE: 1 << 1,
} as const;
export const { IOMMU_PGFAULT_FLAGS_PASID_VALID, IOMMU_PGFAULT_FLAGS_LAST_PAGE } =
  iommu_hwpt_pgfault_flags;

export const iommu_hwpt_pgfault_perm = {
  IOMMU_PGFAULT_PERM_READ: 1 << 0,
  IOMMU_PGFAULT_PERM_WRITE: 1 << 1,
  IOMMU_PGFAULT_PERM_EXEC: 1 << 2,
  IOMMU_PGFAULT_PERM_PRIV: 1 << 3,
} as const;
export const {
  IOMMU_PGFAULT_PERM_READ,
  IOMMU_PGFAULT_PERM_WRITE,
  IOMMU_PGFAULT_PERM_EXEC,
  IOMMU_PGFAULT_PERM_PRIV,
} = iommu_hwpt_pgfault_perm;

/** What a read of a fault queue returns, one for each fault. */
export const iommu_hwpt_pgfault = struct('iommu_hwpt_pgfault', {
  flags: flagsOf(u32, iommu_hwpt_pgfault_flags),
  dev_id: id,
  pasid: u32,
  grpid: u32,
  perm: flagsOf(u32, iommu_hwpt_pgfault_perm),
  __reserved: reserved(u32),
  addr: hex(u64),
  length: u32,
  cookie: u32,
});

export const iommufd_page_response_code = {
  IOMMUFD_PAGE_RESP_SUCCESS: 0,
  IOMMUFD_PAGE_RESP_INVALID: 1,
} as const;
export const { IOMMUFD_PAGE_RESP_SUCCESS, IOMMUFD_PAGE_RESP_INVALID } = iommufd_page_response_code;

/** What is written to a fault queue, one for each group of faults. */
export const iommu_hwpt_page_response = struct('iommu_hwpt_page_response', {
  cookie: u32,
  code: oneOf(u32, iommufd_page_response_code),
});

export const iommu_fault_alloc = struct('iommu_fault_alloc', {
  size: u32,
  flags: flagsOf(u32, {}),
  out_fault_id: id,
  out_fault_fd: fd,
});
export const IOMMU_FAULT_QUEUE_ALLOC = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_FAULT_QUEUE_ALLOC);
