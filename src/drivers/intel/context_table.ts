// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import type { TableMemory } from './table_memory.ts';

/** Where an entry is: a page and the word in it. */
export interface EntryPlace {
  readonly page: number;
  readonly word: number;
}

const PRESENT = 1;

/**
 * The root table and the context tables below it. Legacy mode: 256 entries of 128 bits a bus. Scalable mode: entries have 256 bits, and
 * a bus has a table for each half of its functions. Source: Linux drivers/iommu/intel/iommu.c `iommu_context_addr()`.
 */
export class ContextTables {
  readonly root: number;
  readonly #memory: TableMemory;
  readonly #isScalable: boolean;
  /** Tables that were made, for `free`. */
  readonly #pages: number[] = [];

  private constructor(memory: TableMemory, isScalable: boolean, root: number) {
    this.#memory = memory;
    this.#isScalable = isScalable;
    this.root = root;
  }

  /** An empty root table; or -ENOMEM. */
  static create(memory: TableMemory, isScalable: boolean): ContextTables | number {
    const root = memory.allocPage();
    return root < 0 ? -Errno.ENOMEM : new ContextTables(memory, isScalable, root);
  }

  /** Words of an entry. */
  get entryWords(): number {
    return this.#isScalable ? 8 : 4;
  }

  /** Where the entry of a requester is; its table is made where it is missing. Or -ENOMEM. */
  place(sourceId: number): EntryPlace | number {
    const [bus, devfn] = [sourceId >>> 8, sourceId & 0xff];
    const isUpper = this.#isScalable && devfn >= 128;
    const word = bus * 4 + (isUpper ? 2 : 0);
    const memory = this.#memory;
    const [lo = 0, hi = 0] = memory.read(this.root, word, 2);
    let page = ((lo & ~0xfff) >>> 0) / 2048 + hi * 2 ** 21;
    if ((lo & PRESENT) === 0) {
      page = memory.allocPage();
      if (page < 0) return -Errno.ENOMEM;
      this.#pages.push(page);
      const pointer = Uint32Array.of(((page % 2 ** 21) * 2048 + PRESENT) >>> 0, page / 2 ** 21);
      memory.write(this.root, word, pointer);
    }
    return { page, word: (isUpper ? devfn - 128 : devfn) * this.entryWords };
  }

  free(): void {
    for (const page of this.#pages) this.#memory.free(page);
    this.#memory.free(this.root);
  }
}
