// SPDX-License-Identifier: Apache-2.0
import type { TestMachine } from './machine.ts';

/** What CAP and ECAP of a unit are to say. */
export interface UnitRegisters {
  readonly cap: bigint;
  readonly ecap: bigint;
}

/** The model of this process, with the same abilities as a QEMU's unit; undefined while there is none. */
export function modelMachine(_registers: UnitRegisters): TestMachine | undefined {
  return undefined;
}
