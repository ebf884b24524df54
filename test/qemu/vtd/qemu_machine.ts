// SPDX-License-Identifier: Apache-2.0
import { QemuVtdMachine } from '../../../host/qemu/vtd_machine.ts';
import type { Faults } from '../../../src/sim/faults.ts';
import type { Sim } from '../../../src/sim/sim.ts';
import type { UnitRegisters } from './model_machine.ts';
import { type Powered, type TestMachine, type UnitName, UNITS } from './machine.ts';

export interface QemuCommand {
  readonly command: string;
  readonly args: readonly string[];
}

/** QEMU's `intel-iommu`, `edu` and `iommu-testdev`. */
export class QemuTestMachine implements TestMachine {
  readonly name: string;
  readonly #machine: QemuVtdMachine;

  constructor(qemu: QemuCommand, unit: UnitName) {
    this.#machine = new QemuVtdMachine({ ...qemu, unit: UNITS[unit] });
    const { major, minor, micro } = this.#machine.version;
    this.name = `QEMU ${major}.${minor}.${micro}`;
  }

  registers(): UnitRegisters {
    const { mmio } = this.#machine.hardware;
    return { cap: mmio.read64(0x08), ecap: mmio.read64(0x10) };
  }

  powerOn(_sim: Sim, faults: Faults): Powered {
    const machine = this.#machine;
    machine.powerOn({ faults });
    const { hardware, edu, test } = machine;
    return {
      hardware,
      settle: () => hardware.deliver(),
      edu: {
        name: 'edu',
        sourceId: edu.sourceId,
        load: (address, bytes) => edu.load(address, bytes).ok,
        store: (address, bytes) => edu.store(address, bytes).ok,
      },
      test: {
        name: 'test',
        sourceId: test.sourceId,
        load: () => {
          throw new Error('the test device does not read');
        },
        store: (address, bytes) => test.store(address, bytes).ok,
      },
    };
  }

  stop(): void {
    this.#machine.stop();
  }
}
