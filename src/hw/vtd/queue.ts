// SPDX-License-Identifier: Apache-2.0
import { type Body, until } from '../../sim/task.ts';
import type { DeviceTlbs } from './device_tlbs.ts';
import { EventInterrupt, type FaultLog, QueueError, type SendMessage } from './fault_log.ts';
import { DescriptorType, type Invalidation } from './invalidation.ts';
import type { PageRequestQueue } from './page_requests.ts';
import type { PhysicalMemory } from './physical_memory.ts';
import type { RegisterFile } from './register_file.ts';
import { Iqei, Offset } from './registers.ts';

const [DW, QS] = [0x800, 7];
/** Of a wait: interrupt, write a word, hold what follows until it is complete, wait for page requests that are on their way. */
const [IF, SW, FN, PD] = [0x10, 0x20, 0x40, 0x80];
const POINTER = 0x7_fff0;

/** The translation table mode (TTM) that is in force. */
export interface TranslationMode {
  readonly isScalable: boolean;
  /** The unit has descriptors of 256 bits: only one with scalable mode. */
  readonly takesWide: boolean;
  /** It is one that the unit has. */
  readonly isKnown: boolean;
}

/** A wait that was taken and is not complete. */
interface PendingWait {
  readonly words: Uint32Array;
  /** Invalidations of device TLBs up to this one have to be complete. */
  readonly invalidations: number;
  /** And page requests that have come till then have to be in memory (PD). */
  readonly drains: boolean;
}

export interface QueueParts {
  readonly invalidation: Invalidation;
  readonly deviceTlbs: DeviceTlbs;
  readonly pageRequests: PageRequestQueue;
  readonly log: FaultLog;
  readonly send: SendMessage;
  readonly mode: TranslationMode;
}

/** The invalidation queue: takes descriptors out of memory one by one, as a task. */
export class InvalidationQueue {
  readonly event: EventInterrupt;
  isOn = false;
  readonly #registers: RegisterFile;
  readonly #memory: PhysicalMemory;
  readonly #parts: QueueParts;
  readonly #words = new Uint32Array(8);
  readonly #waits: PendingWait[] = [];
  /** The head is at a descriptor for a device that takes no more at the moment. */
  #isHeldUp = false;

  constructor(registers: RegisterFile, memory: PhysicalMemory, parts: QueueParts) {
    this.#registers = registers;
    this.#memory = memory;
    this.#parts = parts;
    this.event = new EventInterrupt(registers, Offset.IECTL, parts.send);
  }

  /** QIE turned on or off: the head starts anew. */
  turn(isOn: boolean): void {
    this.isOn = isOn;
    this.#registers.set(Offset.IQH, 0);
    this.#waits.length = 0;
    this.#isHeldUp = false;
  }

  /** A device did not answer: waits that were taken come to nothing, and the queue stops until software has seen it. */
  timedOut(sid: number): void {
    this.#waits.length = 0;
    this.#blame(sid, 0, 0xffff_0000, QueueError.ITE);
  }

  /** A device answered what nobody asked. */
  stray(sid: number): void {
    this.#blame(sid, 16, 0xffff, QueueError.ICE);
  }

