// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import type { Hardware } from '../../kernel/hardware.ts';
import { FRAME_SIZE } from '../../memory/frame.ts';
import type { Faults } from '../../sim/faults.ts';
import type { Batch } from './batch.ts';
import { DESCRIPTOR_WORDS, waitAndWrite } from './descriptors.ts';
import { Fsts, Iqa, Reg } from './registers.ts';

/** Descriptors that the queue holds. Source: Linux QI_LENGTH. */
const LENGTH = 256;
/**
 * How long the hardware may take before it counts as broken, in ns: longer than it waits itself for a device, for which PCIe has a minute and
 * half of one. Linux waits for ever.
 */
const TIMEOUT_NS = 100e9;

const PENDING = 0;
const DONE = 2;

/** A submission: its first and last descriptor, how many it has, whether it is over, and how it ended. */
interface Pending {
  readonly first: number;
  readonly last: number;
  readonly needed: number;
  isOver: boolean;
  outcome: number | undefined;
}

export interface QueueOptions {
  readonly hardware: Hardware;
  readonly faults: Faults;
  /** Descriptors have 256 bits (scalable mode) instead of 128. */
  readonly isWide: boolean;
  /** The hardware does not look into the processor's cache. */
  readonly isIncoherent: boolean;
}

/**
 * The invalidation queue: descriptors in memory, of which the hardware is told by its tail. Each submission ends with a descriptor that
 * writes a word of memory when all before it is done; several can be under way. Counterpart of `struct q_inval`.
 */
export class InvalidationQueue {
  readonly #hardware: Hardware;
  readonly #options: QueueOptions;
  /** First frames of the queue, and of the words that say which submission is done: one for each descriptor. */
  readonly #queue: number;
  readonly #status: number;
  readonly #statusWords: Uint32Array;
  readonly #words: number;
  readonly #wait = new Uint32Array(DESCRIPTOR_WORDS);
  #tail = 0;
  /** Submissions that are not over, and descriptors in use for them. */
  readonly #pending: Pending[] = [];
  #inUse = 0;
  /** The device that last let an invalidation time out, where the hardware says which. */
  #timedOut: number | undefined = undefined;
  /** Submissions so far, and descriptors without those that wait: for tests and benchmarks. */
  submissions = 0;
  descriptors = 0;

  private constructor(options: QueueOptions, queue: number, status: number) {
    this.#options = options;
    this.#hardware = options.hardware;
    this.#queue = queue;
    this.#status = status;
    const { ram } = options.hardware.mem;
    const lane = ram.laneOf(status);
    this.#statusWords = ram.lanesOf(status).subarray(lane, lane + LENGTH);
    this.#words = options.isWide ? DESCRIPTOR_WORDS : DESCRIPTOR_WORDS / 2;
  }

  /** Memory for a queue; or -ENOMEM. The hardware does not know it before `start`. */
  static create(options: QueueOptions): InvalidationQueue | number {
    const { ram } = options.hardware.mem;
    // 256 descriptors of 16 bytes are 4 KiB, of 32 bytes 8 KiB; 256 words 1 KiB.
    const queue = ram.alloc(options.isWide ? 2 : 1);
    if (queue < 0) return -Errno.ENOMEM;
    const status = ram.alloc(0);
    if (status >= 0) return new InvalidationQueue(options, queue, status);
    ram.free(queue);
    return -Errno.ENOMEM;
  }

