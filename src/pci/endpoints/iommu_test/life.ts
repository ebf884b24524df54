// SPDX-License-Identifier: Apache-2.0
/** Counts resets: what was under way before one has no effect after it. */
export class Life {
  #resets = 0;

  reset(): void {
    this.#resets++;
  }

  /** Whether no reset has come since now, whenever it is asked. */
  fromNow(): () => boolean {
    const then = this.#resets;
    return () => then === this.#resets;
  }
}
