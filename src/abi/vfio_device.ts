// SPDX-License-Identifier: Apache-2.0
/** What a VFIO device tells of itself. Source: Linux 7.2 include/uapi/linux/vfio.h. */
import { ioctlNumber } from './ioctl.ts';
import { flagsOf, hex, reserved, struct, u32 } from './struct.ts';
import { vfio_info_cap_header } from './vfio_info_cap.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio_cmd.ts';

export const VFIO_DEVICE_FLAGS_RESET = 1 << 0;
export const VFIO_DEVICE_FLAGS_PCI = 1 << 1;
export const VFIO_DEVICE_FLAGS_PLATFORM = 1 << 2;
export const VFIO_DEVICE_FLAGS_AMBA = 1 << 3;
export const VFIO_DEVICE_FLAGS_CCW = 1 << 4;
export const VFIO_DEVICE_FLAGS_AP = 1 << 5;
export const VFIO_DEVICE_FLAGS_FSL_MC = 1 << 6;
export const VFIO_DEVICE_FLAGS_CAPS = 1 << 7;
export const VFIO_DEVICE_FLAGS_CDX = 1 << 8;

/** Regions and interrupts are numbered from 0; `cap_offset` is where the first capability is, 0 where there is none. */
export const vfio_device_info = struct('vfio_device_info', {
  argsz: u32,
  flags: flagsOf(u32, {
    VFIO_DEVICE_FLAGS_RESET,
    VFIO_DEVICE_FLAGS_PCI,
    VFIO_DEVICE_FLAGS_PLATFORM,
    VFIO_DEVICE_FLAGS_AMBA,
    VFIO_DEVICE_FLAGS_CCW,
    VFIO_DEVICE_FLAGS_AP,
    VFIO_DEVICE_FLAGS_FSL_MC,
    VFIO_DEVICE_FLAGS_CAPS,
    VFIO_DEVICE_FLAGS_CDX,
  }),
  num_regions: u32,
  num_irqs: u32,
  cap_offset: hex(u32),
  pad: reserved(u32),
});
export const VFIO_DEVICE_GET_INFO = ioctlNumber(VFIO_TYPE, VFIO_BASE + 7);

export const VFIO_DEVICE_INFO_CAP_ZPCI_BASE = 1;
export const VFIO_DEVICE_INFO_CAP_ZPCI_GROUP = 2;
export const VFIO_DEVICE_INFO_CAP_ZPCI_UTIL = 3;
export const VFIO_DEVICE_INFO_CAP_ZPCI_PFIP = 4;
export const VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP = 5;

export const VFIO_PCI_ATOMIC_COMP32 = 1 << 0;
export const VFIO_PCI_ATOMIC_COMP64 = 1 << 1;
export const VFIO_PCI_ATOMIC_COMP128 = 1 << 2;

/** Widths of AtomicOps that the root completes for the device. */
export const vfio_device_info_cap_pci_atomic_comp = struct('vfio_device_info_cap_pci_atomic_comp', {
  header: vfio_info_cap_header,
  flags: flagsOf(u32, { VFIO_PCI_ATOMIC_COMP32, VFIO_PCI_ATOMIC_COMP64, VFIO_PCI_ATOMIC_COMP128 }),
  reserved: reserved(u32),
});
