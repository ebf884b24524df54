// SPDX-License-Identifier: Apache-2.0
import type { Bench } from './bench.ts';
import type { UnitName } from './machine.ts';

/** Something that happens on a machine, written once for all of them. What it says is compared, line by line, and so is memory. */
export interface Scenario {
  /** Unique on each unit. */
  readonly name: string;
  readonly units: readonly UnitName[];
  run(bench: Bench): void;
  /** It ends with a unit that the driver cannot use any more. */
  readonly leavesUnit?: boolean;
}

export const ALL_UNITS: readonly UnitName[] = [
  'legacy',
  'scalable, second stage',
  'scalable, first stage',
  'legacy, caching mode',
  'legacy, snoop control',
];
export const SECOND_STAGE: readonly UnitName[] = ['legacy', 'scalable, second stage'];
export const FIRST_STAGE: readonly UnitName[] = ['scalable, first stage'];
export const EACH_MODE: readonly UnitName[] = [...SECOND_STAGE, ...FIRST_STAGE];
