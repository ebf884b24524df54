// SPDX-License-Identifier: Apache-2.0
import { IdTable } from '../base/id_table.ts';
import type { BindOptions } from '../iommufd/device.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Sim } from '../sim/sim.ts';
import { VfioCdev } from './cdev.ts';
import { VfioDevice } from './device.ts';
import { VfioGroup } from './group.ts';

/** VFIO as a whole: the devices of a machine that clients can have. */
export class Vfio {
  readonly #sim: Sim;
  readonly #options: BindOptions;
  readonly #cdevs = new IdTable<VfioCdev>(0);
  readonly #groups = new Map<IommuGroup, VfioGroup>();

  constructor(sim: Sim, options: BindOptions = {}) {
    this.#sim = sim;
    this.#options = options;
  }

  /** Makes vfio-pci the driver of a function: it appears as the lowest free `vfioN`. */
  register(fn: PciFunction): VfioCdev {
    const minor = this.#cdevs.reserve();
    const device = new VfioDevice(fn, this.#groupOf(fn), this.#sim, this.#options);
    const cdev = new VfioCdev(device, minor);
    this.#cdevs.store(minor, cdev);
    return cdev;
  }

  /** Groups with a device that clients can have. */
  get groups(): readonly VfioGroup[] {
    return [...this.#groups.values()];
  }

  #groupOf({ device, bdf }: PciFunction): VfioGroup {
    const { group } = device;
    if (!group) throw new Error(`${bdf} is behind no IOMMU`);
    const known = this.#groups.get(group);
    if (known) return known;
    const made = new VfioGroup(group, this.#groups.size, this.#sim);
    this.#groups.set(group, made);
    return made;
  }

  /** By ascending minor number. */
  get cdevs(): readonly VfioCdev[] {
    return [...this.#cdevs.entries()].map(([, cdev]) => cdev);
  }

  /** By name: `vfio0`. */
  cdev(name: string): VfioCdev | undefined {
    return this.cdevs.find((cdev) => cdev.name === name);
  }
}
