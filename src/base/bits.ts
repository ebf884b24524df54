// SPDX-License-Identifier: Apache-2.0
/**
 * Bits of numbers: sizes and alignments as bigint (ABI values) or as number (exact up to 2^53), masks and fields as
 * one u32 lane. Alignments are powers of two; that is for the caller to check ({@link isPowerOfTwo}).
 */

/** True for 1, 2, 4, ...; false for 0 and below. Numbers beyond 32 bits are fine. */
export function isPowerOfTwo(value: bigint | number): boolean {
  if (typeof value === 'bigint') return value > 0n && (value & (value - 1n)) === 0n;
  return value >= 1 && 2 ** Math.round(Math.log2(value)) === value;
}

/** The lowest multiple of `align` that is not below `value`; a bigint result may reach 2^64. */
export function alignUp(value: bigint, align: bigint): bigint;
export function alignUp(value: number, align: number): number;
export function alignUp(value: bigint | number, align: bigint | number): bigint | number {
  if (typeof value === 'bigint') {
    const below = (align as bigint) - 1n;
    return (value + below) & ~below;
  }
  const past = value % (align as number);
  return past === 0 ? value : value - past + (align as number);
}

/** The highest multiple of `align` that is not above `value`. */
export function alignDown(value: bigint, align: bigint): bigint;
export function alignDown(value: number, align: number): number;
export function alignDown(value: bigint | number, align: bigint | number): bigint | number {
  if (typeof value === 'bigint') return value & -(align as bigint);
  return value - (value % (align as number));
}

export function isAligned(value: bigint, align: bigint): boolean;
export function isAligned(value: number, align: number): boolean;
export function isAligned(value: bigint | number, align: bigint | number): boolean {
  if (typeof value === 'bigint') return (value & ((align as bigint) - 1n)) === 0n;
  return value % (align as number) === 0;
}

/** The lowest power of two that is not below `value` (1n for 0n and 1n). */
export function roundupPow2(value: bigint): bigint {
  return value <= 1n ? 1n : 1n << BigInt(floorLg2(value - 1n) + 1);
}

/** Place of the highest set bit, 0 for the lowest. RangeError for 0 and below. */
export function floorLg2(value: bigint): number {
  if (value <= 0n) throw new RangeError(`floorLg2 of ${value}: it needs a value above 0`);
  const digits = value.toString(16);
  return digits.length * 4 - 4 + 31 - Math.clz32(parseInt(digits.slice(0, 1), 16));
}

/** Place of the lowest set bit, 0 for the lowest. RangeError for 0: no bit is set. */
export function ctz(value: bigint): number {
  if (value === 0n) throw new RangeError('ctz of 0: no bit is set');
  let zeros = 0;
  let rest = value;
  for (;;) {
    const lane = Number(BigInt.asUintN(32, rest));
    if (lane !== 0) return zeros + ctz32(lane);
    rest >>= 32n;
    zeros += 32;
  }
}

/** Place of the lowest set bit of a lane; 32 where none is set. */
export function ctz32(lane: number): number {
  return (lane | 0) === 0 ? 32 : 31 - Math.clz32(lane & -lane);
}

/** How many bits of a lane are set. */
export function popcount32(lane: number): number {
  let pairs = lane - ((lane >>> 1) & 0x5555_5555);
  pairs = (pairs & 0x3333_3333) + ((pairs >>> 2) & 0x3333_3333);
  return Math.imul((pairs + (pairs >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

/** The u32 with bits `lsb` to `msb` set, both inclusive, 0 to 31. */
export function genmask(msb: number, lsb: number): number {
  return ((0xffff_ffff >>> (31 - msb)) & (0xffff_ffff << lsb)) >>> 0;
}

/** The same for 64 bits. */
export function genmask64(msb: number, lsb: number): bigint {
  return ((1n << BigInt(msb - lsb + 1)) - 1n) << BigInt(lsb);
}

/** Bits `lsb` to `msb` of a lane, moved down to bit 0. */
export function getField(lane: number, msb: number, lsb: number): number {
  return (lane & genmask(msb, lsb)) >>> lsb;
}

/** The lane with bits `lsb` to `msb` replaced by the low bits of `value`; bits of it that do not fit are dropped. */
export function setField(lane: number, msb: number, lsb: number, value: number): number {
  const mask = genmask(msb, lsb);
  return ((lane & ~mask) | ((value << lsb) & mask)) >>> 0;
}
