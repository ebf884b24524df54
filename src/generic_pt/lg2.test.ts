// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ctzFrames, floorLg2, highestBit, INVERSE_POW2, POW2 } from './lg2.ts';

const wholes = fc.oneof(
  fc.maxSafeNat(),
  fc.nat(100),
  fc.nat(53).map((n) => 2 ** n),
);

describe('powers of two of frame numbers', () => {
  it('ctzFrames counts as bigints do', () => {
    fc.assert(
      fc.property(wholes, (value) => {
        if (value === 0) return ctzFrames(0) === 53;
        const bits = BigInt(value).toString(2);
        return ctzFrames(value) === bits.length - 1 - bits.lastIndexOf('1');
      }),
      { seed: 1 },
    );
  });

  it('floorLg2 is the length in bits less one', () => {
    fc.assert(
      fc.property(
        wholes,
        (value) => value === 0 || floorLg2(value) === BigInt(value).toString(2).length - 1,
      ),
      { seed: 2 },
    );
  });

  it('highestBit of nothing is -1', () => {
    expect([highestBit(0n), highestBit(1n), highestBit(0x8000_0000_0000_0000n)]).toEqual([
      -1, 0, 63,
    ]);
  });

  it('the tables go to 2^53, the end of frame numbers', () => {
    expect(POW2[53]).toBe(2 ** 53);
    expect(INVERSE_POW2[53]).toBe(2 ** -53);
  });
});
