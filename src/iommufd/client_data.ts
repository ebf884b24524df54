// SPDX-License-Identifier: Apache-2.0
import type { UserData, UserDataArray } from '../iommu/user_data.ts';
import type { Mm } from '../memory/mm.ts';

/** A driver's structure in the memory of the client that makes the call. */
export function clientData(mm: Mm, type: number, length: number, address: bigint): UserData {
  return {
    type,
    length,
    copyIn: (offset, into) => mm.copyIn(address + BigInt(offset), into),
    copyOut: (offset, from) => mm.copyOut(address + BigInt(offset), from),
  };
}

/** Entries of a driver's structure there; `entryLength` in bytes. */
export function clientArray(
  mm: Mm,
  type: number,
  entries: { readonly address: bigint; readonly entryLength: number; readonly entryCount: number },
): UserDataArray {
  const { address, entryLength, entryCount } = entries;
  const entry = (index: number): UserData =>
    clientData(mm, type, entryLength, address + BigInt(entryLength * index));
  return { type, entryLength, entryCount, entry };
}
