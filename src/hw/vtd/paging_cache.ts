// SPDX-License-Identifier: Apache-2.0
import type { Scope } from './iotlb.ts';

const SLOTS = 64;
const LEVELS = 5;
const EMPTY = -1;
/** 2^(-9 level): an address's part above what the table of `level - 1` translates. */
const INVERSE = [1, 2 ** -9, 2 ** -18, 2 ** -27, 2 ** -36];

/**
 * A paging-structure cache of one stage: where the table of each level is for a stretch of addresses, and what the entries that lead to
 * it allow. 64 slots a level, one place for each address.
 */
export class PagingCache {
  readonly #prefix = new Float64Array(SLOTS * LEVELS).fill(EMPTY);
  readonly #did = new Int32Array(SLOTS * LEVELS);
  readonly #pasid = new Int32Array(SLOTS * LEVELS);
  readonly #nested = new Uint8Array(SLOTS * LEVELS);
  readonly #table = new Float64Array(SLOTS * LEVELS);
  readonly #allows = new Int32Array(SLOTS * LEVELS);

  /** The slot with the table of `level - 1` for a page; -1 where it is not known. */
  find(level: number, page: number, did: number, pasid: number): number {
    const prefix = Math.floor(page * (INVERSE[level] ?? 0));
    const slot = level * SLOTS + ((prefix ^ did ^ pasid) & (SLOTS - 1));
    return this.#prefix[slot] === prefix && this.#did[slot] === did && this.#pasid[slot] === pasid
      ? slot
      : -1;
  }

  table(slot: number): number {
    return this.#table[slot] ?? 0;
  }

  allows(slot: number): number {
    return this.#allows[slot] ?? 0;
  }

  put(
    level: number,
    page: number,
    did: number,
    pasid: number,
    isNested: boolean,
    table: number,
    allows: number,
  ): void {
    const prefix = Math.floor(page * (INVERSE[level] ?? 0));
    const slot = level * SLOTS + ((prefix ^ did ^ pasid) & (SLOTS - 1));
    this.#prefix[slot] = prefix;
    this.#did[slot] = did;
    this.#pasid[slot] = pasid;
    this.#nested[slot] = isNested ? 1 : 0;
    this.#table[slot] = table;
    this.#allows[slot] = allows;
  }

  clear(): void {
    this.#prefix.fill(EMPTY);
  }

  /** `isFirst`: this is the first stage's. */
  invalidate({ did, pasid, page, lg2, keepsTables }: Scope, isFirst: boolean): void {
    if (did < 0) {
      this.clear();
      return;
    }
    if (keepsTables || (pasid !== undefined && !isFirst)) return;
    for (let slot = SLOTS; slot < SLOTS * LEVELS; slot++) {
      const prefix = this.#prefix[slot] ?? EMPTY;
      if (prefix === EMPTY || this.#did[slot] !== did) continue;
      if (pasid !== undefined && this.#pasid[slot] !== pasid) continue;
      // A domain's own addresses say nothing about a first stage above them.
      if (page !== undefined && !(isFirst && pasid === undefined)) {
        const bits = 9 * Math.floor(slot / SLOTS);
        const size = 2 ** Math.max(lg2, bits);
        if (Math.floor((prefix * 2 ** bits) / size) !== Math.floor(page / size)) continue;
      }
      this.#prefix[slot] = EMPTY;
    }
  }
}
