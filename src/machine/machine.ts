// SPDX-License-Identifier: Apache-2.0
import { MockIommu } from '../drivers/mock/mock_iommu.ts';
import { Iommufd } from '../iommufd/iommufd.ts';
import type { ClientMemory } from '../memory/client_memory.ts';
import { Sim } from '../sim/sim.ts';

/** A whole machine: which IOMMUs it has, with their drivers, behind one /dev/iommu. */
export class Machine {
  readonly iommufd: Iommufd;

  /** A machine with the test driver's IOMMU only, as the kernel has with CONFIG_IOMMUFD_TEST. */
  constructor(options: { readonly sim?: Sim } = {}) {
    this.iommufd = new Iommufd({ sim: options.sim ?? new Sim() });
    this.iommufd.testHardware = new MockIommu(this.iommufd.core);
  }

  /** The pages of its clients, as frames. */
  get memory(): ClientMemory {
    return this.iommufd.memory;
  }
}
