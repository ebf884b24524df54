// SPDX-License-Identifier: Apache-2.0
import { readSync, writeSync } from 'node:fs';

/** Fewer than fill a pipe, because a full one polls as not writable. */
const MOST_BYTES = 64;

/**
 * What poll and epoll answer for a queue: the client's descriptor is an end of a pipe, readable while there are bytes in it. We hold another
 * end, and put bytes in and take them out; no client reads them, since reads of the queue are answered by the engine.
 */
export class Readiness {
  private readonly end: number;
  private readonly scratch = new Uint8Array(MOST_BYTES);
  private bytes = 0;

  /** `end` is open for reading and writing. */
  constructor(end: number) {
    this.end = end;
  }

  /** Called again while it is readable, it wakes edge-triggered waiters again, as each new entry of a queue does. */
  set(readable: boolean): void {
    if (this.bytes > 0 && (!readable || this.bytes === MOST_BYTES)) {
      readSync(this.end, this.scratch);
      this.bytes = 0;
    }
    if (readable) this.bytes += writeSync(this.end, this.scratch, 0, 1);
  }
}
