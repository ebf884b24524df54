// SPDX-License-Identifier: Apache-2.0
import type { Hardware, InterruptMessage } from '../../kernel/hardware.ts';
import { FRAME_SIZE } from '../../memory/frame.ts';
import { FRAME_LANES, type Ram } from '../../memory/ram.ts';
import type { Sim } from '../../sim/sim.ts';
import { deviceOf } from './descriptors.ts';
import { inWords } from './fake_words.ts';

/**
 * For tests of the driver alone: registers, and a queue that tells in words what it was asked. It translates nothing. What the hardware
 * really makes of tables and invalidations, its model shows.
 */

const [VER, CAP, ECAP, GCMD, GSTS, RTADDR] = [0, 8, 0x10, 0x18, 0x1c, 0x20];
const [FSTS, FECTL, PMEN, IQH, IQT, IQA] = [0x34, 0x38, 0x64, 0x80, 0x88, 0x90];
const IQER = 0xb0;
const [PQH, PQT, PQA, PRS, PECTL] = [0xc0, 0xc8, 0xd0, 0xdc, 0xe0];
const [PPR, PRO] = [1, 2];
const FEDATA = 0x3c;
const PEDATA = 0xe4;
const MASKED = 0x8000_0000;
const ONE_SHOTS = 0x4800_0000;
const WBF = 0x0800_0000;
const QIE = 0x0400_0000;
const SRTP = 0x4000_0000;
const [IQE, ICE, ITE] = [0x10, 0x20, 0x40];

export interface FakeOptions {
  readonly cap?: bigint;
  readonly ecap?: bigint;
}

/** Bits of CAP and ECAP by place. */
export const bits = (...places: readonly (readonly [value: number, lsb: number])[]): bigint =>
  places.reduce((all, [value, lsb]) => all | (BigInt(value) << BigInt(lsb)), 0n);

/** 48 and 57 bits, 2 MiB and 1 GiB, pages of up to 2^18 at once, drains, 256 ids, 8 fault records at 0x400. */
export const CAP_ALL = bits(
  [2, 0],
  [0b01100, 8],
  [47, 16],
  [0x40, 24],
  [3, 34],
  [1, 39],
  [7, 40],
  [18, 48],
  [3, 54],
  [1, 56],
);
/** Coherent, queue, pass-through, snoop control. */
export const ECAP_LEGACY = bits([1, 0], [1, 1], [1, 6], [1, 7], [0x50, 8]);
/** Beside that: scalable, nested, dirty, both stages, supervisor, coherent walks. */
export const ECAP_SCALABLE =
  ECAP_LEGACY | bits([1, 26], [1, 31], [1, 43], [1, 45], [1, 46], [1, 47], [1, 48]);

/** Beside that: device TLBs, and PASIDs of 20 bits. */
export const ECAP_PASID = ECAP_SCALABLE | bits([1, 2], [19, 35], [1, 40]);

/** Beside that: page requests, which can be drained. */
export const ECAP_PRI = ECAP_PASID | bits([1, 29], [1, 42]);

/** What a device asks for. */
export interface FakePageRequest {
  readonly sourceId: number;
  readonly pasid?: number;
  readonly address: bigint;
  readonly group: number;
  /** Letters r, w, x, p. */
  readonly access: string;
  /** True unless told. */
  readonly isLast?: boolean;
  /** Four words. */
  readonly privateData?: readonly number[];
}

