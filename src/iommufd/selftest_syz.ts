// SPDX-License-Identifier: Apache-2.0
import { MOCK_FLAGS_ACCESS_SYZ } from '../abi/iommufd_test.ts';
import { ErrnoError } from '../base/errno.ts';
import type { Context } from './context.ts';
import type { IoPagetable } from './io_pagetable.ts';

/**
 * A fuzzer can not guess the IOVA that a map returned. With MOCK_FLAGS_ACCESS_SYZ its 64 bits mean "offset (high half) into
 * the n-th (low half) area" instead. Returns 0 where there is no such area.
 */
export function syzkallerIova(table: IoPagetable, iova: bigint): bigint {
  let nth = BigInt.asUintN(32, iova);
  for (const area of table.areas) {
    if (nth === 0n) return area.start + (iova >> 32n);
    nth--;
  }
  return 0n;
}

/** The same for IOMMU_IOAS_COPY: rewrites `src_iova` and takes the flag away; an unknown IOAS is left to the call itself. */
export function convertSyzkallerIova(
  context: Context,
  cmd: { flags: number; src_iova: bigint; readonly src_ioas_id: number },
): void {
  if (!(cmd.flags & MOCK_FLAGS_ACCESS_SYZ)) return;
  cmd.flags &= ~MOCK_FLAGS_ACCESS_SYZ;
  try {
    context.withIoas(cmd.src_ioas_id, ({ table }) => {
      cmd.src_iova = syzkallerIova(table, cmd.src_iova);
    });
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
  }
}
