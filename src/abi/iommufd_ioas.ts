// SPDX-License-Identifier: Apache-2.0
/** iommufd.h, I/O address spaces. Source: Linux 7.2 include/uapi/linux/iommufd.h. */
import { ioctlNumber } from './ioctl.ts';
import {
  IOMMUFD_CMD_IOAS_ALLOC,
  IOMMUFD_CMD_IOAS_ALLOW_IOVAS,
  IOMMUFD_CMD_IOAS_CHANGE_PROCESS,
  IOMMUFD_CMD_IOAS_COPY,
  IOMMUFD_CMD_IOAS_IOVA_RANGES,
  IOMMUFD_CMD_IOAS_MAP,
  IOMMUFD_CMD_IOAS_MAP_FILE,
  IOMMUFD_CMD_IOAS_UNMAP,
  IOMMUFD_TYPE,
} from './iommufd_cmd.ts';
import { flagsOf, hex, id, pointer, pointerTo, reserved, s32, struct, u32, u64 } from './struct.ts';
import type { CType } from './struct.ts';

/** A descriptor in a signed field. */
const signedFd: CType<number> = { ...s32, show: { as: 'fd' } };

export const iommu_ioas_alloc = struct('iommu_ioas_alloc', {
  size: u32,
  flags: flagsOf(u32, {}),
  out_ioas_id: id,
});
export const IOMMU_IOAS_ALLOC = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOC);

/** Both ends belong to the range. */
export const iommu_iova_range = struct('iommu_iova_range', {
  start: hex(u64),
  last: hex(u64),
});

/** `allowed_iovas` points to `num_iovas` of {@link iommu_iova_range}, written by the kernel. */
export const iommu_ioas_iova_ranges = struct('iommu_ioas_iova_ranges', {
  size: u32,
  ioas_id: id,
  num_iovas: u32,
  __reserved: reserved(u32),
  allowed_iovas: pointerTo(iommu_iova_range, 'num_iovas', 'kernel'),
  out_iova_alignment: hex(u64),
});
export const IOMMU_IOAS_IOVA_RANGES = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_IOVA_RANGES);

/** `allowed_iovas` points to `num_iovas` of {@link iommu_iova_range}, read by the kernel. */
export const iommu_ioas_allow_iovas = struct('iommu_ioas_allow_iovas', {
  size: u32,
  ioas_id: id,
  num_iovas: u32,
  __reserved: reserved(u32),
  allowed_iovas: pointerTo(iommu_iova_range, 'num_iovas', 'program'),
});
export const IOMMU_IOAS_ALLOW_IOVAS = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOW_IOVAS);

/** Flags of MAP, MAP_FILE and COPY. */
export const iommufd_ioas_map_flags = {
  IOMMU_IOAS_MAP_FIXED_IOVA: 1 << 0,
  IOMMU_IOAS_MAP_WRITEABLE: 1 << 1,
  IOMMU_IOAS_MAP_READABLE: 1 << 2,
} as const;
export const { IOMMU_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_WRITEABLE, IOMMU_IOAS_MAP_READABLE } =
  iommufd_ioas_map_flags;

export const iommu_ioas_map = struct('iommu_ioas_map', {
  size: u32,
  flags: flagsOf(u32, iommufd_ioas_map_flags),
  ioas_id: id,
  __reserved: reserved(u32),
  user_va: pointer,
  length: hex(u64),
  iova: hex(u64),
});
export const IOMMU_IOAS_MAP = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP);

/** `start` is a byte offset in the file. */
export const iommu_ioas_map_file = struct('iommu_ioas_map_file', {
  size: u32,
  flags: flagsOf(u32, iommufd_ioas_map_flags),
  ioas_id: id,
  fd: signedFd,
  start: hex(u64),
  length: hex(u64),
  iova: hex(u64),
});
export const IOMMU_IOAS_MAP_FILE = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_MAP_FILE);

export const iommu_ioas_copy = struct('iommu_ioas_copy', {
  size: u32,
  flags: flagsOf(u32, iommufd_ioas_map_flags),
  dst_ioas_id: id,
  src_ioas_id: id,
  length: hex(u64),
  dst_iova: hex(u64),
  src_iova: hex(u64),
});
export const IOMMU_IOAS_COPY = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_COPY);

export const iommu_ioas_unmap = struct('iommu_ioas_unmap', {
  size: u32,
  ioas_id: id,
  iova: hex(u64),
  length: hex(u64),
});
export const IOMMU_IOAS_UNMAP = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_UNMAP);

export const iommu_ioas_change_process = struct('iommu_ioas_change_process', {
  size: u32,
  __reserved: reserved(u32),
});
export const IOMMU_IOAS_CHANGE_PROCESS = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_CHANGE_PROCESS);
