// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from './errno.ts';

/** Linux hands out ids of objects up to here (`xa_limit_31b`). */
const LAST_ID = 0x7fffffff;

/**
 * Objects by id, where the lowest free id is handed out next: ids are reused at once, and programs see it. The
 * counterpart of an allocating xarray (`XA_FLAGS_ALLOC1` starts at 1).
 *
 * An id is free, or taken without a value (reserved before its object is ready, or a tombstone after it), or holds
 * one. Which ids are taken is a pyramid of bitmaps: a bit of level k+1 says that a word of level k is full, so that
 * the lowest free id takes one step a level, four for 10^6 ids. Memory follows the highest id ever taken: 8.3
 * bytes an id.
 */
export class IdTable<T> {
  readonly #firstId: number;
  readonly #lastId: number;
  /** By id - firstId. */
  readonly #values: (T | undefined)[] = [];
  /** `#levels[0]` has a bit for each id. All levels have room for the same ids; the highest is one word. */
  #levels: Uint32Array[] = [new Uint32Array(1)];
  #size = 0;
  #taken = 0;

  constructor(firstId = 1, lastId = LAST_ID) {
    this.#firstId = firstId;
    this.#lastId = lastId;
  }

  /** How many ids hold a value. */
  get size(): number {
    return this.#size;
  }

  /** True where every id is free: no values, no reservations, no tombstones. */
  isEmpty(): boolean {
    return this.#taken === 0;
  }

  /**
   * Takes the lowest free id; `get` of it gives undefined until `store`. Throws ErrnoError EBUSY where none is left, as
   * `xa_alloc` does.
   */
  reserve(): number {
    const index = this.#lowestFree();
    const id = this.#firstId + index;
    if (id > this.#lastId) {
      throw new ErrnoError('EBUSY', `no free id is left in ${this.#firstId}..${this.#lastId}`);
    }
    this.#mark(index);
    if (index === this.#values.length) this.#values.push(undefined);
    this.#taken++;
    return id;
  }

  /** Gives a taken id its value, or another one. */
  store(id: number, value: T): void {
    const index = this.#indexOfTaken(id);
    if (this.#values[index] === undefined) this.#size++;
    this.#values[index] = value;
  }

  /** The value, or undefined where the id is free or has none. */
  get(id: number): T | undefined {
    return this.#values[id - this.#firstId];
  }

  /** Frees the id, whatever it held, and returns that; a free id stays free. */
  erase(id: number): T | undefined {
    const index = id - this.#firstId;
    if (!this.#isTaken(index)) return undefined;
    const value = this.#values[index];
    if (value !== undefined) this.#size--;
    this.#values[index] = undefined;
    this.#unmark(index);
    this.#taken--;
    return value;
  }

  /** Drops the value of a taken id and keeps the id from being handed out; returns what it held. */
  tombstone(id: number): T | undefined {
    const index = this.#indexOfTaken(id);
    const value = this.#values[index];
    if (value !== undefined) this.#size--;
    this.#values[index] = undefined;
    return value;
  }

  /** Values by ascending id. Erasing and storing meanwhile is allowed; what is not yet passed shows as it is then. */
  *entries(): IterableIterator<[id: number, value: T]> {
    for (let index = 0; index < this.#values.length; index++) {
      // A whole word of free ids at once: after many objects have come and gone the table is mostly holes.
      if ((index & 31) === 0 && this.#levels[0]?.[index >>> 5] === 0) {
        index += 31;
        continue;
      }
      const value = this.#values[index];
      if (value !== undefined) yield [this.#firstId + index, value];
    }
  }

  #isTaken(index: number): boolean {
    if (!Number.isInteger(index) || index < 0 || index >= this.#values.length) return false;
    return ((word(this.#levels[0], index >>> 5) >>> (index & 31)) & 1) !== 0;
  }

  #indexOfTaken(id: number): number {
    const index = id - this.#firstId;
    if (!this.#isTaken(index)) throw new RangeError(`id ${id} is free: reserve() it first`);
    return index;
  }

  #lowestFree(): number {
    let index = 0;
    for (let level = this.#levels.length - 1; level >= 0; level--) {
      const full = word(this.#levels[level], index);
      if (full === 0xffffffff) return this.#grow(); // only the top word can be: it is asked first
      // The lowest zero bit, isolated, is a power of two; its place is 31 minus the zeros above it.
      index = index * 32 + 31 - Math.clz32(~full & (full + 1));
    }
    return index;
  }

  /** Makes room for 32 times as many ids, and returns the first new index. Words are allocated as ids need them. */
  #grow(): number {
    const capacity = 32 ** this.#levels.length;
    this.#levels.push(Uint32Array.of(1));
    return capacity;
  }

  #mark(index: number): void {
    for (let level = 0, at = index; level < this.#levels.length; level++, at = at >>> 5) {
      const place = at >>> 5;
      const words = this.#roomFor(level, place);
      const updated = word(words, place) | (1 << (at & 31));
      words[place] = updated;
      if (updated !== -1) return;
    }
  }

  #unmark(index: number): void {
    for (let level = 0, at = index; level < this.#levels.length; level++, at = at >>> 5) {
      const words = this.#levels[level];
      if (words === undefined) return;
      const place = at >>> 5;
      const before = word(words, place);
      words[place] = before & ~(1 << (at & 31));
      if (before !== 0xffffffff) return;
    }
  }

  #roomFor(level: number, place: number): Uint32Array {
    const words = this.#levels[level] ?? new Uint32Array(1);
    if (place < words.length) return words;
    const larger = new Uint32Array(Math.max(place + 1, words.length * 2));
    larger.set(words);
    this.#levels[level] = larger;
    return larger;
  }
}

/** Words that were never allocated are all free. */
function word(words: Uint32Array | undefined, place: number): number {
  return words?.[place] ?? 0;
}
