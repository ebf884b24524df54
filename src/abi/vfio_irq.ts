// SPDX-License-Identifier: Apache-2.0
/** Interrupts of a VFIO device. Source: Linux 7.2 include/uapi/linux/vfio.h. */
import { ioctlNumber } from './ioctl.ts';
import { array, flagsOf, oneOf, struct, u8, u32 } from './struct.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio_cmd.ts';

/** Indexes of the interrupts of a PCI device. */
export const vfio_pci_irq = {
  VFIO_PCI_INTX_IRQ_INDEX: 0,
  VFIO_PCI_MSI_IRQ_INDEX: 1,
  VFIO_PCI_MSIX_IRQ_INDEX: 2,
  VFIO_PCI_ERR_IRQ_INDEX: 3,
  VFIO_PCI_REQ_IRQ_INDEX: 4,
} as const;
export const {
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} = vfio_pci_irq;
export const VFIO_PCI_NUM_IRQS = 5;

export const VFIO_IRQ_INFO_EVENTFD = 1 << 0;
export const VFIO_IRQ_INFO_MASKABLE = 1 << 1;
export const VFIO_IRQ_INFO_AUTOMASKED = 1 << 2;
export const VFIO_IRQ_INFO_NORESIZE = 1 << 3;

export const vfio_irq_info = struct('vfio_irq_info', {
  argsz: u32,
  flags: flagsOf(u32, {
    VFIO_IRQ_INFO_EVENTFD,
    VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_INFO_AUTOMASKED,
    VFIO_IRQ_INFO_NORESIZE,
  }),
  index: oneOf(u32, vfio_pci_irq),
  count: u32,
});
export const VFIO_DEVICE_GET_IRQ_INFO = ioctlNumber(VFIO_TYPE, VFIO_BASE + 9);

export const VFIO_IRQ_SET_DATA_NONE = 1 << 0;
export const VFIO_IRQ_SET_DATA_BOOL = 1 << 1;
export const VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2;
export const VFIO_IRQ_SET_ACTION_MASK = 1 << 3;
export const VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5;
export const VFIO_IRQ_SET_DATA_TYPE_MASK =
  VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD;
export const VFIO_IRQ_SET_ACTION_TYPE_MASK =
  VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER;

/** `data` holds `count` bytes with DATA_BOOL, `count` descriptors (__s32) with DATA_EVENTFD, nothing with DATA_NONE. */
export const vfio_irq_set = struct('vfio_irq_set', {
  argsz: u32,
  flags: flagsOf(u32, {
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_ACTION_TRIGGER,
  }),
  index: oneOf(u32, vfio_pci_irq),
  start: u32,
  count: u32,
  data: array(u8, 0),
});
export const VFIO_DEVICE_SET_IRQS = ioctlNumber(VFIO_TYPE, VFIO_BASE + 10);
