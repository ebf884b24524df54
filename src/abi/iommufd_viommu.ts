// SPDX-License-Identifier: Apache-2.0
/** iommufd.h, virtual IOMMUs, their devices, events and queues. Source: Linux 7.2 include/uapi/linux/iommufd.h. */
import { ioctlNumber } from './ioctl.ts';
import {
  IOMMUFD_CMD_HW_QUEUE_ALLOC,
  IOMMUFD_CMD_VDEVICE_ALLOC,
  IOMMUFD_CMD_VEVENTQ_ALLOC,
  IOMMUFD_CMD_VIOMMU_ALLOC,
  IOMMUFD_TYPE,
} from './iommufd_cmd.ts';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
} from './iommufd_test_types.ts';
import {
  array,
  fd,
  flagsOf,
  hex,
  id,
  oneOf,
  pointer,
  reserved,
  struct,
  u32,
  u64,
} from './struct.ts';

export const iommu_viommu_type = {
  IOMMU_VIOMMU_TYPE_DEFAULT: 0,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3: 1,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: 2,
} as const;
export const {
  IOMMU_VIOMMU_TYPE_DEFAULT,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
} = iommu_viommu_type;

/** Offset and length, in bytes, for an mmap of the iommufd descriptor. */
export const iommu_viommu_tegra241_cmdqv = struct('iommu_viommu_tegra241_cmdqv', {
  out_vintf_mmap_offset: hex(u64),
  out_vintf_mmap_length: hex(u64),
});

/** `data_uptr` points to `data_len` bytes, laid out as `type` says. */
export const iommu_viommu_alloc = struct('iommu_viommu_alloc', {
  size: u32,
  flags: flagsOf(u32, {}),
  type: oneOf(u32, { ...iommu_viommu_type, IOMMU_VIOMMU_TYPE_SELFTEST }),
  dev_id: id,
  hwpt_id: id,
  out_viommu_id: id,
  data_len: u32,
  __reserved: reserved(u32),
  data_uptr: pointer,
});
export const IOMMU_VIOMMU_ALLOC = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_VIOMMU_ALLOC);

/** `virt_id` is what the guest calls the device: a stream id, a device id or a requester id. */
export const iommu_vdevice_alloc = struct('iommu_vdevice_alloc', {
  size: u32,
  viommu_id: id,
  dev_id: id,
  out_vdevice_id: id,
  virt_id: hex(u64),
});
export const IOMMU_VDEVICE_ALLOC = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_VDEVICE_ALLOC);

export const iommu_veventq_flag = {
  IOMMU_VEVENTQ_FLAG_LOST_EVENTS: 1 << 0,
} as const;
export const { IOMMU_VEVENTQ_FLAG_LOST_EVENTS } = iommu_veventq_flag;

/** Precedes each event that is read from a queue; `sequence` counts from 0 and wraps after 2^31-1. */
export const iommufd_vevent_header = struct('iommufd_vevent_header', {
  flags: flagsOf(u32, iommu_veventq_flag),
  sequence: u32,
});

export const iommu_veventq_type = {
  IOMMU_VEVENTQ_TYPE_DEFAULT: 0,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3: 1,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV: 2,
} as const;
export const {
  IOMMU_VEVENTQ_TYPE_DEFAULT,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
} = iommu_veventq_type;

/** One 256-bit event record of the SMMU, little endian. */
export const iommu_vevent_arm_smmuv3 = struct('iommu_vevent_arm_smmuv3', {
  evt: array(hex(u64), 4),
});

export const iommu_vevent_tegra241_cmdqv = struct('iommu_vevent_tegra241_cmdqv', {
  lvcmdq_err_map: array(hex(u64), 2),
});

export const iommu_veventq_alloc = struct('iommu_veventq_alloc', {
  size: u32,
  flags: flagsOf(u32, {}),
  viommu_id: id,
  type: oneOf(u32, { ...iommu_veventq_type, IOMMU_VEVENTQ_TYPE_SELFTEST }),
  veventq_depth: u32,
  out_veventq_id: id,
  out_veventq_fd: fd,
  __reserved: reserved(u32),
});
export const IOMMU_VEVENTQ_ALLOC = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_VEVENTQ_ALLOC);

export const iommu_hw_queue_type = {
  IOMMU_HW_QUEUE_TYPE_DEFAULT: 0,
  IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV: 1,
} as const;
export const { IOMMU_HW_QUEUE_TYPE_DEFAULT, IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV } =
  iommu_hw_queue_type;

export const iommu_hw_queue_alloc = struct('iommu_hw_queue_alloc', {
  size: u32,
  flags: flagsOf(u32, {}),
  viommu_id: id,
  type: oneOf(u32, { ...iommu_hw_queue_type, IOMMU_HW_QUEUE_TYPE_SELFTEST }),
  index: u32,
  out_hw_queue_id: id,
  nesting_parent_iova: hex(u64),
  length: hex(u64),
});
export const IOMMU_HW_QUEUE_ALLOC = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_HW_QUEUE_ALLOC);
