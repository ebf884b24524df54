// SPDX-License-Identifier: Apache-2.0
import { Faults } from '../sim/faults.ts';
import { FRAME_SIZE, RAM_FIRST_FRAME } from './frame.ts';

/** The largest run, and the unit in which memory is made: 4 MiB, as the largest block of Linux's own allocator. */
export const MAX_RUN_LG2 = 11;
const CHUNK_FRAMES = 2 ** MAX_RUN_LG2;
const CHUNK_MASK = CHUNK_FRAMES - 1;
/** 32-bit lanes of a frame. */
export const FRAME_LANES = FRAME_SIZE / 4;
export const FRAME_LANES_LG2 = 9;

/** What `alloc` answers where there is no memory left, or where a fault is injected. */
export const NO_MEMORY = -1;

/** States of a frame, one byte each: inside a run; or first of a free run (its lg2), or of an allocated one. */
const INSIDE = 0;
const FREE = 0x40;
const TAKEN = 0x80;
const LG2_MASK = 0x3f;

export interface RamOptions {
  readonly firstFrame?: number;
  /** How much there is, in frames, a multiple of 2048; it is made as it is used. Default 4 GiB. */
  readonly frames?: number;
  /** Lanes of the `index`-th 4 MiB, where the bytes are somebody else's too. Default: new ones. */
  readonly chunk?: (index: number) => Uint32Array;
  /** Each allocation passes a fault point of these. */
  readonly faults?: Faults;
}

/**
 * The RAM of the machine that tables and queues live in: runs of 2^n frames, aligned to their size, in real bytes. A buddy
 * allocator: a run is split to what is asked for, and joined with its neighbour when both are free again.
 *
 * Frame numbers are those of the machine's physical memory; inside, an index counts from the first frame and fits 31 bits.
 */
export class Ram {
  readonly firstFrame: number;
  readonly frames: number;
  /** For walkers: lanes of frame f are `chunks[i >>> MAX_RUN_LG2]` from lane `(i & mask) << 9` on, i = f - firstFrame. */
  readonly chunks: Uint32Array[] = [];
  readonly #faults: Faults;
  readonly #newChunk: (index: number) => Uint32Array;
  readonly #states: Uint8Array[] = [];
  /** Indices of free runs by lg2; an entry counts only while the state of its frame agrees. */
  readonly #free: number[][] = Array.from({ length: MAX_RUN_LG2 + 1 }, () => []);
  #live = 0;

  constructor(options: RamOptions = {}) {
    this.firstFrame = options.firstFrame ?? RAM_FIRST_FRAME;
    this.frames = options.frames ?? 2 ** 21;
    this.#faults = options.faults ?? new Faults();
    this.#newChunk = options.chunk ?? (() => new Uint32Array(CHUNK_FRAMES * FRAME_LANES));
    if (this.frames % CHUNK_FRAMES !== 0 || this.firstFrame % CHUNK_FRAMES !== 0) {
      throw new RangeError(`RAM starts and ends at a multiple of ${CHUNK_FRAMES} frames`);
    }
    if (this.frames > 2 ** 31) throw new RangeError(`RAM of ${this.frames} frames: at most 2^31`);
  }

  /** Frames that are allocated now. */
  get liveFrames(): number {
    return this.#live;
  }

  /** True for frames of this RAM, allocated or not. */
  has(frame: number): boolean {
    return frame >= this.firstFrame && frame < this.firstFrame + this.frames;
  }

  /** The bytes of a frame of this RAM are there: it, or one beside it, has been allocated before. */
  isMade(frame: number): boolean {
    return (
      this.has(frame) && Math.floor((frame - this.firstFrame) / CHUNK_FRAMES) < this.chunks.length
    );
  }

  /** 2^lg2 frames of zeroes, aligned to their length; the first frame's number, or {@link NO_MEMORY}. */
  alloc(lg2: number): number {
    if (this.#faults.point('alloc')) return NO_MEMORY;
    if (lg2 > MAX_RUN_LG2)
      throw new RangeError(`a run of 2^${lg2} frames: at most 2^${MAX_RUN_LG2}`);
    let size = lg2;
    let index = this.#pop(size);
    while (index < 0 && size < MAX_RUN_LG2) index = this.#pop(++size);
    if (index < 0) index = this.#grow();
    if (index < 0) return NO_MEMORY;
    while (size > lg2) this.#push(index + 2 ** --size, size);
    this.#setState(index, TAKEN | lg2);
    this.#live += 2 ** lg2;
    const lane = (index & CHUNK_MASK) << FRAME_LANES_LG2;
    this.#chunk(index).fill(0, lane, lane + (FRAME_LANES << lg2));
    return this.firstFrame + index;
  }

  /** Gives back a run by its first frame. Throws where it is not one: a fault of the engine, not of a user. */
  free(frame: number): void {
    let index = frame - this.firstFrame;
    const state = this.has(frame) ? this.#state(index) : INSIDE;
    if ((state & TAKEN) === 0)
      throw new Error(`frame 0x${frame.toString(16)} is not an allocated run`);
    let lg2 = state & LG2_MASK;
    this.#live -= 2 ** lg2;
    this.#setState(index, INSIDE);
    for (; lg2 < MAX_RUN_LG2; lg2++) {
      const buddy = index ^ (1 << lg2);
      if (this.#state(buddy) !== (FREE | lg2)) break;
      this.#setState(buddy, INSIDE);
      index = Math.min(index, buddy);
    }
    this.#push(index, lg2);
  }

  /** The lanes that hold a frame, and those of its neighbours: see `laneOf`. */
  lanesOf(frame: number): Uint32Array {
    return this.#chunk(frame - this.firstFrame);
  }

  /** The lane in `lanesOf(frame)` at which the frame starts. */
  laneOf(frame: number): number {
    return ((frame - this.firstFrame) & CHUNK_MASK) << FRAME_LANES_LG2;
  }

  /** The bytes of `frames` frames of one run, not a copy. */
  bytes(frame: number, frames = 1): Uint8Array {
    const lanes = this.lanesOf(frame);
    const start = lanes.byteOffset + this.laneOf(frame) * 4;
    return new Uint8Array(lanes.buffer, start, frames * FRAME_SIZE);
  }

  #pop(lg2: number): number {
    const list = this.#free[lg2];
    for (let index = list?.pop(); index !== undefined; index = list?.pop()) {
      if (this.#state(index) === (FREE | lg2)) return index;
    }
    return -1;
  }

  #push(index: number, lg2: number): void {
    this.#setState(index, FREE | lg2);
    this.#free[lg2]?.push(index);
  }

  #grow(): number {
    const index = this.chunks.length * CHUNK_FRAMES;
    if (index >= this.frames) return -1;
    this.chunks.push(this.#newChunk(this.chunks.length));
    this.#states.push(new Uint8Array(CHUNK_FRAMES));
    return index;
  }

  #chunk(index: number): Uint32Array {
    const chunk = this.chunks[index >>> MAX_RUN_LG2];
    if (!chunk)
      throw new Error(`frame 0x${(index + this.firstFrame).toString(16)} was never allocated`);
    return chunk;
  }

  #state(index: number): number {
    return this.#states[index >>> MAX_RUN_LG2]?.[index & CHUNK_MASK] ?? INSIDE;
  }

  #setState(index: number, state: number): void {
    const states = this.#states[index >>> MAX_RUN_LG2];
    if (states) states[index & CHUNK_MASK] = state;
  }
}
