// SPDX-License-Identifier: Apache-2.0
/** iommufd.h, what a device's IOMMU can do. Source: Linux 7.2 include/uapi/linux/iommufd.h. */
import { ioctlNumber } from './ioctl.ts';
import { IOMMUFD_CMD_GET_HW_INFO, IOMMUFD_TYPE } from './iommufd_cmd.ts';
import { IOMMU_HW_INFO_TYPE_SELFTEST } from './iommufd_test_types.ts';
import {
  array,
  flagsOf,
  hex,
  id,
  oneOf,
  pointer,
  reserved,
  struct,
  u8,
  u32,
  u64,
  union,
} from './struct.ts';

export const iommu_hw_info_vtd_flags = {
  IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17: 1 << 0,
} as const;
export const { IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 } = iommu_hw_info_vtd_flags;

export const iommu_hw_info_vtd = struct('iommu_hw_info_vtd', {
  flags: flagsOf(u32, iommu_hw_info_vtd_flags),
  __reserved: reserved(u32),
  cap_reg: hex(u64),
  ecap_reg: hex(u64),
});

export const iommu_hw_info_arm_smmuv3 = struct('iommu_hw_info_arm_smmuv3', {
  flags: flagsOf(u32, {}),
  __reserved: reserved(u32),
  idr: array(hex(u32), 6),
  iidr: hex(u32),
  aidr: hex(u32),
});

export const iommu_hw_info_tegra241_cmdqv = struct('iommu_hw_info_tegra241_cmdqv', {
  flags: flagsOf(u32, {}),
  version: u8,
  log2vcmdqs: u8,
  log2vsids: u8,
  __reserved: reserved(u8),
});

export const iommu_hw_info_amd = struct('iommu_hw_info_amd', {
  efr: hex(u64),
  efr2: hex(u64),
});

/** DEFAULT (on input: "what the device has") and NONE (on output) are both 0. */
export const iommu_hw_info_type = {
  IOMMU_HW_INFO_TYPE_NONE: 0,
  IOMMU_HW_INFO_TYPE_DEFAULT: 0,
  IOMMU_HW_INFO_TYPE_INTEL_VTD: 1,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3: 2,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV: 3,
  IOMMU_HW_INFO_TYPE_AMD: 4,
} as const;
export const {
  IOMMU_HW_INFO_TYPE_NONE,
  IOMMU_HW_INFO_TYPE_DEFAULT,
  IOMMU_HW_INFO_TYPE_INTEL_VTD,
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
  IOMMU_HW_INFO_TYPE_AMD,
} = iommu_hw_info_type;

export const iommufd_hw_capabilities = {
  IOMMU_HW_CAP_DIRTY_TRACKING: 1 << 0,
  IOMMU_HW_CAP_PCI_PASID_EXEC: 1 << 1,
  IOMMU_HW_CAP_PCI_PASID_PRIV: 1 << 2,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED: 1 << 3,
} as const;
export const {
  IOMMU_HW_CAP_DIRTY_TRACKING,
  IOMMU_HW_CAP_PCI_PASID_EXEC,
  IOMMU_HW_CAP_PCI_PASID_PRIV,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
} = iommufd_hw_capabilities;

export const iommufd_hw_info_flags = {
  IOMMU_HW_INFO_FLAG_INPUT_TYPE: 1 << 0,
} as const;
export const { IOMMU_HW_INFO_FLAG_INPUT_TYPE } = iommufd_hw_info_flags;

const type = oneOf(u32, { ...iommu_hw_info_type, IOMMU_HW_INFO_TYPE_SELFTEST });

/** `u` is C's anonymous union: the type that is asked for, then the type that was returned. */
export const iommu_hw_info = struct('iommu_hw_info', {
  size: u32,
  flags: flagsOf(u32, iommufd_hw_info_flags),
  dev_id: id,
  data_len: u32,
  data_uptr: pointer,
  u: union('', { in_data_type: type, out_data_type: type }),
  out_max_pasid_log2: u8,
  __reserved: reserved(array(u8, 3)),
  out_capabilities: flagsOf(u64, iommufd_hw_capabilities),
});
export const IOMMU_GET_HW_INFO = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_GET_HW_INFO);
