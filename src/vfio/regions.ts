// SPDX-License-Identifier: Apache-2.0
import { vfio_pci_region } from '../abi/vfio.ts';

/**
 * Where regions are in the file of a PCI device: 1 TiB apart. Clients are told each offset by GET_REGION_INFO. Fact of Linux
 * include/linux/vfio_pci_core.h (VFIO_PCI_OFFSET_SHIFT).
 */
const REGION_SHIFT = 40n;
const OFFSET_MASK = (1n << REGION_SHIFT) - 1n;

/** The byte of the device's file at which a region begins. */
export const regionOffset = (index: number): bigint => BigInt(index) << REGION_SHIFT;

/** Which region a byte of the device's file belongs to, and the byte in it. */
export function regionAt(position: bigint): { readonly index: number; readonly offset: number } {
  return { index: Number(position >> REGION_SHIFT), offset: Number(position & OFFSET_MASK) };
}

/** `BAR0`, `CONFIG`: for traces; undefined where there is none of that index. */
export function regionName(index: number): string | undefined {
  const found = Object.entries(vfio_pci_region).find(([, value]) => value === index);
  return found?.[0].replace(/^VFIO_PCI_(.*)_REGION_INDEX$/, '$1');
}
