// SPDX-License-Identifier: Apache-2.0
import { DESCRIPTOR_WORDS, deviceOf } from './descriptors.ts';

/** Descriptors that go to the hardware in one submission; made once and used again, so that a flush allocates nothing. */
export class Batch {
  readonly #descriptors: Uint32Array[] = [];
  count = 0;
  /** It is done when page requests that came before it are in memory too. */
  drainsPageRequests = false;

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

  /** The devices whose own caches it is for. */
  get devices(): Set<number> {
    const found = new Set<number>();
    for (let i = 0; i < this.count; i++) {
      const device = deviceOf(this.at(i));
      if (device !== undefined) found.add(device);
    }
    return found;
  }

  /** Takes out what is for a device's own cache. */
  dropDevice(sourceId: number): void {
    for (let i = this.count - 1; i >= 0; i--) {
      if (deviceOf(this.at(i)) !== sourceId) continue;
      const [dropped] = this.#descriptors.splice(i, 1);
      if (dropped) this.#descriptors.push(dropped);
      this.count--;
    }
  }

  reset(): void {
    this.count = 0;
    this.drainsPageRequests = false;
  }
}
