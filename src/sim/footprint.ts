// SPDX-License-Identifier: Apache-2.0

/** Names something shared: the same in every run of a program. Locks are numbers, in order of their making. */
export type TouchKey = string | number;

/**
 * What a stretch of a task touched, between one place where somebody else could have run and the next. Two stretches with nothing in
 * common can change places, and nobody sees a difference.
 */
export class Footprint {
  /** True: it was changed. */
  readonly #keys = new Map<TouchKey, boolean>();
  #everything = false;
  #isParked = false;

  touch(key: TouchKey, write: boolean): void {
    this.#keys.set(key, write || (this.#keys.get(key) ?? false));
  }

  touchEverything(): void {
    this.#everything = true;
  }

  /** It begins or ends in the middle of a step: who is on top of the stack decides who can go on. */
  park(): void {
    this.#isParked = true;
  }

  /** Neither changes what the other touched. One of which nothing is known has touched everything. */
  commutesWith(other: Footprint): boolean {
    if (this.#isUnknown || other.#isUnknown || (this.#isParked && other.#isParked)) return false;
    for (const [key, write] of this.#keys) {
      const theirs = other.#keys.get(key);
      if (theirs !== undefined && (write || theirs)) return false;
    }
    return true;
  }

  get #isUnknown(): boolean {
    return this.#everything || this.#keys.size === 0;
  }
}
