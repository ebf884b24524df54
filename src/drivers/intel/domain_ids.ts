// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { PASS_THROUGH_DID } from './translation.ts';

/** 0 is what caching mode uses for entries that are not present, 1 is pass-through's. Source: Linux IDA_START_DID. */
const FIRST = PASS_THROUGH_DID + 1;

/** The domain ids of one unit: the lowest free one goes first. */
export class DomainIds {
  readonly #count: number;
  /** Freed ones, and the first that was never taken. */
  readonly #free: number[] = [];
  #next = FIRST;

  constructor(count: number) {
    this.#count = count;
  }

  /** Ids in use. */
  get taken(): number {
    return this.#next - FIRST - this.#free.length;
  }

  /** An id, or -ENOSPC. */
  take(): number {
    if (this.#free.length > 0) {
      const least = Math.min(...this.#free);
      this.#free.splice(this.#free.indexOf(least), 1);
      return least;
    }
    return this.#next < this.#count ? this.#next++ : -Errno.ENOSPC;
  }

  give(did: number): void {
    this.#free.push(did);
  }
}
