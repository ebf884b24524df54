// SPDX-License-Identifier: Apache-2.0
/** Resets of a VFIO device, alone and with its neighbours. Source: Linux 7.2 include/uapi/linux/vfio.h. */
import { ioctlNumber } from './ioctl.ts';
import { array, fd, flagsOf, hex, id, s32, struct, u8, u16, u32, union } from './struct.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio_cmd.ts';

/** No argument. */
export const VFIO_DEVICE_RESET = ioctlNumber(VFIO_TYPE, VFIO_BASE + 11);

export const VFIO_PCI_DEVID_OWNED = 0;
export const VFIO_PCI_DEVID_NOT_OWNED = -1;

/** A device that is reset together with another; `devid` in place of `group_id` where it was opened as a cdev. */
export const vfio_pci_dependent_device = struct('vfio_pci_dependent_device', {
  u: union('', { group_id: u32, devid: id }),
  segment: hex(u16),
  bus: hex(u8),
  devfn: hex(u8),
});

export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0;
export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1;

/** Followed by `count` of {@link vfio_pci_dependent_device}. */
export const vfio_pci_hot_reset_info = struct('vfio_pci_hot_reset_info', {
  argsz: u32,
  flags: flagsOf(u32, { VFIO_PCI_HOT_RESET_FLAG_DEV_ID, VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED }),
  count: u32,
  devices: array(vfio_pci_dependent_device, 0),
});
export const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = ioctlNumber(VFIO_TYPE, VFIO_BASE + 12);

/** Followed by `count` descriptors of groups; none for devices that were opened as cdevs. */
export const vfio_pci_hot_reset = struct('vfio_pci_hot_reset', {
  argsz: u32,
  flags: flagsOf(u32, {}),
  count: u32,
  group_fds: array({ ...s32, show: fd.show }, 0),
});
export const VFIO_DEVICE_PCI_HOT_RESET = ioctlNumber(VFIO_TYPE, VFIO_BASE + 13);
