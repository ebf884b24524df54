// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Prng } from './prng.ts';

const row = (prng: Prng, count = 5): number[] => Array.from({ length: count }, () => prng.u32());

describe('Prng', () => {
  it('is xoshiro128**: the first outputs of state 1, 2, 3, 4, worked out by hand', () => {
    // State after each output: (7, 0, 1026, 12288), then (12295, 1029, 1029, 25165824).
    expect(row(Prng.ofState(1, 2, 3, 4), 3)).toEqual([11520, 0, 5927040]);
  });

  it('repeats for a seed and differs between seeds, 0 included', () => {
    expect(row(new Prng(5))).toEqual(row(new Prng(5)));
    const firsts = new Set(Array.from({ length: 1000 }, (_, seed) => row(new Prng(seed))[0]));
    expect(firsts.size).toBe(1000);
  });

  it('gives the recorded row on every platform', () => {
    expect(row(new Prng(42))).toEqual([2837322924, 544945897, 479756282, 3500138142, 339756180]);
    expect(row(new Prng(42).fork('choices'))).toEqual([
      1293621627, 3524832219, 288672662, 2304998021, 2410098295,
    ]);
  });

  it('forks by label, whatever was drawn before', () => {
    const prng = new Prng(1);
    const before = row(prng.fork('a'));
    prng.u32();
    expect(row(prng.fork('a'))).toEqual(before);
    expect(row(prng.fork('b'))).not.toEqual(before);
    expect(row(new Prng(2).fork('a'))).not.toEqual(before);
  });

  it('below(n) reaches every value about equally often', () => {
    const prng = new Prng(3);
    const seen = [0, 0, 0, 0, 0, 0, 0];
    for (let i = 0; i < 70_000; i++) {
      const at = prng.below(7);
      seen[at] = (seen[at] ?? 0) + 1;
    }
    for (const count of seen) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  });

  it('below(n) favours no value where 2^32 is no multiple of n', () => {
    const prng = new Prng(4);
    const n = 3 * 2 ** 30;
    let low = 0;
    for (let i = 0; i < 30_000; i++) if (prng.below(n) < 2 ** 30) low++;
    expect(Math.abs(low - 10_000)).toBeLessThan(500);
  });

  it('below() refuses what it cannot do', () => {
    for (const n of [0, -1, 1.5, 2 ** 32 + 1])
      expect(() => new Prng().below(n)).toThrow(RangeError);
    expect(new Prng().below(1)).toBe(0);
    expect(() => new Prng().pick([])).toThrow('empty');
  });

  it('shuffles into every order', () => {
    const prng = new Prng(9);
    const orders = new Set<string>();
    for (let i = 0; i < 500; i++) orders.add(prng.shuffle([1, 2, 3, 4]).join(''));
    expect(orders.size).toBe(24);
  });
});
