// SPDX-License-Identifier: Apache-2.0
import { IdTable } from '../base/id_table.ts';
import type { BindOptions } from '../iommufd/device.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Sim } from '../sim/sim.ts';
import { VfioCdev } from './cdev.ts';
import { VfioDevice } from './device.ts';

/** VFIO as a whole: the devices of a machine that clients can have. */
export class Vfio {
  readonly #sim: Sim;
  readonly #options: BindOptions;
  readonly #cdevs = new IdTable<VfioCdev>(0);

  constructor(sim: Sim, options: BindOptions = {}) {
    this.#sim = sim;
    this.#options = options;
  }

  /** Makes vfio-pci the driver of a function: it appears as the lowest free `vfioN`. */
  register(fn: PciFunction): VfioCdev {
    const minor = this.#cdevs.reserve();
    const cdev = new VfioCdev(new VfioDevice(fn, this.#sim, this.#options), minor);
    this.#cdevs.store(minor, cdev);
    return cdev;
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
