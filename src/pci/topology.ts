// SPDX-License-Identifier: Apache-2.0
import { ISOLATING } from './acs.ts';
import { formatPciAddress, type PciAddress } from './address.ts';

/** A function, as far as it matters to who can reach whom. */
export interface GroupedFunction {
  readonly address: PciAddress;
  /** ACS in force: bits of `Acs`; undefined: it has none. */
  readonly acs: number | undefined;
  /** A virtual function is never one of a device's several functions, and is a group of its own. */
  readonly isVirtual?: boolean;
  /** Undefined: an endpoint. */
  readonly bridge?: BridgeKind;
  /** For a bridge: the bus below it. */
  readonly secondaryBus?: number;
}

/** A conventional bridge (PCIe to PCI) passes on requests as its own; ports of PCI Express do not. */
export type BridgeKind = 'root port' | 'upstream port' | 'downstream port' | 'conventional bridge';

const isIsolating = ({ acs = 0 }: GroupedFunction): boolean => (acs & ISOLATING) === ISOLATING;

/**
 * Which functions an IOMMU cannot keep apart: a key for each, the same for those of one group. Up from a function, up to the port
 * from which on nothing comes back down; there, with the functions beside that have no ACS either. Source of the rules: Linux
 * drivers/iommu/iommu.c (`pci_device_group()`), drivers/pci/pci.c (`pci_acs_enabled()`).
 */
export class PciTopology {
  readonly #functions: readonly GroupedFunction[];
  /** The bridge above a bus: domain and bus as one number. */
  readonly #above = new Map<number, GroupedFunction>();

  /** RangeError where two bridges have the same bus below, or one is below itself. */
  constructor(functions: readonly GroupedFunction[]) {
    this.#functions = functions;
    for (const one of functions) {
      if (one.bridge === undefined || one.secondaryBus === undefined) continue;
      const key = busKey(one.address.domain, one.secondaryBus);
      const name = formatPciAddress(one.address);
      if (this.#above.has(key)) throw new RangeError(`two bridges above the bus below ${name}`);
      if (one.secondaryBus <= one.address.bus)
        throw new RangeError(
          `${name}: the bus below it, ${one.secondaryBus}, is not above its own`,
        );
      this.#above.set(key, one);
    }
  }

  /** The key of a function's group: the address of its first member. */
  groupOf(fn: GroupedFunction): string {
    const top = this.#isolationPoint(fn);
    const members = this.#functions.filter((one) => this.#isWith(top, one));
    const [first = top] = members.toSorted((a, b) => (name(a) < name(b) ? -1 : 1));
    return name(first);
  }

  /** The function that stands for all that cannot be told apart on its way up. */
  #isolationPoint(fn: GroupedFunction): GroupedFunction {
    let point = fn;
    // What is below a conventional bridge has the bridge's name, whatever is between.
    for (let at = this.#parent(fn); at; at = this.#parent(at)) {
      if (at.bridge === 'conventional bridge') point = at;
    }
    for (let at = this.#parent(point); at; at = this.#parent(at)) {
      if (this.#isPathIsolating(at)) break;
      point = at;
    }
    return point;
  }

  /** From a port up to the root, each step keeps its neighbours apart. */
  #isPathIsolating(from: GroupedFunction): boolean {
    for (let at: GroupedFunction | undefined = from; at; at = this.#parent(at)) {
      if (!this.#isStepIsolating(at)) return false;
    }
    return true;
  }

  #isStepIsolating(one: GroupedFunction): boolean {
    switch (one.bridge) {
      case 'conventional bridge':
        return false;
      case 'root port':
      case 'downstream port':
        return isIsolating(one);
      default:
        // Alone in its device there is no neighbour to reach.
        return this.#siblings(one).length === 0 || isIsolating(one);
    }
  }

  #isWith(top: GroupedFunction, one: GroupedFunction): boolean {
    if (one === top) return true;
    const sameSlot = this.#siblings(top).includes(one);
    return sameSlot && !top.isVirtual && !isIsolating(top) && !isIsolating(one);
  }

  /** The other functions of its device. */
  #siblings(fn: GroupedFunction): GroupedFunction[] {
    const { domain, bus, device } = fn.address;
    return this.#functions.filter(
      ({ address, isVirtual }) =>
        address !== fn.address &&
        !isVirtual &&
        address.domain === domain &&
        address.bus === bus &&
        address.device === device,
    );
  }

  #parent({ address }: GroupedFunction): GroupedFunction | undefined {
    return this.#above.get(busKey(address.domain, address.bus));
  }
}

const busKey = (domain: number, bus: number): number => domain * 256 + bus;
const name = ({ address }: GroupedFunction): string => formatPciAddress(address);