  free(): void {
    const { ram } = this.#hardware.mem;
    ram.free(this.#queue);
    ram.free(this.#status);
  }

  /** Tells the hardware where the queue is; the command that turns it on follows. */
  start(): void {
    const { mmio } = this.#hardware;
    const { isWide } = this.#options;
    mmio.write32(Reg.IQT, 0);
    const base = BigInt(this.#queue) * BigInt(FRAME_SIZE);
    mmio.write64(Reg.IQA, base | BigInt(isWide ? Iqa.DW | 1 : 0));
  }

  /**
   * Has the hardware carry out what a batch holds, and waits until it has. 0; -EIO where an injected failure refuses the submission, and
   * nothing was submitted; -EINVAL for a descriptor that the hardware does not take; -ETIMEDOUT where it does not answer.
   */
  submit(batch: Batch): number {
    if (this.#options.faults.point('command')) return -Errno.EIO;
    const { clock, mmio } = this.#hardware;
    const needed = batch.count + 1;
    if (!this.#hasRoom(needed) && !clock.poll(() => this.#hasRoom(needed), TIMEOUT_NS)) {
      return -Errno.ETIMEDOUT;
    }
    const first = this.#tail;
    const last = (first + batch.count) % LENGTH;
    const pending: Pending = { first, last, needed, isOver: false, outcome: undefined };
    const words = this.#statusWords;
    words[last] = PENDING;
    for (let i = 0; i < batch.count; i++) this.#put((first + i) % LENGTH, batch.at(i));
    this.#putWait(last, last, batch.drainsPageRequests);
    this.#tail = (first + needed) % LENGTH;
    this.#inUse += needed;
    this.#pending.push(pending);
    this.submissions++;
    this.descriptors += batch.count;
    mmio.write32(Reg.IQT, this.#tail * this.#words * 4);
    if (!this.#isOver(pending)) clock.poll(() => this.#isOver(pending), TIMEOUT_NS);
    this.#end(pending, -Errno.ETIMEDOUT);
    return pending.outcome ?? 0;
  }

  /** The device that let an invalidation time out, told once; undefined where none did. */
  takeTimedOut(): number | undefined {
    const device = this.#timedOut;
    this.#timedOut = undefined;
    return device;
  }

  /** There is room for so many. One stays free, or a full queue would look empty. */
  #hasRoom(needed: number): boolean {
    this.#reclaim();
    return this.#inUse + needed < LENGTH;
  }

  #isOver(pending: Pending): boolean {
    this.#reclaim();
    if (!pending.isOver) {
      this.#checkErrors();
      // While a register is read the hardware goes on.
      this.#reclaim();
    }
    return pending.isOver;
  }

  /** What the hardware has done is over, whoever waits for it, and its descriptors are free. */
  #reclaim(): void {
    // From the end, as what is over is taken out.
    for (let i = this.#pending.length - 1; i >= 0; i--) {
      const pending = this.#pending[i];
      if (pending && this.#statusWords[pending.last] === DONE) this.#end(pending, 0);
    }
  }

  /** A submission is over, unless it is already. */
  #end(pending: Pending, outcome: number): void {
    if (pending.isOver) return;
    pending.isOver = true;
    this.#pending.splice(this.#pending.indexOf(pending), 1);
    this.#inUse -= pending.needed;
    pending.outcome ??= outcome;
  }

  /**
   * What the hardware says of its queue, for all that wait. At an invalid descriptor the head stands still: it is made into a wait of its
   * own, so that the queue goes on. Source: Linux `qi_check_fault()`.
   */
  #checkErrors(): void {
    const { mmio } = this.#hardware;
    const status = mmio.read32(Reg.FSTS);
    if (status & Fsts.ICE) mmio.write32(Reg.FSTS, Fsts.ICE);
    if (status & Fsts.ITE) {
      // A device did not answer: the hardware has dropped the waits that were pending, whosever they are. 0: it does not say which.
      const device = Number((mmio.read64(Reg.IQER) >> 32n) & 0xffffn);
      if (device !== 0) this.#timedOut = device;
      for (const dropped of [...this.#pending]) this.#end(dropped, -Errno.ETIMEDOUT);
      mmio.write32(Reg.FSTS, Fsts.ITE);
    }
    if ((status & Fsts.IQE) === 0) return;
    const head = mmio.read32(Reg.IQH) / (this.#words * 4);
    const refused = this.#pending.find(
      ({ first, needed }) => (head - first + LENGTH) % LENGTH < needed,
    );
    if (refused) refused.outcome = -Errno.EINVAL;
    this.#putWait(head, head);
    mmio.write32(Reg.FSTS, Fsts.IQE);
  }

  /** A descriptor at `index` that writes the word of the submission that ends at `last`. */
  #putWait(index: number, last: number, drains = false): void {
    const address = this.#status * FRAME_SIZE + last * 4;
    waitAndWrite(this.#wait, DONE, address >>> 0, Math.floor(address / 2 ** 32), drains);
    this.#put(index, this.#wait);
  }

  #put(index: number, words: Uint32Array): void {
    const { ram } = this.#hardware.mem;
    const lanes = ram.lanesOf(this.#queue);
    const lane = ram.laneOf(this.#queue) + index * this.#words;
    for (let i = 0; i < this.#words; i++) lanes[lane + i] = words[i] ?? 0;
    this.#flush(this.#queue, index * this.#words * 4, this.#words * 4);
  }

  #flush(frame: number, byte: number, bytes: number): void {
    if (this.#options.isIncoherent) this.#hardware.mem.flush(frame, byte, bytes);
  }
}
