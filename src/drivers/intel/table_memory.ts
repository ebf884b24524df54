// SPDX-License-Identifier: Apache-2.0
import { type Ram, FRAME_LANES } from '../../memory/ram.ts';
import type { Sim } from '../../sim/sim.ts';

/** Makes the hardware see bytes of a frame, where it does not look into the processor's cache. */
export type FlushMemory = (frame: number, byte: number, bytes: number) => void;

/**
 * The hardware's own tables (root, context, PASID) in memory: pages of 4 KiB, written 128 bits at a time, flushed where the hardware
 * is not coherent. After each write the hardware may run.
 */
export class TableMemory {
  readonly ram: Ram;
  readonly #sim: Sim;
  readonly #flush: FlushMemory | undefined;

  constructor(ram: Ram, sim: Sim, flush: FlushMemory | undefined) {
    this.ram = ram;
    this.#sim = sim;
    this.#flush = flush;
  }

  /** A page of zeroes: its first frame, or a negative number where there is no memory. */
  allocPage(): number {
    return this.allocPages(0);
  }

  /** 2^lg2 pages of zeroes, one after another. */
  allocPages(lg2: number): number {
    const page = this.ram.alloc(1 + lg2);
    if (page >= 0) this.#flush?.(page, 0, 4 * 2 ** (1 + lg2) * FRAME_LANES);
    return page;
  }

  /** Writes words at a word's index of a page: up to four, which the hardware sees all at once. */
  write(page: number, word: number, words: Uint32Array): void {
    const lane = this.ram.laneOf(page) + word;
    this.ram.lanesOf(page).set(words, lane);
    this.#flush?.(page, word * 4, words.length * 4);
    this.#sim.point('a table entry was written');
  }

  /** A copy of words. */
  read(page: number, word: number, count: number): Uint32Array {
    const lane = this.ram.laneOf(page) + word;
    return this.ram.lanesOf(page).slice(lane, lane + count);
  }

  free(page: number): void {
    this.ram.free(page);
  }
}
