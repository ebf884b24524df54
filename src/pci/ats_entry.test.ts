// SPDX-License-Identifier: Apache-2.0
/** Words written out by hand. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coveringRange, decodeEntry, decodeRange, encodeEntry, encodeRange } from './ats_entry.ts';

describe('an address with its size', () => {
  it.each([
    [0x1234_5000n, 12, 0x1234_5000n],
    [0x1234_4000n, 13, 0x1234_4800n],
    [0x1234_8000n, 14, 0x1234_9800n],
    [0x4000_0000n, 21, 0x400f_f800n],
    [0n, 64, 0x7fff_ffff_ffff_f800n],
  ])('0x%x of 2^%i bytes is 0x%x', (start, sizeLg2, word) => {
    expect(encodeRange({ start, sizeLg2 })).toBe(word);
    expect(decodeRange(word)).toEqual({ start, sizeLg2 });
  });

  it('of all ones, which no size has, is everything', () => {
    expect(decodeRange(2n ** 64n - 1n)).toEqual({ start: 0n, sizeLg2: 64 });
  });

  it('covers what it has to, and half of it would not', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 1n), (a, b) => {
        const [start, last] = a < b ? [a, b] : [b, a];
        const range = coveringRange(start, last);
        const size = 1n << BigInt(range.sizeLg2);
        expect(range.start <= start && last < range.start + size).toBe(true);
        expect(range.start % size).toBe(0n);
        if (range.sizeLg2 > 12) expect(start / (size / 2n)).not.toBe(last / (size / 2n));
        expect(decodeRange(encodeRange(range))).toEqual(range);
      }),
      { seed: 1 },
    );
  });
});

describe('a translation', () => {
  const none = {
    ...{ start: 0x5000n, sizeLg2: 12, read: false, write: false, execute: false },
    ...{ privileged: false, global: false, nonSnooped: false, untranslatedOnly: false },
  };

  it.each([
    ['read', 0x5001n],
    ['write', 0x5002n],
    ['untranslatedOnly', 0x5004n],
    ['execute', 0x5008n],
    ['privileged', 0x5010n],
    ['global', 0x5020n],
    ['nonSnooped', 0x5400n],
  ])('has a bit for %s', (name, word) => {
    const entry = { ...none, [name]: true };
    expect(encodeEntry(entry)).toBe(word);
    expect(decodeEntry(word)).toEqual(entry);
  });
});
