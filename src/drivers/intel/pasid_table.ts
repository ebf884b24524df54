// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import type { EntryPlace } from './context_table.ts';
import type { TableMemory } from './table_memory.ts';
import { PASID_ENTRY_WORDS, QUANTUM_WORDS } from './translation.ts';

const PRESENT = 1;
/** A directory has a page at least: 2^9 entries, for tables of 2^6 PASIDs each. */
const PAGE_ENTRIES_LG2 = 9;
const TABLE_LG2 = 6;

/** What a device can do that its scalable context entry has to say. */
export interface ContextFeatures {
  readonly hasDeviceIotlb: boolean;
  readonly hasPasid: boolean;
  readonly hasPageRequests: boolean;
}

/**
 * The PASID directory and tables of one device (B10: never shared). Requests without PASID are looked up at PASID 0 (RID_PASID).
 * Counterpart of `struct pasid_table`.
 */
export class PasidTable {
  readonly directory: number;
  /** PASIDs that it has room for. */
  readonly size: number;
  readonly #directoryLg2: number;
  readonly #memory: TableMemory;
  /** By index in the directory. */
  readonly #tables = new Map<number, number>();

  private constructor(memory: TableMemory, directory: number, directoryLg2: number) {
    this.#memory = memory;
    this.directory = directory;
    this.#directoryLg2 = directoryLg2;
    this.size = 2 ** (directoryLg2 + TABLE_LG2);
  }

  /** An empty directory for so many PASIDs; or -ENOMEM. */
  static create(memory: TableMemory, pasids: number): PasidTable | number {
    const entriesLg2 = Math.max(
      PAGE_ENTRIES_LG2,
      Math.ceil(Math.log2(Math.max(pasids, 1))) - TABLE_LG2,
    );
    const directory = memory.allocPages(entriesLg2 - PAGE_ENTRIES_LG2);
    return directory < 0 ? -Errno.ENOMEM : new PasidTable(memory, directory, entriesLg2);
  }

  /** Where the entry of a PASID is; its table is made where it is missing. Or -ENOMEM, -ENODEV (beyond the directory). */
  place(pasid: number): EntryPlace | number {
    if (pasid >= this.size) return -Errno.ENODEV;
    const index = pasid >>> TABLE_LG2;
    let page = this.#tables.get(index);
    if (page === undefined) {
      page = this.#memory.allocPage();
      if (page < 0) return -Errno.ENOMEM;
      this.#tables.set(index, page);
      const pointer = Uint32Array.of(((page % 2 ** 21) * 2048 + PRESENT) >>> 0, page / 2 ** 21);
      this.#memory.write(this.directory, index * 2, pointer);
    }
    return { page, word: (pasid & (2 ** TABLE_LG2 - 1)) * PASID_ENTRY_WORDS };
  }

  /** The scalable context entry that leads here: its first 128 bits, the rest is 0. */
  contextEntry(features: ContextFeatures): Uint32Array {
    const { directory } = this;
    const bits =
      PRESENT |
      ((features.hasDeviceIotlb ? 1 : 0) << 2) |
      ((features.hasPasid ? 1 : 0) << 3) |
      ((features.hasPageRequests ? 1 : 0) << 4) |
      // PDTS: the directory has 2^(n + 7) entries.
      ((this.#directoryLg2 - 7) << 9);
    const words = new Uint32Array(QUANTUM_WORDS);
    words[0] = ((directory % 2 ** 21) * 2048 + bits) >>> 0;
    words[1] = Math.floor(directory / 2 ** 21);
    return words;
  }

  free(): void {
    for (const page of this.#tables.values()) this.#memory.free(page);
    this.#memory.free(this.directory);
  }
}
