// SPDX-License-Identifier: Apache-2.0
/** The arithmetic of exec.c: its hash and its pseudorandom patterns, on 32-bit lanes. */

/** The low word of exec.c's 64-bit FNV-1a start value: it prints the low 32 bits only, and they depend on no others. */
export const FNV_START = 0x8422_2325;
const FNV_PRIME_LOW = 0x1b3;

/** Goes on hashing `bytes` from `hash`, the low 32 bits of a 64-bit FNV-1a hash. */
export function fnv(bytes: Uint8Array, hash = FNV_START): number {
  let h = hash;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ (bytes[i] ?? 0), FNV_PRIME_LOW);
  return h >>> 0;
}

/** A 32-bit number as `%08x` prints it. */
export const hex8 = (value: number): string => value.toString(16).padStart(8, '0');

const U64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const LOW = 0xffff_ffffn;

/** Marsaglia's xorshift (13, 7, 17) on a 64-bit state in two words. */
export class Xorshift64 {
  low: number;
  high: number;

  constructor(state: bigint) {
    this.low = Number(U64(state) & LOW);
    this.high = Number(U64(state) >> 32n);
  }

  next(): this {
    let { low, high } = this;
    high ^= (high << 13) | (low >>> 19);
    low ^= low << 13;
    low ^= (low >>> 7) | (high << 25);
    high ^= high >>> 7;
    high ^= (high << 17) | (low >>> 15);
    low ^= low << 17;
    this.low = low >>> 0;
    this.high = high >>> 0;
    return this;
  }
}

/** `length` bytes of the pattern that exec.c makes of a seed; a last piece of less than 8 bytes stays 0. */
export function pattern(length: number, seed: bigint): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  const state = new Xorshift64(seed * 0x9e37_79b9_7f4a_7c15n + 12345n);
  for (let at = 0; at + 8 <= length; at += 8) {
    state.next();
    view.setUint32(at, state.low, true);
    view.setUint32(at + 4, state.high, true);
  }
  return bytes;
}
