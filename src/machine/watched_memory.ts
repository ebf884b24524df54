// SPDX-License-Identifier: Apache-2.0
import type { FrameBytes } from '../memory/physical_memory.ts';

const ENTRY_BYTES = 8;
const ENTRIES_OF_FRAME = 256;
/** No request needs so many. */
const MOST = 1000;

/** Entries of tables that hardware has read: what was there at that moment, for a client can change it at any. */
export class EntryReads {
  readonly #read = new Map<number, bigint[]>();

  /** What was read there. */
  at(frame: number, offset: number): readonly bigint[] {
    return this.#read.get(keyOf(frame, offset)) ?? [];
  }

  add(frame: number, offset: number, entry: bigint): void {
    if (this.#read.size >= MOST) this.#read.clear();
    const known = this.#read.get(keyOf(frame, offset));
    if (known) known.push(entry);
    else this.#read.set(keyOf(frame, offset), [entry]);
  }
}

const keyOf = (frame: number, offset: number): number =>
  frame * ENTRIES_OF_FRAME + Math.floor(offset / ENTRY_BYTES);

/** Memory of clients as hardware has it, with an eye on what it reads of tables. */
export class WatchedMemory implements FrameBytes {
  readonly #memory: FrameBytes;
  #reads = new EntryReads();

  constructor(memory: FrameBytes) {
    this.#memory = memory;
  }

  /** What was read since the last time. */
  take(): EntryReads {
    const reads = this.#reads;
    this.#reads = new EntryReads();
    return reads;
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    const isThere = this.#memory.read(frame, offset, into);
    if (isThere && into.length === ENTRY_BYTES) {
      const entry = new DataView(into.buffer, into.byteOffset).getBigUint64(0, true);
      this.#reads.add(frame, offset, entry);
    }
    return isThere;
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    return this.#memory.write(frame, offset, from);
  }
}
