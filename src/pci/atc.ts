// SPDX-License-Identifier: Apache-2.0
import { type AtsEntry, type AtsRange, decodeRange } from './ats_entry.ts';
import type { InvalidateRequest } from './ats_messages.ts';
import type { DmaAccess } from './translator.ts';

/** A translation that a function keeps. */
export interface CachedTranslation {
  /** Undefined: of requests without a PASID. */
  readonly pasid: number | undefined;
  readonly iova: AtsRange;
  readonly entry: AtsEntry;
  /** DMAs under way that have looked it up and have not moved their bytes. */
  uses: number;
}

/** An address translation cache: what ATS gave a function. The oldest goes where it is full. */
export class AddressTranslationCache {
  readonly #capacity: number;
  #entries: CachedTranslation[] = [];

  constructor(capacity = 64) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#entries.length;
  }

  /** The entry that lets an access through at an address; undefined: a translation has to be asked for. */
  find(
    pasid: number | undefined,
    iova: bigint,
    access: DmaAccess,
    execute = false,
  ): CachedTranslation | undefined {
    return this.#entries.find(
      (one) =>
        (one.pasid === pasid || (one.entry.global && pasid !== undefined)) &&
        covers(one.iova, iova) &&
        (access === 'read' ? one.entry.read : one.entry.write) &&
        (!execute || one.entry.execute),
    );
  }

  /** Keeps an entry; one that allows nothing is not kept. The entry goes in place of others for the same address. */
  insert(pasid: number | undefined, iova: bigint, entry: AtsEntry): CachedTranslation | undefined {
    if ((!entry.read && !entry.write) || entry.untranslatedOnly) return undefined;
    const size = 1n << BigInt(entry.sizeLg2);
    const range = { start: (iova / size) * size, sizeLg2: entry.sizeLg2 };
    const made: CachedTranslation = { pasid, iova: range, entry, uses: 0 };
    this.#entries = this.#entries.filter((one) => one.pasid !== pasid || !overlap(one.iova, range));
    this.#entries.push(made);
    if (this.#entries.length > this.#capacity) this.#entries.shift();
    return made;
  }

  /** Forgets what an invalidation names and returns it: it is complete when none of that is in use. */
  invalidate({ pasid, range, global }: InvalidateRequest): CachedTranslation[] {
    const gone = decodeRange(range);
    const isHit = (one: CachedTranslation): boolean =>
      (global || one.pasid === pasid || (one.entry.global && pasid !== undefined)) &&
      overlap(one.iova, gone);
    const hit = this.#entries.filter(isHit);
    this.#entries = this.#entries.filter((one) => !isHit(one));
    return hit;
  }

  clear(): void {
    this.#entries = [];
  }
}

const endOf = ({ start, sizeLg2 }: AtsRange): bigint => start + (1n << BigInt(sizeLg2));
const covers = (range: AtsRange, at: bigint): boolean => at >= range.start && at < endOf(range);
const overlap = (a: AtsRange, b: AtsRange): boolean => a.start < endOf(b) && b.start < endOf(a);
