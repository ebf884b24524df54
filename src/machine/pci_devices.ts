// SPDX-License-Identifier: Apache-2.0
import type { PagingIommu } from '../drivers/paging/paging_iommu.ts';
import { parsePciAddress } from '../pci/address.ts';
import type { DmaMemory, DmaObserver } from '../pci/dma.ts';
import { Edu } from '../pci/endpoints/edu/edu.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Sim } from '../sim/sim.ts';
import type { DeviceModel, PagingIommuDescription, PciDeviceDescription } from './description.ts';
import { resvRegionsOf } from './reserved.ts';

/** What the functions of a machine share. */
export interface PciMachine {
  readonly sim: Sim;
  readonly memory: DmaMemory;
  observer(): DmaObserver | undefined;
}

/** Where firmware puts 32-bit BARs: between memory and the interrupt controller of x86. */
const WINDOW_START = 0xc000_0000n;
const WINDOW_END = 0xfec0_0000n;

type Make = (
  machine: PciMachine,
  iommu: PagingIommu,
  description: PciDeviceDescription,
) => PciFunction;

/** How a function of each model is made. */
const models: Readonly<Record<DeviceModel, Make>> = {
  edu: ({ sim, memory, observer }, iommu, description) => {
    const address = parsePciAddress(description.address);
    if (!address) {
      throw new RangeError(`${description.name}: "${description.address}" is no PCI address`);
    }
    const { dmaBits } = description;
    const device = { resvRegions: resvRegionsOf(description) };
    const path = { translator: iommu, memory, observer };
    return new Edu(sim, path, { address, device, ...(dmaBits !== undefined && { dmaBits }) })
      .function;
  },
};

/** Makes the functions behind one IOMMU. RangeError for an address that is none or taken. */
export function makePciDevices(
  machine: PciMachine,
  iommu: PagingIommu,
  description: PagingIommuDescription,
): PciFunction[] {
  return description.devices.map((one) => {
    const made = models[one.model](machine, iommu, one);
    const rc = iommu.addDevice(made.device, one.group);
    if (rc !== 0) throw new Error(`${one.name} cannot be put behind ${description.name} (${rc})`);
    return made;
  });
}

/** Does what firmware does: gives each BAR an address of its own, and leaves the functions disabled. */
export function placeBars(functions: readonly PciFunction[]): void {
  let next = WINDOW_START;
  for (const each of functions) {
    for (const bar of each.bars) {
      if (!bar) continue;
      const size = BigInt(bar.size);
      const address = (next + size - 1n) & -size;
      if (address + size > WINDOW_END) {
        throw new RangeError(`${each.bdf}: no room for BAR ${bar.index} below 4 GiB`);
      }
      each.placeBar(bar.index, address);
      next = address + size;
    }
  }
}