export class FakeVtd implements Hardware {
  readonly mmio = {
    read32: (at: number): number => this.#read32(at),
    write32: (at: number, value: number): void => this.#write32(at, value),
    read64: (at: number): bigint => this.#read64(at),
    write64: (at: number, value: bigint): void => void this.#wide.set(at, value),
  };
  readonly mem: Hardware['mem'];
  readonly irq: Hardware['irq'];
  readonly clock: Hardware['clock'];
  /** What the queue was asked, in words, without the waits. */
  readonly asked: string[] = [];
  /** Told of each write of GCMD. */
  onCommand: ((value: number) => void) | undefined = undefined;
  /** Told of each, when it is carried out. */
  onAsked: ((words: string) => void) | undefined = undefined;
  /** Told of the words of each that is no wait. */
  onDescriptor: ((words: readonly number[]) => void) | undefined = undefined;
  /** One submission each: how many descriptors it had. */
  readonly submissions: number[] = [];
  /** The frames whose bytes were flushed, with the bytes as they were then. */
  readonly seen = new Map<number, Uint32Array>();
  /** Handlers of interrupts. */
  readonly handlers = new Map<InterruptMessage, () => void>();
  /** How often it was to write its buffers. */
  writeBufferFlushes = 0;
  /** It tells nothing, for benchmarks. */
  isQuiet = false;
  /** It takes no command, or no descriptor, from now on. */
  isDead = false;
  /** It refuses the next descriptor as invalid. */
  refusesNext = false;
  /** A device does not answer the next; or answers what was given up. */
  timesOutNext = false;
  strayAnswer = false;
  /** This device completes no invalidation; and whether the hardware says which it was. */
  deadDevice: number | undefined = undefined;
  tellsDevice = true;
  /** It looks at its queue only when it is let (`release`). */
  holds = false;
  readonly #sim: Sim;
  readonly #cap: bigint;
  readonly #ecap: bigint;
  readonly #narrow = new Map<number, number>([
    [VER, 0x60],
    // What firmware may have left.
    [IQT, 0x40],
    [PMEN, 0x8000_0001],
    [FECTL, MASKED],
    [PECTL, MASKED],
    [PRS, PPR | PRO],
  ]);
  readonly #wide = new Map<number, bigint>([
    [PQH, 0x40n],
    [PQT, 0x80n],
  ]);

  constructor(sim: Sim, ram: Ram, options: FakeOptions = {}) {
    this.#sim = sim;
    this.#cap = options.cap ?? CAP_ALL;
    this.#ecap = options.ecap ?? ECAP_SCALABLE;
    this.mem = { ram, flush: (frame, byte, length) => this.#flush(frame, byte, length) };
    this.irq = {
      request: (handler) => {
        const message = { address: 0x12_fee0_1000n, data: this.handlers.size + 0x31 };
        this.handlers.set(message, handler);
        return message;
      },
      release: (message) => void this.handlers.delete(message),
    };
    this.clock = {
      now: 0,
      poll: (condition, limit) => this.#sim.poll(condition, limit),
    };
  }

  reset(): void {
    this.#narrow.clear();
    this.#wide.clear();
  }

  /** Fills fault record `index` and interrupts. Words as the hardware has them, without the bit that says full. */
  fault(index: number, low: bigint, word2: number, word3: number): void {
    const at = 0x400 + index * 16;
    this.#wide.set(at, low);
    this.#narrow.set(at + 8, word2);
    this.#narrow.set(at + 12, (word3 | 0x8000_0000) >>> 0);
    const status = this.#read32(FSTS);
    if ((status & 2) === 0) this.#narrow.set(FSTS, status | 2 | (index << 8));
    this.#interrupt(FECTL, FEDATA);
  }

  /** Page requests that have left their devices and are not here: a drain brings them. */
  readonly onTheWay: FakePageRequest[] = [];
  /** Groups that it answered itself, as it had no room. */
  readonly autoAnswered: number[] = [];

  /** A device asks for a page. VTD-5.10 §7.4.1 and §7.5. */
  requestPage(request: FakePageRequest): void {
    const { sourceId, pasid, address, group, access, isLast = true, privateData } = request;
    const base = this.#read64(PQA);
    const size = 4096 * 2 ** Number(base & 7n);
    const tail = Number(this.#read64(PQT));
    const next = (tail + 32) % size;
    const status = this.#read32(PRS);
    if (status & PRO || next === Number(this.#read64(PQH))) {
      if (isLast) this.autoAnswered.push(group);
      this.#raise(status, PRO);
      return;
    }
    const has = (letter: string, bit: number): number => (access.includes(letter) ? bit : 0);
    const words = [
      1 | (pasid === undefined ? 0 : 0x100) | (privateData ? 0x200 : 0) | (sourceId << 16),
      (pasid ?? 0) | has('x', 1 << 20) | has('p', 1 << 21),
      Number(address & 0xffff_f000n) +
        ((group << 3) | has('r', 1) | has('w', 2) | (isLast ? 4 : 0)),
      Number(address >> 32n),
      ...(privateData ?? [0, 0, 0, 0]),
    ];
    const at = (base & ~0xfffn) + BigInt(tail);
    const { ram } = this.mem;
    const frame = Number(at / BigInt(FRAME_SIZE));
    const lane = ram.laneOf(frame) + Number(at % BigInt(FRAME_SIZE)) / 4;
    ram.lanesOf(frame).set(words, lane);
    this.#wide.set(PQT, BigInt(next));
    this.#raise(status, PPR);
  }

  #raise(status: number, bit: number): void {
    this.#narrow.set(PRS, status | bit);
    if (status === 0) this.#interrupt(PECTL, PEDATA);
  }

  #interrupt(control: number, data: number): void {
    if ((this.#read32(control) & MASKED) !== 0) return;
    for (const [message, handler] of [...this.handlers]) {
      if (message.data === this.#read32(data)) handler();
    }
  }

  /** Goes on with the queue. */
  release(): void {
    this.holds = false;
    this.#run();
  }

  overflow(): void {
    this.#narrow.set(FSTS, this.#read32(FSTS) | 1);
  }

  /** What is asked while `body` runs, in words. */
  during(body: () => void): string[] {
    this.asked.length = 0;
    this.submissions.length = 0;
    body();
    return [...this.asked];
  }

  /** Words of memory as the hardware sees them. */
  words(address: bigint, count: number): number[] {
    return this.#wordsAt(Number(address), count);
  }

  #wordsAt(address: number, count: number): number[] {
    const { ram } = this.mem;
    const frame = Math.floor(address / FRAME_SIZE);
    const lane = ram.laneOf(frame) + (address % FRAME_SIZE) / 4;
    const lanes = ram.lanesOf(frame);
    const words: number[] = [];
    for (let at = lane; at < lane + count; at++) words.push(lanes[at] ?? 0);
    return words;
  }

  /** What a descriptor that is no wait does: here nothing. */
  protected carryOut(_words: readonly number[]): void {}

  get rootTable(): bigint {
    return (this.#wide.get(RTADDR) ?? 0n) & ~0xfffn;
  }

  get isScalable(): boolean {
    return ((this.#wide.get(RTADDR) ?? 0n) & 0x400n) !== 0n;
  }

  #read32(at: number): number {
    return this.#narrow.get(at) ?? 0;
  }

  #read64(at: number): bigint {
    if (at === CAP) return this.#cap;
    if (at === ECAP) return this.#ecap;
    return this.#wide.get(at) ?? 0n;
  }

  #write32(at: number, value: number): void {
    if (at === GCMD) {
      this.onCommand?.(value);
      if (value & WBF) this.writeBufferFlushes++;
      if (this.isDead) {
        this.#narrow.set(GSTS, (this.#read32(GSTS) | (value & WBF)) >>> 0);
        return;
      }
      const states = value & ~ONE_SHOTS;
      const pointer = (value & SRTP) | (this.#read32(GSTS) & SRTP);
      this.#narrow.set(GSTS, (states | pointer) >>> 0);
      if (states & QIE) this.#run();
    } else if (at === IQT) {
      this.#narrow.set(IQT, value);
      this.#run();
    } else if (at === PMEN) {
      this.#narrow.set(PMEN, ((value & 0x8000_0000) | (value >>> 31)) >>> 0);
    } else if (at === PRS) {
      this.#narrow.set(PRS, this.#read32(PRS) & ~value);
    } else if (at === FSTS) {
      const cleared = this.#read32(FSTS) & ~(value & 0x71);
      this.#narrow.set(FSTS, cleared);
      if (value & (IQE | ITE | ICE)) this.#run();
    } else if (at >= 0x400 && at % 16 === 12) {
      this.#narrow.set(at, this.#read32(at) & 0x7fff_ffff);
      const isAnyFull = [...this.#narrow].some(
        ([place, held]) => place >= 0x400 && place % 16 === 12 && held >>> 31 !== 0,
      );
      if (!isAnyFull) this.#narrow.set(FSTS, this.#read32(FSTS) & ~0xff02);
    } else {
      this.#narrow.set(at, value);
    }
  }

  /** Carries out what is between head and tail. */
  #run(): void {
    const base = this.#wide.get(IQA) ?? 0n;
    const bytes = (base & 0x800n) !== 0n ? 32 : 16;
    const size = 256 * bytes;
    const queue = Number(base & ~0xfffn);
    let count = 0;
    for (let head = this.#read32(IQH); head !== this.#read32(IQT); head = (head + bytes) % size) {
      if (this.isDead || this.holds || (this.#read32(FSTS) & (IQE | ITE | ICE)) !== 0) return;
      const words = this.#wordsAt(queue + head, bytes / 4);
      if (this.refusesNext) {
        this.refusesNext = false;
        this.#narrow.set(FSTS, this.#read32(FSTS) | IQE);
        return;
      }
      this.#narrow.set(IQH, (head + bytes) % size);
      const device = this.deadDevice === undefined ? undefined : deviceOf(Uint32Array.from(words));
      if (device !== undefined && device === this.deadDevice) {
        this.timesOutNext = true;
        this.#wide.set(IQER, BigInt(this.tellsDevice ? device : 0) << 32n);
      }
      if (this.timesOutNext || this.strayAnswer) {
        this.#narrow.set(FSTS, this.#read32(FSTS) | (this.timesOutNext ? ITE : ICE));
        // All that was pending is dropped, the waits too.
        if (this.timesOutNext) this.#narrow.set(IQH, this.#read32(IQT));
        else this.#tell(inWords(words));
        this.timesOutNext = false;
        this.strayAnswer = false;
        return;
      }
      if (((words[0] ?? 0) & 0x2f) === 5) {
        this.#tell(((words[0] ?? 0) & 0x40) === 0 ? 'wait for nothing' : 'fence');
      } else if (((words[0] ?? 0) & 0xf) === 5) {
        if ((words[0] ?? 0) & 0x80) {
          this.#tell('drain');
          for (const one of this.onTheWay.splice(0)) this.requestPage(one);
        }
        this.#wait(words);
        if (!this.isQuiet) this.submissions.push(count);
        count = 0;
      } else {
        if (!this.isQuiet) this.#tell(inWords(words));
        this.onDescriptor?.(words);
        this.carryOut(words);
        count++;
      }
    }
  }

  #tell(words: string): void {
    if (this.isQuiet) return;
    this.asked.push(words);
    this.onAsked?.(words);
  }

  #wait([, data = 0, lo = 0, hi = 0]: number[]): void {
    const { ram } = this.mem;
    const address = hi * 2 ** 32 + (lo >>> 0);
    const frame = Math.floor(address / FRAME_SIZE);
    ram.lanesOf(frame)[ram.laneOf(frame) + (address % FRAME_SIZE) / 4] = data;
  }

  #flush(frame: number, byte: number, length: number): void {
    const { ram } = this.mem;
    for (let at = byte; at < byte + length; at += 4) {
      const of = frame + Math.floor(at / FRAME_SIZE);
      const lane = (at % FRAME_SIZE) / 4;
      let seen = this.seen.get(of);
      if (!seen) this.seen.set(of, (seen = new Uint32Array(FRAME_LANES)));
      seen[lane] = ram.lanesOf(of)[ram.laneOf(of) + lane] ?? 0;
    }
  }
}
