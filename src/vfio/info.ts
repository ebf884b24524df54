// SPDX-License-Identifier: Apache-2.0
/** What a device tells of itself (vfio_pci_core.c). */
import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_PCI_VGA_REGION_INDEX,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  vfio_device_info,
  vfio_irq_info,
  vfio_region_info,
} from '../abi/vfio.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import type { VfioCall } from './call.ts';
import { regionOffset } from './regions.ts';

/**
 * VFIO_DEVICE_GET_INFO. The only capability of a PCI device, widths of AtomicOps that its root completes, is nothing that the roots
 * here do, so there is no chain.
 */
export function getInfo(call: VfioCall<Cmd<typeof vfio_device_info>>): void {
  const { cmd, device } = call;
  cmd.flags = VFIO_DEVICE_FLAGS_PCI | (device.pci.canReset ? VFIO_DEVICE_FLAGS_RESET : 0);
  cmd.num_regions = VFIO_PCI_NUM_REGIONS;
  cmd.num_irqs = VFIO_PCI_NUM_IRQS;
  call.respond(0, Math.min(cmd.argsz, vfio_device_info.size));
}

/**
 * VFIO_DEVICE_GET_REGION_INFO. Regions are not for mmap: registers have side effects that a page of memory would not show. The
 * capabilities of regions are about mmap, so there are none.
 */
export function getRegionInfo(call: VfioCall<Cmd<typeof vfio_region_info>>): void {
  const { cmd, device } = call;
  const { index } = cmd;
  if (index >= VFIO_PCI_NUM_REGIONS) throw new ErrnoError('EINVAL', `there is no region ${index}`);
  if (index === VFIO_PCI_VGA_REGION_INDEX) {
    throw new ErrnoError('EINVAL', `${device.name} has no VGA ranges`);
  }
  const bytes = device.pci.regionBytes(index);
  cmd.flags = bytes ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
  cmd.size = BigInt(bytes);
  cmd.offset = regionOffset(index);
  call.respond(0, vfio_region_info.size);
}

/** VFIO_DEVICE_GET_IRQ_INFO */
export function getIrqInfo(call: VfioCall<Cmd<typeof vfio_irq_info>>): void {
  const { cmd, device } = call;
  const { index } = cmd;
  if (index >= VFIO_PCI_NUM_IRQS)
    throw new ErrnoError('EINVAL', `there is no interrupt index ${index}`);
  if (index === VFIO_PCI_ERR_IRQ_INDEX && !device.pci.isExpress) {
    throw new ErrnoError('EINVAL', `${device.name} reports no errors: it is not PCI Express`);
  }
  cmd.count = device.pci.irqCount(index);
  cmd.flags = VFIO_IRQ_INFO_EVENTFD | irqFlags(index, cmd.count);
  call.respond(0, vfio_irq_info.size);
}

/** Vectors of MSI-X can be added one by one, where there are any; all others are set up together. */
function irqFlags(index: number, count: number): number {
  if (index === VFIO_PCI_INTX_IRQ_INDEX) return VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
  return index === VFIO_PCI_MSIX_IRQ_INDEX && count > 0 ? 0 : VFIO_IRQ_INFO_NORESIZE;
}
