// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  alignDown,
  alignUp,
  ctz,
  ctz32,
  floorLg2,
  genmask,
  genmask64,
  getField,
  isAligned,
  isPowerOfTwo,
  popcount32,
  roundupPow2,
  setField,
} from './bits.ts';

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const u32 = fc.nat(0xffff_ffff);
const bitRange = fc
  .tuple(fc.nat(31), fc.nat(31))
  .map(([a, b]) => ({ msb: Math.max(a, b), lsb: Math.min(a, b) }));

describe('powers of two', () => {
  it.each([1, 2, 4096, 2 ** 31, 2 ** 32, 2 ** 53])('%d is one', (value) => {
    expect([isPowerOfTwo(value), isPowerOfTwo(BigInt(value))]).toEqual([true, true]);
  });

  it.each([0, -1, -4096, 3, 2 ** 32 + 1, 2 ** 53 - 1])('%d is none', (value) => {
    expect([isPowerOfTwo(value), isPowerOfTwo(BigInt(value))]).toEqual([false, false]);
  });

  it('roundupPow2 gives the lowest that is not below', () => {
    expect([0n, 1n, 2n, 3n, 4096n, 4097n].map(roundupPow2)).toEqual([1n, 1n, 2n, 4n, 4096n, 8192n]);
    expect(roundupPow2((1n << 64n) - 1n)).toBe(1n << 64n);
  });

  it('floorLg2 and ctz give the highest and the lowest bit', () => {
    for (let bit = 0; bit < 64; bit++) {
      expect(floorLg2((2n << BigInt(bit)) - 1n)).toBe(bit);
      expect(ctz((1n << 64n) | (1n << BigInt(bit)))).toBe(bit);
    }
    expect(() => floorLg2(0n)).toThrow('above 0');
    expect(() => ctz(0n)).toThrow('no bit is set');
  });
});

describe('alignment', () => {
  it('of the top of 64 bits reaches 2^64 and not 0', () => {
    expect(alignUp((1n << 64n) - 1n, 4096n)).toBe(1n << 64n);
    expect(alignUp(2 ** 52 + 1, 4096)).toBe(2 ** 52 + 4096);
  });

  it('encloses the value, for bigint and number alike', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.nat(40), (value, lg2) => {
        const align = 2 ** lg2;
        const down = alignDown(value, align);
        const up = alignUp(value, align);
        expect(down % align).toBe(0);
        expect(value - down).toBeLessThan(align);
        expect(up - down).toBe(value === down ? 0 : align);
        expect(isAligned(value, align)).toBe(value === down);
        expect(alignDown(BigInt(value), BigInt(align))).toBe(BigInt(down));
        expect(isAligned(BigInt(value), BigInt(align))).toBe(value === down);
        if (up <= Number.MAX_SAFE_INTEGER) {
          expect(alignUp(BigInt(value), BigInt(align))).toBe(BigInt(up));
        }
      }),
      { seed: 7 },
    );
  });
});

describe('masks and fields of a lane', () => {
  it('restate the obvious ones', () => {
    expect([genmask(31, 0), genmask(31, 31), genmask(0, 0), genmask(11, 4)]).toEqual([
      0xffff_ffff, 0x8000_0000, 1, 0xff0,
    ]);
    expect([genmask64(63, 0), genmask64(51, 12)]).toEqual([
      0xffff_ffff_ffff_ffffn,
      0x000f_ffff_ffff_f000n,
    ]);
  });

  it('are those of arithmetic on bigint', () => {
    fc.assert(
      fc.property(u32, u32, bitRange, (lane, value, { msb, lsb }) => {
        const mask = genmask64(msb, lsb);
        expect(BigInt(genmask(msb, lsb))).toBe(mask);
        expect(BigInt(getField(lane, msb, lsb))).toBe((BigInt(lane) & mask) >> BigInt(lsb));
        const expected = (BigInt(lane) & ~mask) | ((BigInt(value) << BigInt(lsb)) & mask);
        expect(BigInt(setField(lane, msb, lsb, value))).toBe(expected);
      }),
      { seed: 7 },
    );
  });

  it('counts and finds bits', () => {
    fc.assert(
      fc.property(u32, (lane) => {
        const digits = lane.toString(2);
        expect(popcount32(lane)).toBe(digits.replaceAll('0', '').length);
        expect(ctz32(lane)).toBe(lane === 0 ? 32 : digits.length - 1 - digits.lastIndexOf('1'));
      }),
      { seed: 7, examples: [[0], [0x8000_0000], [0xffff_ffff]] },
    );
    fc.assert(
      fc.property(u64, (value) => {
        fc.pre(value > 0n);
        expect(1n << BigInt(floorLg2(value))).toBeLessThanOrEqual(value);
        expect(2n << BigInt(floorLg2(value))).toBeGreaterThan(value);
      }),
      { seed: 7 },
    );
  });
});
