// SPDX-License-Identifier: Apache-2.0
import { DESCRIPTOR_WORDS } from './descriptors.ts';

/** Descriptors that go to the hardware in one submission; made once and used again, so that a flush allocates nothing. */
export class Batch {
  readonly #descriptors: Uint32Array[] = [];
  count = 0;

  /** Words for one more. */
  next(): Uint32Array {
    const index = this.count++;
    return (this.#descriptors[index] ??= new Uint32Array(DESCRIPTOR_WORDS));
  }

  at(index: number): Uint32Array {
    const words = this.#descriptors[index];
    if (index >= this.count || !words) throw new RangeError(`descriptor ${index} of ${this.count}`);
    return words;
  }

  reset(): void {
    this.count = 0;
  }
}
