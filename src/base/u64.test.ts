// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as u64 from './u64.ts';

const EDGES = [0n, 1n, 0xffff_ffffn, 0x1_0000_0000n, (1n << 53n) - 1n, 1n << 63n, (1n << 64n) - 1n];
const value = fc.oneof(fc.constantFrom(...EDGES), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }));
const wrap = (x: bigint): bigint => BigInt.asUintN(64, x);

describe('conversions', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(value, (x) => {
        expect(u64.toBigint(u64.lo(x), u64.hi(x))).toBe(x);
      }),
      { seed: 7 },
    );
  });

  it('take negative numbers as their two’s complement', () => {
    expect([u64.lo(-2n), u64.hi(-2n)]).toEqual([0xffff_fffe, 0xffff_ffff]);
  });

  it('to number are exact or refused', () => {
    expect(u64.toNumber(0xffff_ffff, 0x1f_ffff)).toBe(Number.MAX_SAFE_INTEGER);
    expect(() => u64.toNumber(0, 0x20_0000)).toThrow('0x20000000000000 is above 2^53-1');
    expect(u64.bigintToNumber((1n << 53n) - 1n)).toBe(Number.MAX_SAFE_INTEGER);
    expect(() => u64.bigintToNumber(1n << 53n, 'the frame')).toThrow('the frame 9007199254740992');
    expect(() => u64.bigintToNumber(-1n)).toThrow('not within 0..2^53-1');
  });

  it('from number give both lanes', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (x) => {
        expect([u64.loOfNumber(x), u64.hiOfNumber(x)]).toEqual([
          u64.lo(BigInt(x)),
          u64.hi(BigInt(x)),
        ]);
        expect(u64.toNumber(u64.loOfNumber(x), u64.hiOfNumber(x))).toBe(x);
      }),
      { seed: 7 },
    );
  });
});

it('adds, subtracts and compares as bigint does modulo 2^64', () => {
  fc.assert(
    fc.property(value, value, (x, y) => {
      const [xl, xh, yl, yh] = [u64.lo(x), u64.hi(x), u64.lo(y), u64.hi(y)];
      expect(u64.toBigint(u64.addLo(xl, yl), u64.addHi(xl, xh, yl, yh))).toBe(wrap(x + y));
      expect(u64.toBigint(u64.subLo(xl, yl), u64.subHi(xl, xh, yl, yh))).toBe(wrap(x - y));
      expect(Math.sign(u64.compare(xl, xh, yl, yh))).toBe(x < y ? -1 : x > y ? 1 : 0);
    }),
    { seed: 7, numRuns: 1000 },
  );
});

it('shifts as bigint does, and lanes stay unsigned', () => {
  fc.assert(
    fc.property(value, fc.nat(63), (x, by) => {
      const [low, high] = [u64.lo(x), u64.hi(x)];
      const right = [u64.shiftRightLo(low, high, by), u64.shiftRightHi(high, by)] as const;
      const left = [u64.shiftLeftLo(low, by), u64.shiftLeftHi(low, high, by)] as const;
      expect(Math.min(...right, ...left)).toBeGreaterThanOrEqual(0);
      expect(u64.toBigint(...right)).toBe(x >> BigInt(by));
      expect(u64.toBigint(...left)).toBe(wrap(x << BigInt(by)));
    }),
    { seed: 7, numRuns: 1000 },
  );
});
