// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import type { ConfigRegister } from './config_space.ts';
import { CONFIG } from './header.ts';

/** How wide one access to a BAR can be, in bytes. */
export type AccessWidth = 1 | 2 | 4 | 8;

export const BAR_COUNT = 6;

/** What answers behind a BAR. Offsets in bytes from its beginning, inside it; values little endian. */
export interface BarHandler {
  /** What is read; where nothing answers, all ones of that width (`allOnes`). */
  read(offset: number, width: AccessWidth): bigint;
  /** `value` is below 2^(8 * width). Where nothing is there to be written, nothing happens. */
  write(offset: number, width: AccessWidth, value: bigint): void;
  /** Name of what is at an offset, for traces; undefined where the device has no register there. */
  nameAt?(offset: number): string | undefined;
}

export interface BarOptions {
  /** 0 to 5; a 64-bit one takes the next index too. */
  readonly index: number;
  /** Bytes: a power of two, 16 at least. */
  readonly size: number;
  /** Where it can be: 32 bits unless told. */
  readonly bits?: 32 | 64;
  /** Reads have no side effects. Default false. */
  readonly prefetchable?: boolean;
  readonly handler: BarHandler;
}

/** What a read gives where nobody answers. */
export const allOnes = (width: AccessWidth): bigint => (1n << BigInt(8 * width)) - 1n;

/** A window of memory space that a function answers in. Its address is what the config space says. */
export class Bar {
  readonly index: number;
  readonly size: number;
  readonly bits: 32 | 64;
  readonly prefetchable: boolean;
  readonly handler: BarHandler;
  readonly #isDecoded: () => boolean;

  /** `isDecoded` tells whether the function answers in memory space now. RangeError for a size or index that cannot be. */
  constructor(options: BarOptions, isDecoded: () => boolean) {
    const { index, size, bits = 32 } = options;
    if (!(size >= 16 && Number.isInteger(Math.log2(size)) && (bits === 64 || size <= 2 ** 31))) {
      throw new RangeError(`BAR ${index}: a size of ${size} bytes is no power of two from 16 on`);
    }
    if (!(index >= 0 && index + bits / 32 <= BAR_COUNT)) {
      throw new RangeError(`BAR ${index}: there is no room for ${bits} bits, the last is BAR 5`);
    }
    this.index = index;
    this.size = size;
    this.bits = bits;
    this.prefetchable = options.prefetchable ?? false;
    this.handler = options.handler;
    this.#isDecoded = isDecoded;
  }

  /** Byte offset of its register in config space. */
  get configOffset(): number {
    return CONFIG.BaseAddress + 4 * this.index;
  }

  /** All ones where the function does not answer: memory space disabled, or an access that does not fit the BAR. */
  read(offset: number, width: AccessWidth): bigint {
    if (!this.#isDecoded() || !this.#fits(offset, width)) return allOnes(width);
    return this.handler.read(offset, width);
  }

  /** Nothing happens where the function does not answer. */
  write(offset: number, width: AccessWidth, value: bigint): void {
    if (this.#isDecoded() && this.#fits(offset, width)) this.handler.write(offset, width, value);
  }

  #fits(offset: number, width: AccessWidth): boolean {
    return offset >= 0 && offset + width <= this.size;
  }

  /**
   * Its registers. Software sizes a BAR by writing ones: the bits below its size stay 0, and the low four say what it is.
   */
  registers(): ConfigRegister[] {
    const low = Math.log2(this.size);
    const value = (this.bits === 64 ? 0b100 : 0) | (this.prefetchable ? 0b1000 : 0);
    const name = `BaseAddress${this.index}`;
    const kind = {
      MemorySpaceIndicator: field(0, 0, { access: 'RO' }),
      Type: field(2, 1, { access: 'RO' }),
      Prefetchable: field(3, 3, { access: 'RO' }),
    } as const;
    const first = register(name, low < 32 ? { ...kind, BaseAddress: field(31, low) } : kind);
    const registers: ConfigRegister[] = [
      { at: this.configOffset, bytes: 4, value, register: first },
    ];
    if (this.bits === 64) {
      const upper = register(`BaseAddress${this.index}Upper`, {
        BaseAddress: field(31, Math.max(0, low - 32)),
      });
      registers.push({ at: this.configOffset + 4, bytes: 4, register: upper });
    }
    return registers;
  }
}

/** Lets `part` answer `bytes` bytes from `start` on in place of `handler`. An access that crosses the border goes to `handler`. */
export function overlay(
  handler: BarHandler,
  part: BarHandler,
  start: number,
  bytes: number,
): BarHandler {
  const inside = (offset: number, width: number): boolean =>
    offset >= start && offset + width <= start + bytes;
  return {
    read: (offset, width) =>
      inside(offset, width) ? part.read(offset - start, width) : handler.read(offset, width),
    write: (offset, width, value) =>
      inside(offset, width)
        ? part.write(offset - start, width, value)
        : handler.write(offset, width, value),
    nameAt: (offset) =>
      inside(offset, 1) ? part.nameAt?.(offset - start) : handler.nameAt?.(offset),
  };
}
