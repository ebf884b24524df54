// SPDX-License-Identifier: Apache-2.0
import { expect } from 'vitest';
import { machineState } from '../../src/machine/state.ts';
import { type Faults, sweepFaults } from '../../src/sim/faults.ts';
import { Sim } from '../../src/sim/sim.ts';
import { outcome, type Rig, type RigOptions } from './rig.ts';

/** A call that can fail, and what is looked at before and after. */
export interface FailingCall {
  call(): unknown;
  look(): unknown;
  /** Asserts that the call has done its work. */
  checkSuccess(): void;
  /** Asserts what can be done where it has not. */
  checkFailure?(): void;
}

/**
 * Makes a call with its n-th allocation or command failing, for each n, on a machine of its own each time: where that fails the call, whatever
 * can be seen of the machine must be as before it. Answers how often it failed.
 */
export function failEach(
  make: (options?: RigOptions) => Rig,
  options: RigOptions,
  begin: (rig: Rig) => FailingCall,
): number {
  let failed = 0;
  sweepFaults((faults: Faults) => {
    const { rig, call, look, checkSuccess, checkFailure } = faults.aside(() => {
      const made = make({ ...options, sim: new Sim({ faults, checkLocks: true }) });
      return { rig: made, ...begin(made) };
    });
    const state = () => [machineState(rig.machine), look()];
    const before = faults.aside(state);
    const result = outcome(call);
    faults.aside(() => {
      // Drivers repeat some commands.
      if (result === 'OK') return checkSuccess();
      failed++;
      expect(faults.injected).toBeDefined();
      expect(state()).toEqual(before);
      checkFailure?.();
    });
  });
  return failed;
}
