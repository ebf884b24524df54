// SPDX-License-Identifier: Apache-2.0
import { errnoName } from '../base/errno.ts';
import { ISOLATING } from '../pci/acs.ts';
import { parsePciAddress, type PciAddress, pciAddressOf } from '../pci/address.ts';
import type { DmaMemory, DmaObserver, DmaPath, DmaWitness } from '../pci/dma.ts';
import { Edu } from '../pci/endpoints/edu/edu.ts';
import { IommuTest } from '../pci/endpoints/iommu_test/iommu_test.ts';
import type { PciFunction } from '../pci/function.ts';
import { type GroupedFunction, PciTopology } from '../pci/topology.ts';
import type { Sim } from '../sim/sim.ts';
import type { Translator } from '../pci/translator.ts';
import type { DeviceModel, PciDeviceDescription, PciIommuDescription } from './description.ts';
import { MachineError } from './machine_error.ts';
import { resvRegionsOf } from './reserved.ts';

/** What the functions of a machine share. */
export interface PciMachine {
  readonly sim: Sim;
  readonly memory: DmaMemory;
  observer(): DmaObserver | undefined;
  readonly witness?: DmaWitness | undefined;
}

/** An IOMMU that functions can be put behind. */
export interface PciIommu extends Translator {
  /** Those with the same `group` share one. 0, or a negative errno. */
  addFunction(fn: PciFunction, group?: unknown): number;
}

/** Where firmware puts 32-bit BARs: between memory and the interrupt controller of x86. */
const WINDOW_START = 0xc000_0000n;
const WINDOW_END = 0xfec0_0000n;

interface Making {
  readonly machine: PciMachine;
  readonly path: DmaPath;
  readonly description: PciDeviceDescription;
  readonly address: PciAddress;
  /** Other functions have its device number. */
  readonly multifunction: boolean;
}

/** How the functions of each model are made: one, and its virtual ones. */
const models: Readonly<Record<DeviceModel, (making: Making) => PciFunction[]>> = {
  edu: ({ machine, path, description, address, multifunction }) => {
    const { dmaBits } = description;
    const device = { resvRegions: resvRegionsOf(description) };
    const options = { address, device, multifunction, ...acsOf(description) };
    return [
      new Edu(machine.sim, path, { ...options, ...(dmaBits !== undefined && { dmaBits }) })
        .function,
    ];
  },
  iommu_test: ({ machine, path, description, address, multifunction }) => {
    const { dmaBits, ats, pageRequests, pasidBits, vfs = 0 } = description;
    const common = {
      device: { resvRegions: resvRegionsOf(description) },
      ...(dmaBits !== undefined && { dmaBits }),
      ...(ats !== undefined && { ats }),
    };
    const physical = new IommuTest(machine.sim, path, {
      ...{ ...common, ...acsOf(description), address, multifunction, totalVfs: vfs },
      ...(pageRequests !== undefined && { pageRequests }),
      ...(pasidBits !== undefined && { pasidBits }),
    });
    const { function: fn } = physical;
    fn.sriov?.enable(vfs);
    const virtual = Array.from({ length: vfs }, (_, i) => {
      const id = fn.sriov?.requesterId(fn.requesterId, i) ?? 0;
      const at = pciAddressOf(address.domain, id);
      return new IommuTest(machine.sim, path, { ...common, address: at, physical }).function;
    });
    return [fn, ...virtual];
  },
};

const acsOf = ({ acs }: PciDeviceDescription) => (acs ? { acs: ISOLATING } : {});

function addressOf(name: string, text: string): PciAddress {
  const address = parsePciAddress(text);
  if (!address) throw new MachineError(`${name}: "${text}" is no PCI address`);
  return address;
}

/** Makes the functions behind one IOMMU. RangeError for an address that is none or taken. */
export function makePciDevices(
  machine: PciMachine,
  iommu: PciIommu,
  description: PciIommuDescription,
): PciFunction[] {
  const { memory, observer, witness } = machine;
  const path = { translator: iommu, memory, observer, witness };
  const addresses = description.devices.map(({ name, address }) => addressOf(name, address));
  const groups = new Map<PciFunction, string | undefined>();
  for (const [i, one] of description.devices.entries()) {
    const address = addresses[i];
    if (!address) continue;
    const multifunction = addresses.some(
      (other) => other !== address && isSameDevice(other, address),
    );
    const making = { machine, path, description: one, address, multifunction };
    for (const fn of models[one.model](making)) groups.set(fn, one.group);
  }
  const byFunction = new Map([...groups.keys()].map((fn) => [fn, shapeOf(fn)]));
  const topology = new PciTopology([...byFunction.values(), ...portsOf(description)]);
  for (const [fn, group] of groups) {
    const shape = byFunction.get(fn);
    const key = group ?? (shape && `pci ${topology.groupOf(shape)}`);
    const rc = iommu.addFunction(fn, key);
    if (rc !== 0) {
      const why = `the driver refuses it (${errnoName(-rc)})`;
      throw new MachineError(`${fn.bdf} can not be put behind ${description.name}: ${why}`);
    }
  }
  return [...groups.keys()];
}

const isSameDevice = (a: PciAddress, b: PciAddress): boolean =>
  a.domain === b.domain && a.bus === b.bus && a.device === b.device;

const shapeOf = (fn: PciFunction): GroupedFunction => ({
  address: fn.address,
  acs: fn.acs?.enabled,
  isVirtual: fn.physicalFunction !== undefined,
});

const portsOf = ({ name, rootPorts = [] }: PciIommuDescription): GroupedFunction[] =>
  rootPorts.map(({ address, bus, acs = true }) => ({
    address: addressOf(name, address),
    acs: acs ? ISOLATING : undefined,
    bridge: 'root port',
    secondaryBus: bus,
  }));

/** Does what firmware does: gives each BAR an address of its own, and leaves the functions disabled. */
export function placeBars(functions: readonly PciFunction[]): void {
  let next = WINDOW_START;
  for (const each of functions) {
    for (const bar of each.bars) {
      if (!bar) continue;
      const size = BigInt(bar.size);
      const address = (next + size - 1n) & -size;
      if (address + size > WINDOW_END) {
        throw new MachineError(`${each.bdf}: no room for BAR ${bar.index} below 4 GiB`);
      }
      each.placeBar(bar.index, address);
      next = address + size;
    }
  }
}
