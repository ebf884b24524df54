// SPDX-License-Identifier: Apache-2.0
import { FRAME_LANES, MAX_RUN_LG2, type Ram } from '../../memory/ram.ts';

/** Physical memory that is not RAM of this machine: pages of clients. False where nothing is there. */
export interface OtherMemory {
  read(frame: number, offset: number, into: Uint8Array): boolean;
  write(frame: number, offset: number, from: Uint8Array): boolean;
}

/** Pages of 4 KiB in a chunk of RAM, and 32-bit lanes of a page. */
const CHUNK_PAGES_LG2 = MAX_RUN_LG2 - 1;
const CHUNK_PAGE_MASK = 2 ** CHUNK_PAGES_LG2 - 1;
const PAGE_LANES_LG2 = 10;
const PAGE = 4096;
const LINE_LANES = 16;

/**
 * Memory as the unit reaches it, by page of 4 KiB and 64-bit entry. Accesses that snoop see what processors wrote; others what was
 * flushed, kept in chunks of the same shape.
 */
export class PhysicalMemory {
  readonly ram: Ram;
  readonly other: OtherMemory | undefined;
  /** The lanes that `read` found. */
  readonly entry = new Uint32Array(2);
  readonly #chunks: Uint32Array[];
  readonly #basePage: number;
  readonly #pages: number;
  /** What has left the caches; undefined where everything snoops. */
  #flushed: Uint32Array[] | undefined;
  readonly #bytes = new Uint8Array(8);
  readonly #words = new Uint32Array(this.#bytes.buffer);

  /** `isCoherent`: no access of this unit ever goes by a cache, so nothing is kept twice. */
  constructor(ram: Ram, other: OtherMemory | undefined, isCoherent: boolean) {
    this.ram = ram;
    this.other = other;
    this.#chunks = ram.chunks;
    this.#basePage = ram.firstFrame / 2;
    this.#pages = ram.frames / 2;
    this.#flushed = isCoherent ? undefined : [];
  }

  /** Reads entry `index` of a page into `entry`; false where no memory is there. */
  read(page: number, index: number, snoops: boolean): boolean {
    const at = page - this.#basePage;
    if (!(at >= 0 && at < this.#pages)) return this.#readOther(page, index);
    const chunks = snoops || this.#flushed === undefined ? this.#chunks : this.#flushed;
    const lanes = chunks[at >>> CHUNK_PAGES_LG2];
    const { entry } = this;
    if (lanes === undefined) {
      entry[0] = 0;
      entry[1] = 0;
      return true;
    }
    const lane = ((at & CHUNK_PAGE_MASK) << PAGE_LANES_LG2) + (index << 1);
    entry[0] = lanes[lane] ?? 0;
    entry[1] = lanes[lane + 1] ?? 0;
    return true;
  }

  /** Sets bits in the low lane of an entry: accessed and dirty. False where it can not be written. */
  setBits(page: number, index: number, bits: number): boolean {
    const at = page - this.#basePage;
    if (at >= 0 && at < this.#pages) {
      const lane = ((at & CHUNK_PAGE_MASK) << PAGE_LANES_LG2) + (index << 1);
      for (const chunks of this.#flushed ? [this.#chunks, this.#flushed] : [this.#chunks]) {
        const lanes = chunks[at >>> CHUNK_PAGES_LG2];
        if (lanes) lanes[lane] = ((lanes[lane] ?? 0) | bits) >>> 0;
      }
      return true;
    }
    return this.#setOtherBits(page, index, bits);
  }

  /** A client can change the entry at any moment: no byte is written but those that the bits are in. */
  #setOtherBits(page: number, index: number, bits: number): boolean {
    if (!this.#readOther(page, index)) return false;
    for (let byte = 0; byte < 4; byte++) {
      const wanted = (bits >>> (8 * byte)) & 0xff;
      const held = this.#bytes[byte] ?? 0;
      if ((held & wanted) === wanted) continue;
      this.#bytes[byte] = held | wanted;
      const changed = this.#bytes.subarray(byte, byte + 1);
      if (!this.other?.write(page * 2 + (index >>> 8), (index & 255) * 8 + byte, changed))
        return false;
    }
    return true;
  }

  /** Writes a word, as a wait descriptor has it. False where no memory is there. */
  writeWord(page: number, offset: number, value: number): boolean {
    this.#words[0] = value;
    return this.writeBytes(page, offset, this.#bytes.subarray(0, 4));
  }

  /** Bytes within a page. */
  readBytes(page: number, offset: number, into: Uint8Array): boolean {
    const from = this.#ramBytes(page, offset, into.length);
    if (from === undefined) return this.#eachFrame('read', page, offset, into);
    into.set(from);
    return true;
  }

  writeBytes(page: number, offset: number, from: Uint8Array): boolean {
    const into = this.#ramBytes(page, offset, from.length);
    if (into === undefined) return this.#eachFrame('write', page, offset, from);
    into.set(from);
    if (this.#flushed) this.flush(page * 2, offset, from.length);
    return true;
  }

  /** Bytes of a frame leave the processor's cache, as whole lines. */
  flush(frame: number, byte: number, bytes: number): void {
    const flushed = this.#flushed;
    if (flushed === undefined || bytes <= 0) return;
    const first = (frame - this.ram.firstFrame) * FRAME_LANES + Math.floor(byte / 64) * LINE_LANES;
    const end =
      (frame - this.ram.firstFrame) * FRAME_LANES + Math.ceil((byte + bytes) / 64) * LINE_LANES;
    const chunkLanes = FRAME_LANES * 2 ** MAX_RUN_LG2;
    for (let lane = first; lane < end; lane += LINE_LANES) {
      const chunk = Math.floor(lane / chunkLanes);
      const source = this.#chunks[chunk];
      if (source === undefined) return;
      const target = (flushed[chunk] ??= new Uint32Array(chunkLanes));
      const at = lane - chunk * chunkLanes;
      for (let i = at; i < at + LINE_LANES; i++) target[i] = source[i] ?? 0;
    }
  }

  #readOther(page: number, index: number): boolean {
    const { other, entry } = this;
    if (!other?.read(page * 2 + (index >>> 8), (index & 255) * 8, this.#bytes)) return false;
    entry[0] = this.#words[0] ?? 0;
    entry[1] = this.#words[1] ?? 0;
    return true;
  }

  #ramBytes(page: number, offset: number, length: number): Uint8Array | undefined {
    const at = page - this.#basePage;
    if (!(at >= 0 && at < this.#pages)) return undefined;
    const lanes = this.#chunks[at >>> CHUNK_PAGES_LG2];
    if (lanes === undefined) return new Uint8Array(length);
    const start = lanes.byteOffset + (at & CHUNK_PAGE_MASK) * PAGE + offset;
    return new Uint8Array(lanes.buffer, start, length);
  }

  #eachFrame(way: 'read' | 'write', page: number, offset: number, bytes: Uint8Array): boolean {
    const { other } = this;
    if (other === undefined) return false;
    for (let done = 0; done < bytes.length;) {
      const at = offset + done;
      const size = Math.min(bytes.length - done, 2048 - (at % 2048));
      const frame = page * 2 + Math.floor(at / 2048);
      if (!other[way](frame, at % 2048, bytes.subarray(done, done + size))) return false;
      done += size;
    }
    return true;
  }
}
