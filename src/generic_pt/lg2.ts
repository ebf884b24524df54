// SPDX-License-Identifier: Apache-2.0

/*
 * Powers of two of frame numbers and counts: whole numbers from 0 to 2^53. These are the places where 32-bit operators meet
 * them, on purpose: ToInt32 takes a whole number modulo 2^32, exactly, whatever its size.
 */

const TWO_32 = 2 ** 32;

/** Zero bits at the low end of a u32: `ctz32(8)` is 3; 32 for 0. */
export const ctz32 = (value: number): number => 31 - Math.clz32(value & -value);

/** Zero bits at the low end of a frame number: the largest power of two that divides it; 53 for 0. */
export function ctzFrames(value: number): number {
  const lo = value | 0;
  if (lo !== 0) return ctz32(lo);
  return value === 0 ? 53 : 32 + ctz32((value / TWO_32) | 0);
}

/** The largest n with 2^n <= value, for a value of at least 1. */
export function floorLg2(value: number): number {
  return value < TWO_32 ? 31 - Math.clz32(value) : 63 - Math.clz32(value / TWO_32);
}

/** The highest bit of a bitmap of sizes below 2^64, or -1: for set-up, not for walks. */
export const highestBit = (bitmap: bigint): number => bitmap.toString(2).length - (bitmap ? 1 : 2);

/** 2^n for n from 0 to 53: a load where `**` is a call. */
export const POW2 = Float64Array.from({ length: 54 }, (_, n) => 2 ** n);
/** 2^-n, since a division costs what five multiplications do. */
export const INVERSE_POW2 = Float64Array.from({ length: 54 }, (_, n) => 2 ** -n);
