// SPDX-License-Identifier: Apache-2.0
import type { UserData, UserDataArray } from '../iommu/user_data.ts';

/** An array of a client's that keeps what was read of each entry; zeroes where nothing was. */
export class ReadEntries implements UserDataArray {
  readonly type: number;
  readonly entryLength: number;
  readonly entryCount: number;
  readonly entries: Uint8Array[] = [];
  readonly #array: UserDataArray;

  constructor(array: UserDataArray) {
    this.#array = array;
    this.type = array.type;
    this.entryLength = array.entryLength;
    this.entryCount = array.entryCount;
  }

  entry(index: number): UserData {
    const entry = this.#array.entry(index);
    const kept = (this.entries[index] ??= new Uint8Array(this.entryLength));
    return {
      type: entry.type,
      length: entry.length,
      copyIn: (offset, into) => {
        const isRead = entry.copyIn(offset, into);
        if (isRead) kept.set(into.subarray(0, Math.max(0, kept.length - offset)), offset);
        return isRead;
      },
      copyOut: (offset, from) => entry.copyOut(offset, from),
    };
  }
}
