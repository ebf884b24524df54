// SPDX-License-Identifier: Apache-2.0
import { MockIommu } from '../drivers/mock/mock_iommu.ts';
import { Iommufd } from '../iommufd/iommufd.ts';
import type { ClientMemory } from '../memory/client_memory.ts';
import { Ram } from '../memory/ram.ts';
import { Sim } from '../sim/sim.ts';
import type { MachineDescription } from './description.ts';
import { MockShapes } from './mock_shapes.ts';
import { defaultMachine } from './presets.ts';

/** A whole machine: which IOMMUs it has, with their drivers, behind one /dev/iommu. */
export class Machine {
  readonly description: MachineDescription;
  readonly iommufd: Iommufd;
  /** Where page tables live. */
  readonly ram: Ram;

  constructor(options: { readonly description?: MachineDescription; readonly sim?: Sim } = {}) {
    const { description = defaultMachine, sim = new Sim() } = options;
    this.description = description;
    this.iommufd = new Iommufd({ sim });
    this.ram = new Ram({ faults: sim.faults });
    const iommus = description.iommus.map((iommu) => ({
      description: iommu,
      mock: new MockIommu(this.iommufd.core, { ram: this.ram }),
    }));
    if (iommus.length) this.iommufd.testHardware = new MockShapes(iommus);
  }

  /** The pages of its clients, as frames. */
  get memory(): ClientMemory {
    return this.iommufd.memory;
  }
}
