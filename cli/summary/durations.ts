// SPDX-License-Identifier: Apache-2.0

/** Buckets to a doubling: neighbours differ by 2.2 %. */
const perDoubling = 32;
/** Down to 2^-8 us (4 ns) and up to 2^32 us (over an hour). */
const doublingsBelowOne = 8;
const doublings = doublingsBelowOne + 32;

/**
 * Durations in microseconds, kept as counts in buckets of equal ratio: the total is exact and the median right within
 * 1.1 %, in 10 KB whatever the number of calls.
 */
export class Durations {
  #count = 0;
  #total = 0;
  readonly #buckets = new Float64Array(doublings * perDoubling);

  get count(): number {
    return this.#count;
  }

  /** In microseconds. */
  get total(): number {
    return this.#total;
  }

  add(microseconds: number): void {
    this.#count++;
    this.#total += microseconds;
    const exponent = Math.log2(Math.max(microseconds, Number.MIN_VALUE)) + doublingsBelowOne;
    const last = this.#buckets.length - 1;
    const index = Math.min(last, Math.max(0, Math.floor(exponent * perDoubling)));
    this.#buckets[index] = (this.#buckets[index] ?? 0) + 1;
  }

  /** In microseconds; 0 where there are none. */
  get median(): number {
    let before = 0;
    for (const [index, count] of this.#buckets.entries()) {
      before += count;
      if (count > 0 && before * 2 >= this.#count) {
        return 2 ** ((index + 0.5) / perDoubling - doublingsBelowOne);
      }
    }
    return 0;
  }
}
