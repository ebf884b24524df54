// SPDX-License-Identifier: Apache-2.0
/** Which translations an invalidation names. */
export interface Scope {
  /** -1: of all domains. */
  readonly did: number;
  /** Undefined: of all. Else of this PASID; where pages are named, only what has a first stage (VTD-5.10 §6.5.2.4). */
  readonly pasid: number | undefined;
  /** First page of 4 KiB and how many, as a power of two; undefined: all. */
  readonly page: number | undefined;
  readonly lg2: number;
  /** IH: nothing but leaves changed. */
  readonly keepsTables: boolean;
}

/** How a binding translates, in its numbers of a PASID entry. Legacy mode's second stage counts as SECOND. */
export const Pgtt = { FIRST: 1, SECOND: 2, NESTED: 3, PASS_THROUGH: 4 } as const;

const SETS = 64;
const WAYS = 4;
const EMPTY = -1;

/**
 * The IOTLB: 64 sets of 4 ways, an entry for each page of 4 KiB with the size of the page it is a part of. An invalidation of any part
 * of a large page takes all its entries. The way that is filled next goes round, set by set.
 */
export class Iotlb {
  readonly #page = new Float64Array(SETS * WAYS).fill(EMPTY);
  /** did | pgtt << 16. */
  readonly #tag = new Int32Array(SETS * WAYS);
  readonly #pasid = new Int32Array(SETS * WAYS);
  readonly #out = new Float64Array(SETS * WAYS);
  /** Allows, lg2 << 8, and a fault (caching mode) << 16. */
  readonly #data = new Int32Array(SETS * WAYS);
  readonly #next = new Uint8Array(SETS);
  /** Entries of large pages that may be there: none makes an invalidation of few pages quick. */
  #large = 0;

  /** The slot of a translation; -1 where it is not there. `low` are the lowest bits of the page. */
  find(low: number, page: number, tag: number, pasid: number): number {
    const first = ((low ^ (low >>> 6) ^ tag ^ pasid) & (SETS - 1)) << 2;
    const pages = this.#page;
    for (let slot = first; slot < first + WAYS; slot++) {
      if (pages[slot] === page && this.#tag[slot] === tag && this.#pasid[slot] === pasid)
        return slot;
    }
    return -1;
  }

  allows(slot: number): number {
    return (this.#data[slot] ?? 0) & 0xff;
  }

  lg2(slot: number): number {
    return ((this.#data[slot] ?? 0) >>> 8) & 0xff;
  }

  /** The reason with which what is cached refuses; 0 for a translation. */
  fault(slot: number): number {
    return (this.#data[slot] ?? 0) >>> 16;
  }

  out(slot: number): number {
    return this.#out[slot] ?? 0;
  }

  put(
    low: number,
    page: number,
    tag: number,
    pasid: number,
    out: number,
    allows: number,
    lg2: number,
    fault: number,
  ): void {
    let slot = this.find(low, page, tag, pasid);
    if (slot < 0) {
      const set = (low ^ (low >>> 6) ^ tag ^ pasid) & (SETS - 1);
      const way = this.#next[set] ?? 0;
      this.#next[set] = (way + 1) & (WAYS - 1);
      slot = (set << 2) + way;
    }
    this.#page[slot] = page;
    this.#tag[slot] = tag;
    this.#pasid[slot] = pasid;
    this.#out[slot] = out;
    this.#data[slot] = allows | (lg2 << 8) | (fault << 16);
    if (lg2 > 0) this.#large = 1;
  }

  clear(): void {
    this.#page.fill(EMPTY);
    this.#large = 0;
  }

  invalidate(scope: Scope): void {
    const { did, page, lg2 } = scope;
    if (did < 0) {
      this.clear();
      return;
    }
    if (page !== undefined && lg2 === 0 && this.#large === 0 && scope.pasid !== undefined) {
      // One page of one PASID: its two sets.
      for (const pgtt of [Pgtt.FIRST, Pgtt.NESTED]) {
        const slot = this.find(page % 2 ** 20, page, did | (pgtt << 16), scope.pasid);
        if (slot >= 0) this.#page[slot] = EMPTY;
      }
      return;
    }
    const pages = this.#page;
    for (let slot = 0; slot < SETS * WAYS; slot++) {
      if (pages[slot] !== EMPTY && this.#isMeant(slot, scope)) pages[slot] = EMPTY;
    }
  }

  #isMeant(slot: number, { did, pasid, page, lg2 }: Scope): boolean {
    const tag = this.#tag[slot] ?? 0;
    if ((tag & 0xffff) !== did) return false;
    const hasFirst = tag >>> 16 === Pgtt.FIRST || tag >>> 16 === Pgtt.NESTED;
    if (pasid === undefined) {
      // What has a first stage goes as a whole: which of its addresses are meant is not known.
      if (hasFirst || page === undefined) return true;
    } else {
      if (this.#pasid[slot] !== pasid) return false;
      if (page === undefined) return true;
      // Pages of a PASID are those of its first stage.
      if (!hasFirst) return false;
    }
    const size = 2 ** Math.max(lg2, this.lg2(slot));
    return Math.floor((this.#page[slot] ?? 0) / size) === Math.floor(page / size);
  }
}
