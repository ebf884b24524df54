// SPDX-License-Identifier: Apache-2.0
import type { Sim } from '../../../sim/sim.ts';
import type { AddressTranslationCache } from '../../atc.ts';
import type { PciFunction } from '../../function.ts';
import type { Edu } from '../edu/edu.ts';
import type { Life } from './life.ts';
import type { IommuTestRegisters } from './register_file.ts';

/** The device as its parts know it. The function is there once all of them are made. */
export interface TestDevice {
  readonly sim: Sim;
  readonly edu: Edu;
  readonly function: PciFunction;
  readonly atc: AddressTranslationCache;
  readonly registers: IommuTestRegisters;
  readonly life: Life;
}
