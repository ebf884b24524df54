// SPDX-License-Identifier: Apache-2.0
import { type Body, until } from '../../sim/task.ts';
import { EventInterrupt, type FaultLog, QueueError, type SendMessage } from './fault_log.ts';
import { DescriptorType, type Invalidation, STRAY_ANSWER, TIMED_OUT } from './invalidation.ts';
import type { PhysicalMemory } from './physical_memory.ts';
import type { RegisterFile } from './register_file.ts';
import { Iqei, Offset } from './registers.ts';

const [DW, QS] = [0x800, 7];
/** Of a wait: interrupt, write a word. What is before it is always done first, so that its fence needs nothing. */
const [IF, SW] = [0x10, 0x20];
const POINTER = 0x7_fff0;

/** The translation table mode (TTM) that is in force. */
export interface TranslationMode {
  readonly isScalable: boolean;
  /** It is one that the unit has. */
  readonly isKnown: boolean;
}

/** The invalidation queue: takes descriptors out of memory one by one, as a task. */
export class InvalidationQueue {
  readonly event: EventInterrupt;
  isOn = false;
  readonly #registers: RegisterFile;
  readonly #memory: PhysicalMemory;
  readonly #invalidation: Invalidation;
  readonly #log: FaultLog;
  readonly #mode: TranslationMode;
  readonly #words = new Uint32Array(8);
  /** Waits before this place are dropped, for a device did not answer. -1: none. */
  #abortsUpTo = -1;

  constructor(
    registers: RegisterFile,
    memory: PhysicalMemory,
    invalidation: Invalidation,
    log: FaultLog,
    hooks: { readonly send: SendMessage; readonly mode: TranslationMode },
  ) {
    this.#registers = registers;
    this.#memory = memory;
    this.#invalidation = invalidation;
    this.#log = log;
    this.#mode = hooks.mode;
    this.event = new EventInterrupt(registers, Offset.IECTL, hooks.send);
  }

  /** QIE turned on or off: the head starts anew. */
  turn(isOn: boolean): void {
    this.isOn = isOn;
    this.#registers.set(Offset.IQH, 0);
    this.#abortsUpTo = -1;
  }

  get hasWork(): boolean {
    if (!this.isOn || this.#log.hasQueueError) return false;
    return this.#registers.get(Offset.IQH) !== (this.#registers.get(Offset.IQT) & POINTER);
  }

  *body(): Body {
    for (;;) {
      yield until('a descriptor', () => this.hasWork);
      this.step();
      yield 'a descriptor was carried out';
    }
  }

  /** Carries out one descriptor. */
  step(): void {
    if (!this.hasWork) return;
    const registers = this.#registers;
    const base = registers.get(Offset.IQA);
    const isWide = (base & DW) !== 0;
    const bytes = isWide ? 32 : 16;
    const size = 2 ** ((base & QS) + 12);
    const head = registers.get(Offset.IQH);
    const tail = registers.get(Offset.IQT) & POINTER;
    if (tail >= size) return this.#stop(Iqei.INVALID_TAIL);
    if (tail % bytes !== 0) return this.#stop(Iqei.TAIL_MISALIGNED);
    if (!this.#mode.isKnown) return this.#stop(Iqei.INVALID_TTM);
    if (!isWide && this.#mode.isScalable) return this.#stop(Iqei.INVALID_WIDTH);
    const page = registers.get(Offset.IQA + 4) * 2 ** 20 + (base >>> 12) + (head >>> 12);
    const words = this.#words;
    words.fill(0);
    for (let i = 0; i < bytes / 8; i++) {
      if (!this.#memory.read(page, ((head & 0xfff) >>> 3) + i, true)) return this.#stop(Iqei.FETCH);
      words[i * 2] = this.#memory.entry[0] ?? 0;
      words[i * 2 + 1] = this.#memory.entry[1] ?? 0;
    }
    const isAborted = this.#abortsUpTo >= 0;
    if (isAborted && head === this.#abortsUpTo) this.#abortsUpTo = -1;
    const result = this.#carryOut(words, bytes / 4);
    if (result > 0) return this.#stop(result);
    const next = (head + bytes) % size;
    registers.set(Offset.IQH, next);
    if (next === this.#abortsUpTo) this.#abortsUpTo = -1;
    if (result === TIMED_OUT) {
      this.#abortsUpTo = next === tail ? -1 : tail;
      registers.set(
        Offset.IQERCD + 4,
        (registers.get(Offset.IQERCD + 4) & 0xffff_0000) | this.#sid(words),
      );
      this.#log.queueError(QueueError.ITE);
    } else if (result === STRAY_ANSWER) {
      registers.set(
        Offset.IQERCD + 4,
        (registers.get(Offset.IQERCD + 4) & 0xffff) | (this.#sid(words) << 16),
      );
      this.#log.queueError(QueueError.ICE);
    }
  }

  #carryOut(words: Uint32Array, count: number): number {
    if (((words[0] ?? 0) & 0xf) !== DescriptorType.WAIT)
      return this.#invalidation.execute(words, count);
    const bad = this.#invalidation.check(words, count);
    if (bad !== 0) return bad;
    if (this.#abortsUpTo >= 0) return 0;
    const [w0 = 0, data = 0, lo = 0, hi = 0] = words;
    // What is no memory takes the word and forgets it.
    if ((w0 & SW) !== 0) this.#memory.writeWord(hi * 2 ** 20 + (lo >>> 12), lo & 0xffc, data);
    if ((w0 & IF) !== 0 && (this.#registers.get(Offset.ICS) & 1) === 0) {
      this.#registers.set(Offset.ICS, 1);
      this.event.raise();
    }
    return 0;
  }

  #sid(words: Uint32Array): number {
    const [w0 = 0, w1 = 0] = words;
    return (w0 & 0xf) === DescriptorType.DEVICE_TLB ? w1 & 0xffff : w0 >>> 16;
  }

  #stop(info: number): void {
    this.#registers.set(Offset.IQERCD, info);
    this.#log.queueError(QueueError.IQE);
  }
}
