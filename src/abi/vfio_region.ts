// SPDX-License-Identifier: Apache-2.0
/** Regions of a VFIO device: BARs, config space. Source: Linux 7.2 include/uapi/linux/vfio.h. */
import { ioctlNumber } from './ioctl.ts';
import { flagsOf, hex, oneOf, reserved, s32, struct, u32, u64 } from './struct.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio_cmd.ts';

/** Indexes of the regions of a PCI device; those from 9 on are the device's own. */
export const vfio_pci_region = {
  VFIO_PCI_BAR0_REGION_INDEX: 0,
  VFIO_PCI_BAR1_REGION_INDEX: 1,
  VFIO_PCI_BAR2_REGION_INDEX: 2,
  VFIO_PCI_BAR3_REGION_INDEX: 3,
  VFIO_PCI_BAR4_REGION_INDEX: 4,
  VFIO_PCI_BAR5_REGION_INDEX: 5,
  VFIO_PCI_ROM_REGION_INDEX: 6,
  VFIO_PCI_CONFIG_REGION_INDEX: 7,
  VFIO_PCI_VGA_REGION_INDEX: 8,
} as const;
export const {
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_BAR1_REGION_INDEX,
  VFIO_PCI_BAR2_REGION_INDEX,
  VFIO_PCI_BAR3_REGION_INDEX,
  VFIO_PCI_BAR4_REGION_INDEX,
  VFIO_PCI_BAR5_REGION_INDEX,
  VFIO_PCI_ROM_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_VGA_REGION_INDEX,
} = vfio_pci_region;
export const VFIO_PCI_NUM_REGIONS = 9;

export const VFIO_REGION_INFO_FLAG_READ = 1 << 0;
export const VFIO_REGION_INFO_FLAG_WRITE = 1 << 1;
export const VFIO_REGION_INFO_FLAG_MMAP = 1 << 2;
export const VFIO_REGION_INFO_FLAG_CAPS = 1 << 3;

/** `offset` is where the region begins in the device's file; `size` is 0 for a region that is not there. */
export const vfio_region_info = struct('vfio_region_info', {
  argsz: u32,
  flags: flagsOf(u32, {
    VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
    VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_CAPS,
  }),
  index: oneOf(u32, vfio_pci_region),
  cap_offset: hex(u32),
  size: hex(u64),
  offset: hex(u64),
});
export const VFIO_DEVICE_GET_REGION_INFO = ioctlNumber(VFIO_TYPE, VFIO_BASE + 8);

export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
export const VFIO_REGION_INFO_CAP_TYPE = 2;
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;
export const VFIO_REGION_INFO_CAP_NVLINK2_SSATGT = 4;
export const VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD = 5;

export const VFIO_DEVICE_IOEVENTFD_8 = 1 << 0;
export const VFIO_DEVICE_IOEVENTFD_16 = 1 << 1;
export const VFIO_DEVICE_IOEVENTFD_32 = 1 << 2;
export const VFIO_DEVICE_IOEVENTFD_64 = 1 << 3;
export const VFIO_DEVICE_IOEVENTFD_SIZE_MASK = 0xf;

/** A write of `data` at `offset` of the device's file whenever the eventfd is signalled; `fd` -1 takes it away. */
export const vfio_device_ioeventfd = struct('vfio_device_ioeventfd', {
  argsz: u32,
  flags: flagsOf(u32, {
    VFIO_DEVICE_IOEVENTFD_8,
    VFIO_DEVICE_IOEVENTFD_16,
    VFIO_DEVICE_IOEVENTFD_32,
    VFIO_DEVICE_IOEVENTFD_64,
  }),
  offset: hex(u64),
  data: hex(u64),
  fd: { ...s32, show: { as: 'fd' } },
  reserved: reserved(u32),
});
export const VFIO_DEVICE_IOEVENTFD = ioctlNumber(VFIO_TYPE, VFIO_BASE + 16);