  get hasWork(): boolean {
    if (!this.isOn) return false;
    if (this.#waits.length > 0 && this.#isDue(this.#waits[0])) return true;
    if (this.#parts.log.stopsQueue || this.#isFenced) return false;
    if (this.#isHeldUp && !this.#parts.invalidation.canTake(this.#words)) return false;
    return this.#registers.get(Offset.IQH) !== (this.#registers.get(Offset.IQT) & POINTER);
  }

  get #isFenced(): boolean {
    return this.#waits.some(({ words }) => ((words[0] ?? 0) & FN) !== 0);
  }

  *body(): Body {
    for (;;) {
      yield until('a descriptor', () => this.hasWork);
      this.step();
      yield 'a descriptor was carried out';
    }
  }

  /** Completes a wait, or carries out one descriptor. */
  step(): void {
    if (!this.hasWork) return;
    const [wait] = this.#waits;
    if (this.#isDue(wait)) {
      this.#waits.shift();
      this.#complete(wait.words);
      return;
    }
    this.#isHeldUp = false;
    const registers = this.#registers;
    const base = registers.get(Offset.IQA);
    const isWide = (base & DW) !== 0;
    const bytes = isWide ? 32 : 16;
    const size = 2 ** ((base & QS) + 12);
    const head = registers.get(Offset.IQH);
    const tail = registers.get(Offset.IQT) & POINTER;
    if (tail >= size) return this.#stop(Iqei.INVALID_TAIL);
    if (tail % bytes !== 0) return this.#stop(Iqei.TAIL_MISALIGNED);
    if (!this.#parts.mode.isKnown) return this.#stop(Iqei.INVALID_TTM);
    if (isWide ? !this.#parts.mode.takesWide : this.#parts.mode.isScalable)
      return this.#stop(Iqei.INVALID_WIDTH);
    const page = registers.get(Offset.IQA + 4) * 2 ** 20 + (base >>> 12) + (head >>> 12);
    const words = this.#words;
    words.fill(0);
    for (let i = 0; i < bytes / 8; i++) {
      if (!this.#memory.read(page, ((head & 0xfff) >>> 3) + i, true)) return this.#stop(Iqei.FETCH);
      words[i * 2] = this.#memory.entry[0] ?? 0;
      words[i * 2 + 1] = this.#memory.entry[1] ?? 0;
    }
    const result = this.#carryOut(words, bytes / 4, (head + bytes) % size);
    if (result > 0) this.#stop(result);
  }

  /** 0, and the head is at `next`, or the number of an error. */
  #carryOut(words: Uint32Array, count: number, next: number): number {
    const { invalidation, deviceTlbs } = this.#parts;
    const bad = invalidation.check(words, count);
    if (bad !== 0) return bad;
    const w0 = words[0] ?? 0;
    if ((w0 & 0xf) === DescriptorType.WAIT) {
      this.#registers.set(Offset.IQH, next);
      const drains = (w0 & PD) !== 0;
      const wait = { words, invalidations: deviceTlbs.sent, drains };
      if (this.#waits.length === 0 && this.#isDue(wait)) this.#complete(words);
      else this.#waits.push({ ...wait, words: words.slice() });
      return 0;
    }
    if (!invalidation.canTake(words)) {
      this.#isHeldUp = true;
      return 0;
    }
    const result = invalidation.execute(words, count);
    if (result === 0) this.#registers.set(Offset.IQH, next);
    return result;
  }

  #isDue(wait: PendingWait | undefined): wait is PendingWait {
    if (wait === undefined) return false;
    const { deviceTlbs, pageRequests } = this.#parts;
    if (wait.drains && pageRequests.isOnTheWay) return false;
    return deviceTlbs.oldest > wait.invalidations;
  }

  #complete(words: Uint32Array): void {
    const w0 = words[0] ?? 0;
    // What is no memory takes the word and forgets it.
    if ((w0 & SW) !== 0) {
      const lo = words[2] ?? 0;
      const page = (words[3] ?? 0) * 2 ** 20 + (lo >>> 12);
      this.#memory.writeWord(page, lo & 0xffc, words[1] ?? 0);
    }
    if ((w0 & IF) !== 0 && (this.#registers.get(Offset.ICS) & 1) === 0) {
      this.#registers.set(Offset.ICS, 1);
      this.event.raise();
    }
  }

  /** The first one to blame stays. */
  #blame(sid: number, shift: number, keep: number, error: number): void {
    const registers = this.#registers;
    if ((registers.get(Offset.FSTS) & error) === 0) {
      const held = registers.get(Offset.IQERCD + 4) & keep;
      registers.set(Offset.IQERCD + 4, (held | (sid << shift)) >>> 0);
    }
    this.#parts.log.queueError(error);
  }

  #stop(info: number): void {
    this.#registers.set(Offset.IQERCD, info);
    this.#parts.log.queueError(QueueError.IQE);
  }
}
