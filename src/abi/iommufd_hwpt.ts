// SPDX-License-Identifier: Apache-2.0
/** iommufd.h, hardware page tables: allocation, dirty tracking, invalidation. Source: Linux 7.2 iommufd.h. */
import { ioctlNumber } from './ioctl.ts';
import {
  IOMMUFD_CMD_HWPT_ALLOC,
  IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP,
  IOMMUFD_CMD_HWPT_INVALIDATE,
  IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING,
  IOMMUFD_TYPE,
} from './iommufd_cmd.ts';
import {
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
} from './iommufd_test_types.ts';
import { array, flagsOf, hex, id, oneOf, pointer, reserved, struct, u32, u64 } from './struct.ts';

export const iommufd_hwpt_alloc_flags = {
  IOMMU_HWPT_ALLOC_NEST_PARENT: 1 << 0,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING: 1 << 1,
  IOMMU_HWPT_FAULT_ID_VALID: 1 << 2,
  IOMMU_HWPT_ALLOC_PASID: 1 << 3,
} as const;
export const {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_HWPT_ALLOC_PASID,
} = iommufd_hwpt_alloc_flags;

export const iommu_hwpt_vtd_s1_flags = {
  IOMMU_VTD_S1_SRE: 1 << 0,
  IOMMU_VTD_S1_EAFE: 1 << 1,
  IOMMU_VTD_S1_WPE: 1 << 2,
} as const;
export const { IOMMU_VTD_S1_SRE, IOMMU_VTD_S1_EAFE, IOMMU_VTD_S1_WPE } = iommu_hwpt_vtd_s1_flags;

export const iommu_hwpt_vtd_s1 = struct('iommu_hwpt_vtd_s1', {
  flags: flagsOf(u64, iommu_hwpt_vtd_s1_flags),
  pgtbl_addr: hex(u64),
  addr_width: u32,
  __reserved: reserved(u32),
});

/** The first two doublewords of a stream table entry, little endian. */
export const iommu_hwpt_arm_smmuv3 = struct('iommu_hwpt_arm_smmuv3', {
  ste: array(hex(u64), 2),
});

/** A guest's device table entry. */
export const iommu_hwpt_amd_guest = struct('iommu_hwpt_amd_guest', {
  dte: array(hex(u64), 4),
});

export const iommu_hwpt_data_type = {
  IOMMU_HWPT_DATA_NONE: 0,
  IOMMU_HWPT_DATA_VTD_S1: 1,
  IOMMU_HWPT_DATA_ARM_SMMUV3: 2,
  IOMMU_HWPT_DATA_AMD_GUEST: 3,
} as const;
export const {
  IOMMU_HWPT_DATA_NONE,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_DATA_ARM_SMMUV3,
  IOMMU_HWPT_DATA_AMD_GUEST,
} = iommu_hwpt_data_type;

/** `data_uptr` points to `data_len` bytes, laid out as `data_type` says. */
export const iommu_hwpt_alloc = struct('iommu_hwpt_alloc', {
  size: u32,
  flags: flagsOf(u32, iommufd_hwpt_alloc_flags),
  dev_id: id,
  pt_id: id,
  out_hwpt_id: id,
  __reserved: reserved(u32),
  data_type: oneOf(u32, { ...iommu_hwpt_data_type, IOMMU_HWPT_DATA_SELFTEST }),
  data_len: u32,
  data_uptr: pointer,
  fault_id: id,
  __reserved2: reserved(u32),
});
export const IOMMU_HWPT_ALLOC = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_ALLOC);

export const iommufd_hwpt_set_dirty_tracking_flags = {
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE: 1,
} as const;
export const { IOMMU_HWPT_DIRTY_TRACKING_ENABLE } = iommufd_hwpt_set_dirty_tracking_flags;

export const iommu_hwpt_set_dirty_tracking = struct('iommu_hwpt_set_dirty_tracking', {
  size: u32,
  flags: flagsOf(u32, iommufd_hwpt_set_dirty_tracking_flags),
  hwpt_id: id,
  __reserved: reserved(u32),
});
export const IOMMU_HWPT_SET_DIRTY_TRACKING = ioctlNumber(
  IOMMUFD_TYPE,
  IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING,
);

export const iommufd_hwpt_get_dirty_bitmap_flags = {
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR: 1,
} as const;
export const { IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR } = iommufd_hwpt_get_dirty_bitmap_flags;

/** `data` points to the bitmap: one bit for each `page_size` bytes from `iova` on. */
export const iommu_hwpt_get_dirty_bitmap = struct('iommu_hwpt_get_dirty_bitmap', {
  size: u32,
  hwpt_id: id,
  flags: flagsOf(u32, iommufd_hwpt_get_dirty_bitmap_flags),
  __reserved: reserved(u32),
  iova: hex(u64),
  length: hex(u64),
  page_size: hex(u64),
  data: pointer,
});
export const IOMMU_HWPT_GET_DIRTY_BITMAP = ioctlNumber(
  IOMMUFD_TYPE,
  IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP,
);

export const iommu_hwpt_invalidate_data_type = {
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1: 0,
  IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: 1,
} as const;
export const { IOMMU_HWPT_INVALIDATE_DATA_VTD_S1, IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 } =
  iommu_hwpt_invalidate_data_type;

export const iommu_hwpt_vtd_s1_invalidate_flags = {
  IOMMU_VTD_INV_FLAGS_LEAF: 1 << 0,
} as const;
export const { IOMMU_VTD_INV_FLAGS_LEAF } = iommu_hwpt_vtd_s1_invalidate_flags;

export const iommu_hwpt_vtd_s1_invalidate = struct('iommu_hwpt_vtd_s1_invalidate', {
  addr: hex(u64),
  npages: u64,
  flags: flagsOf(u32, iommu_hwpt_vtd_s1_invalidate_flags),
  __reserved: reserved(u32),
});

/** One command of the SMMU's queue, little endian. */
export const iommu_viommu_arm_smmuv3_invalidate = struct('iommu_viommu_arm_smmuv3_invalidate', {
  cmd: array(hex(u64), 2),
});

/** `data_uptr` points to `entry_num` entries of `entry_len` bytes; `entry_num` returns how many were handled. */
export const iommu_hwpt_invalidate = struct('iommu_hwpt_invalidate', {
  size: u32,
  hwpt_id: id,
  data_uptr: pointer,
  data_type: oneOf(u32, {
    ...iommu_hwpt_invalidate_data_type,
    IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
  }),
  entry_len: u32,
  entry_num: u32,
  __reserved: reserved(u32),
});
export const IOMMU_HWPT_INVALIDATE = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_HWPT_INVALIDATE);
