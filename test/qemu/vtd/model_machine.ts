// SPDX-License-Identifier: Apache-2.0
import { VTD_RAM } from '../../../host/qemu/vtd_machine.ts';
import { Capabilities } from '../../../src/hw/vtd/capabilities.ts';
import { ModelInitiator } from '../../../src/hw/vtd/initiator.ts';
import { VtdUnit } from '../../../src/hw/vtd/vtd_unit.ts';
import { Ram } from '../../../src/memory/ram.ts';
import type { Faults } from '../../../src/sim/faults.ts';
import type { Sim } from '../../../src/sim/sim.ts';
import { InitiatorRequester } from './initiator_requester.ts';
import type { Powered, TestMachine } from './machine.ts';

/** Width of physical addresses, as QEMU's unit has them: its option `aw-bits`. */
const HOST_ADDRESS_BITS = 48;
/** Where the devices are in QEMU's machine. */
const [EDU, TEST] = [0x18, 0x10];

/** What CAP and ECAP of a unit are to say. */
export interface UnitRegisters {
  readonly cap: bigint;
  readonly ecap: bigint;
}

/** The model of this process, with the same abilities as a QEMU's unit, and its memory at the same place. */
export class ModelMachine implements TestMachine {
  readonly name = 'model';
  readonly #caps: Capabilities;

  constructor({ cap, ecap }: UnitRegisters) {
    this.#caps = new Capabilities(cap, ecap, {
      haw: HOST_ADDRESS_BITS,
      collapsesFaults: true,
    });
  }

  powerOn(sim: Sim, faults: Faults): Powered {
    const ram = new Ram({ ...VTD_RAM, faults });
    const unit = new VtdUnit({ sim, ram, caps: this.#caps });
    const settle = (): void => sim.settle();
    return {
      hardware: unit.hardware,
      edu: new InitiatorRequester('edu', new ModelInitiator(unit, EDU)),
      test: new InitiatorRequester('test', new ModelInitiator(unit, TEST)),
      settle,
    };
  }

  stop(): void {}
}
