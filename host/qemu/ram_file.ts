// SPDX-License-Identifier: Apache-2.0
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { HostError } from '../host_error.ts';
import { openLibc } from '../libc.ts';

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/**
 * A file that is the memory of another process, mapped into this one: what either writes, the other reads. It is as long as asked from
 * the start, and takes room only where it was written to.
 */
export class RamFile {
  readonly path: string;
  readonly #bytes: number;
  readonly #libc = openLibc();
  #base = 0;

  constructor(path: string, bytes: number) {
    this.path = path;
    this.#bytes = bytes;
    const fd = openSync(path, 'wx+', 0o600);
    try {
      ftruncateSync(fd, bytes);
      this.#base = this.#libc.mmap(0, bytes, PROT_READ_WRITE, MAP_SHARED, fd, 0);
    } finally {
      closeSync(fd);
    }
    if (this.#base === -1) throw new HostError(`${path} cannot be mapped (${this.#libc.errno()})`);
  }

  /** The bytes themselves. Of one place at most one view may be made. Nobody may use one after `unmap`. */
  view(offset: number, bytes: number): ArrayBuffer {
    if (offset < 0 || offset + bytes > this.#bytes || this.#base === 0) {
      throw new RangeError(`bytes ${offset} to ${offset + bytes} of a file of ${this.#bytes}`);
    }
    return this.#libc.view(this.#base + offset, bytes);
  }

  unmap(): void {
    if (this.#base > 0) this.#libc.munmap(this.#base, this.#bytes);
    this.#base = 0;
  }
}
