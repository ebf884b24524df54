// SPDX-License-Identifier: Apache-2.0

/**
 * Repeatable pseudo-random numbers: xoshiro128** 1.1 by Blackman and Vigna (public domain), seeded through a 32-bit
 * mixer. Integers only, so that every engine and platform gives the same row. Not for secrets.
 */
export class Prng {
  /** What `fork` starts from: the seed and not the state, so that drawing does not disturb the forks. */
  readonly #seed: number;
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** Any 32-bit integer; others are taken modulo 2^32. */
  constructor(seed = 1) {
    this.#seed = seed >>> 0;
    this.#a = mix(this.#seed + GOLDEN);
    this.#b = mix(this.#seed + 2 * GOLDEN);
    this.#c = mix(this.#seed + 3 * GOLDEN);
    // The mixer is a permutation, so that of four different inputs at most one gives 0: never the all-zero state.
    this.#d = mix(this.#seed + 4 * GOLDEN);
  }

  /** The generator in a state of the reference implementation, for comparing with it. */
  static ofState(a: number, b: number, c: number, d: number): Prng {
    const prng = new Prng();
    prng.#a = a | 0;
    prng.#b = b | 0;
    prng.#c = c | 0;
    prng.#d = d | 0;
    return prng;
  }

  /** The next of 2^32 equally likely integers, 0..2^32-1. */
  u32(): number {
    const result = Math.imul(rotate(Math.imul(this.#b, 5), 7), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = rotate(this.#d, 11);
    return result;
  }

  /** An integer from 0 to n-1, all equally likely. RangeError unless n is 1..2^32. */
  below(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > RANGE) {
      throw new RangeError(`below(${n}): it takes an integer from 1 to 2^32`);
    }
    // Values past the last whole multiple of n would make low results likelier: draw again.
    const limit = RANGE - (RANGE % n);
    let value = this.u32();
    while (value >= limit) value = this.u32();
    return value % n;
  }

  /** One of the items. RangeError where there is none. */
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('pick() of an empty list');
    return items[this.below(items.length)] as T;
  }

  /** Reorders the array itself, every order equally likely, and returns it. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [items[i], items[j]] = [items[j] as T, items[i] as T];
    }
    return items;
  }

  /** An independent generator for one use: the same seed and label give the same row, whatever was drawn here. */
  fork(label: string): Prng {
    let hash = this.#seed;
    for (let i = 0; i < label.length; i++) hash = mix(Math.imul(hash, 31) + label.charCodeAt(i));
    return new Prng(mix(hash ^ label.length) ^ GOLDEN);
  }
}

const RANGE = 0x1_0000_0000;
/** 2^32 divided by the golden ratio, odd: its multiples are far apart. */
const GOLDEN = 0x9e37_79b9;

function rotate(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}

/** Spreads every input bit over the output, one to one: the finalizer of MurmurHash3 (public domain). */
function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85eb_ca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2_ae35);
  return x ^ (x >>> 16);
}
