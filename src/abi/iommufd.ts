// SPDX-License-Identifier: Apache-2.0
/**
 * Linux 7.2 include/uapi/linux/iommufd.h: the ioctls of `/dev/iommu`. Names are the kernel's; values are compared
 * with the real header by `abi.test.ts`. The structures of address spaces, page tables (HWPT), faults and virtual
 * IOMMUs are in files of their own and exported from here.
 */
import { ioctlNumber } from './ioctl.ts';
import { id, oneOf, reserved, struct, u16, u32, u64 } from './struct.ts';
import {
  IOMMUFD_TYPE,
  IOMMUFD_CMD_DESTROY,
  IOMMUFD_CMD_OPTION,
  IOMMUFD_CMD_VFIO_IOAS,
} from './iommufd_cmd.ts';

export * from './iommufd_cmd.ts';
export * from './iommufd_ioas.ts';
export * from './iommufd_hwpt.ts';
export * from './iommufd_hw_info.ts';
export * from './iommufd_fault.ts';
export * from './iommufd_viommu.ts';

export const iommu_destroy = struct('iommu_destroy', {
  size: u32,
  id: id,
});
export const IOMMU_DESTROY = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_DESTROY);

export const iommufd_option = {
  IOMMU_OPTION_RLIMIT_MODE: 0,
  IOMMU_OPTION_HUGE_PAGES: 1,
} as const;
export const { IOMMU_OPTION_RLIMIT_MODE, IOMMU_OPTION_HUGE_PAGES } = iommufd_option;

export const iommufd_option_ops = {
  IOMMU_OPTION_OP_SET: 0,
  IOMMU_OPTION_OP_GET: 1,
} as const;
export const { IOMMU_OPTION_OP_SET, IOMMU_OPTION_OP_GET } = iommufd_option_ops;

export const iommu_option = struct('iommu_option', {
  size: u32,
  option_id: oneOf(u32, iommufd_option),
  op: oneOf(u16, iommufd_option_ops),
  __reserved: reserved(u16),
  object_id: id,
  val64: u64,
});
export const IOMMU_OPTION = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_OPTION);

export const iommufd_vfio_ioas_op = {
  IOMMU_VFIO_IOAS_GET: 0,
  IOMMU_VFIO_IOAS_SET: 1,
  IOMMU_VFIO_IOAS_CLEAR: 2,
} as const;
export const { IOMMU_VFIO_IOAS_GET, IOMMU_VFIO_IOAS_SET, IOMMU_VFIO_IOAS_CLEAR } =
  iommufd_vfio_ioas_op;

export const iommu_vfio_ioas = struct('iommu_vfio_ioas', {
  size: u32,
  ioas_id: id,
  op: oneOf(u16, iommufd_vfio_ioas_op),
  __reserved: reserved(u16),
});
export const IOMMU_VFIO_IOAS = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_VFIO_IOAS);
