// SPDX-License-Identifier: Apache-2.0
/**
 * Linux 7.2 include/uapi/linux/vfio.h: the part of its type 1 interface that `/dev/iommu` also answers, and, in files of
 * their own and exported from here, the ioctls of devices. A flexible array at the end of a structure is an array of
 * length 0, which counts for the alignment and not for the size, as in C.
 */
import { ioctlNumber } from './ioctl.ts';
import { array, flagsOf, hex, pointer, reserved, struct, u8, u32, u64 } from './struct.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio_cmd.ts';
import { vfio_info_cap_header } from './vfio_info_cap.ts';

export * from './vfio_cmd.ts';
export * from './vfio_cdev.ts';
export * from './vfio_device.ts';
export * from './vfio_feature.ts';
export * from './vfio_group.ts';
export * from './vfio_info_cap.ts';
export * from './vfio_irq.ts';
export * from './vfio_region.ts';
export * from './vfio_reset.ts';

export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_SPAPR_TCE_IOMMU = 2;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_DMA_CC_IOMMU = 4;
export const VFIO_EEH = 5;
export const __VFIO_RESERVED_TYPE1_NESTING_IOMMU = 6;
export const VFIO_SPAPR_TCE_v2_IOMMU = 7;
export const VFIO_NOIOMMU_IOMMU = 8;
export const VFIO_UNMAP_ALL = 9;
export const VFIO_UPDATE_VADDR = 10;

/** What CHECK_EXTENSION and SET_IOMMU take as a plain argument; the kernel gives this set no name. */
export const vfio_extension = {
  VFIO_TYPE1_IOMMU,
  VFIO_SPAPR_TCE_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VFIO_DMA_CC_IOMMU,
  VFIO_EEH,
  __VFIO_RESERVED_TYPE1_NESTING_IOMMU,
  VFIO_SPAPR_TCE_v2_IOMMU,
  VFIO_NOIOMMU_IOMMU,
  VFIO_UNMAP_ALL,
  VFIO_UPDATE_VADDR,
} as const;

export const VFIO_GET_API_VERSION = ioctlNumber(VFIO_TYPE, VFIO_BASE + 0);
export const VFIO_CHECK_EXTENSION = ioctlNumber(VFIO_TYPE, VFIO_BASE + 1);
export const VFIO_SET_IOMMU = ioctlNumber(VFIO_TYPE, VFIO_BASE + 2);

export const VFIO_IOMMU_INFO_PGSIZES = 1 << 0;
export const VFIO_IOMMU_INFO_CAPS = 1 << 1;

/** `iova_pgsizes` has bit n set for pages of 2^n bytes. */
export const vfio_iommu_type1_info = struct('vfio_iommu_type1_info', {
  argsz: u32,
  flags: flagsOf(u32, { VFIO_IOMMU_INFO_PGSIZES, VFIO_IOMMU_INFO_CAPS }),
  iova_pgsizes: hex(u64),
  cap_offset: hex(u32),
  pad: reserved(u32),
});
export const VFIO_IOMMU_GET_INFO = ioctlNumber(VFIO_TYPE, VFIO_BASE + 12);

/** Both ends belong to the range. */
export const vfio_iova_range = struct('vfio_iova_range', {
  start: hex(u64),
  end: hex(u64),
});

/** Followed by `nr_iovas` of {@link vfio_iova_range}. */
export const vfio_iommu_type1_info_cap_iova_range = struct('vfio_iommu_type1_info_cap_iova_range', {
  header: vfio_info_cap_header,
  nr_iovas: u32,
  reserved: reserved(u32),
  iova_ranges: array(vfio_iova_range, 0),
});

export const vfio_iommu_type1_info_cap_migration = struct('vfio_iommu_type1_info_cap_migration', {
  header: vfio_info_cap_header,
  flags: flagsOf(u32, {}),
  pgsize_bitmap: hex(u64),
  max_dirty_bitmap_size: u64,
});

export const vfio_iommu_type1_info_dma_avail = struct('vfio_iommu_type1_info_dma_avail', {
  header: vfio_info_cap_header,
  avail: u32,
});

export const VFIO_DMA_MAP_FLAG_READ = 1 << 0;
export const VFIO_DMA_MAP_FLAG_WRITE = 1 << 1;
export const VFIO_DMA_MAP_FLAG_VADDR = 1 << 2;

export const vfio_iommu_type1_dma_map = struct('vfio_iommu_type1_dma_map', {
  argsz: u32,
  flags: flagsOf(u32, { VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_MAP_FLAG_VADDR }),
  vaddr: pointer,
  iova: hex(u64),
  size: hex(u64),
});
export const VFIO_IOMMU_MAP_DMA = ioctlNumber(VFIO_TYPE, VFIO_BASE + 13);

/** `data` points to `size` bytes: one bit for each `pgsize` bytes. */
export const vfio_bitmap = struct('vfio_bitmap', {
  pgsize: hex(u64),
  size: hex(u64),
  data: pointer,
});

export const VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1 << 0;
export const VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1;
export const VFIO_DMA_UNMAP_FLAG_VADDR = 1 << 2;

/** With VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP (which iommufd refuses) a {@link vfio_bitmap} follows. */
export const vfio_iommu_type1_dma_unmap = struct('vfio_iommu_type1_dma_unmap', {
  argsz: u32,
  flags: flagsOf(u32, {
    VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
    VFIO_DMA_UNMAP_FLAG_ALL,
    VFIO_DMA_UNMAP_FLAG_VADDR,
  }),
  iova: hex(u64),
  size: hex(u64),
  data: array(u8, 0),
});
export const VFIO_IOMMU_UNMAP_DMA = ioctlNumber(VFIO_TYPE, VFIO_BASE + 14);

export const VFIO_IOMMU_ENABLE = ioctlNumber(VFIO_TYPE, VFIO_BASE + 15);
export const VFIO_IOMMU_DISABLE = ioctlNumber(VFIO_TYPE, VFIO_BASE + 16);

export const VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1 << 0;
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 1 << 1;
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 1 << 2;

/** With the GET_BITMAP flag a {@link vfio_iommu_type1_dirty_bitmap_get} follows. */
export const vfio_iommu_type1_dirty_bitmap = struct('vfio_iommu_type1_dirty_bitmap', {
  argsz: u32,
  flags: flagsOf(u32, {
    VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
  }),
  data: array(u8, 0),
});

export const vfio_iommu_type1_dirty_bitmap_get = struct('vfio_iommu_type1_dirty_bitmap_get', {
  iova: hex(u64),
  size: hex(u64),
  bitmap: vfio_bitmap,
});
export const VFIO_IOMMU_DIRTY_PAGES = ioctlNumber(VFIO_TYPE, VFIO_BASE + 17);
