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
  return new ClientArray(mm, type, entries.address, entries.entryLength, entries.entryCount);
}

/** Entries are fetched so many bytes at a time: one copy from another process costs as much as the work of many entries. */
const BATCH_BYTES = 4096;
/** One serves all, and knows whose entries it holds. */
const batch = { bytes: new Uint8Array(BATCH_BYTES), owner: undefined as ClientArray | undefined };

/** Entries that are read when their turn comes, or a little before. */
class ClientArray implements UserDataArray, UserData {
  readonly type: number;
  readonly entryLength: number;
  readonly entryCount: number;
  private readonly mm: Mm;
  private readonly address: bigint;
  /** Byte of the array at which the entry begins that `entry` named last. */
  private at = 0;
  /** Bytes of the array that the batch holds. */
  private first = 0;
  private end = 0;

  constructor(mm: Mm, type: number, address: bigint, entryLength: number, entryCount: number) {
    this.mm = mm;
    this.type = type;
    this.address = address;
    this.entryLength = entryLength;
    this.entryCount = entryCount;
  }

  get length(): number {
    return this.entryLength;
  }

  entry(index: number): UserData {
    this.at = index * this.entryLength;
    return this;
  }

  copyIn(offset: number, into: Uint8Array): boolean {
    const from = this.at + offset;
    if (!this.holds(from, into.length) && !this.fetch(from, into.length)) {
      return this.mm.copyIn(this.address + BigInt(from), into);
    }
    for (let i = 0, at = from - this.first; i < into.length; i++)
      into[i] = batch.bytes[at + i] as number;
    return true;
  }

  copyOut(offset: number, from: Uint8Array): boolean {
    this.end = this.first;
    return this.mm.copyOut(this.address + BigInt(this.at + offset), from);
  }

  private holds(from: number, length: number): boolean {
    return batch.owner === this && from >= this.first && from + length <= this.end;
  }

  /** False where not all of a batch can be read, or it would be too small: then an entry is read for itself. */
  private fetch(from: number, length: number): boolean {
    const bytes = Math.min(BATCH_BYTES, this.entryCount * this.entryLength - from);
    batch.owner = undefined;
    if (length > bytes) return false;
    if (!this.mm.copyIn(this.address + BigInt(from), batch.bytes.subarray(0, bytes))) return false;
    batch.owner = this;
    this.first = from;
    this.end = from + bytes;
    return true;
  }
}
