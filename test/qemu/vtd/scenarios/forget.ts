// SPDX-License-Identifier: Apache-2.0
import {
  allContexts,
  allIotlb,
  allPasidCaches,
} from '../../../../src/drivers/intel/descriptors.ts';
import type { Bench } from '../bench.ts';

/** Has the hardware forget all that it has cached. */
export function forgetAll(bench: Bench): number {
  return bench.invalidate(
    allContexts,
    ...(bench.tables.isScalable ? [allPasidCaches] : []),
    (at: Uint32Array): void => allIotlb(at, bench.unit.drains),
  );
}
