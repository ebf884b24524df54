// SPDX-License-Identifier: Apache-2.0
import { FRAME_SIZE } from './frame.ts';
import type { Ram } from './ram.ts';

/** Frames that are read and written from outside; false where their bytes cannot be reached. `ClientMemory` is one. */
export interface FrameBytes {
  read(frame: number, offset: number, into: Uint8Array): boolean;
  write(frame: number, offset: number, from: Uint8Array): boolean;
}

/** All memory of a machine: its own RAM, where the pages of simulated processes are, and that of its clients. */
export class PhysicalMemory implements FrameBytes {
  readonly #ram: Ram;
  readonly #clients: FrameBytes;

  constructor(ram: Ram, clients: FrameBytes) {
    this.#ram = ram;
    this.#clients = clients;
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    if (!this.#ram.has(frame)) return this.#clients.read(frame, offset, into);
    return this.#each(frame, offset, into, (ram, bytes) => bytes.set(ram));
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    if (!this.#ram.has(frame)) return this.#clients.write(frame, offset, from);
    return this.#each(frame, offset, from, (ram, bytes) => ram.set(bytes));
  }

  /** Frame by frame; false at the first that was never in use. */
  #each(
    frame: number,
    offset: number,
    bytes: Uint8Array,
    move: (ram: Uint8Array, bytes: Uint8Array) => void,
  ): boolean {
    let at = frame + Math.floor(offset / FRAME_SIZE);
    let start = offset % FRAME_SIZE;
    for (let done = 0; done < bytes.length; at++, start = 0) {
      if (!this.#ram.isMade(at)) return false;
      const length = Math.min(FRAME_SIZE - start, bytes.length - done);
      move(
        this.#ram.bytes(at).subarray(start, start + length),
        bytes.subarray(done, done + length),
      );
      done += length;
    }
    return true;
  }
}
