// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Ram } from '../../../src/memory/ram.ts';
import type { Bench } from './bench.ts';
import { Comparison } from './compare.ts';
import type { KnownDifference } from './known_differences.ts';

/** What a comparison looks at: lines, and one page of memory. */
function benchOf(lines: string[], ...words: number[]): Bench {
  const ram = new Ram({ firstFrame: 4096, frames: 2048 });
  const frame = ram.alloc(1);
  ram.lanesOf(frame).set(words, ram.laneOf(frame));
  return { lines, hardware: { mem: { ram } } } as unknown as Bench;
}

const known: KnownDifference = {
  why: 'five is four',
  scenarios: /^counting/,
  units: ['legacy'],
  lines: [
    { qemu: /^five/, model: 'six' },
    { qemu: /^five/, model: 'four' },
  ],
  memory: [{ half: 0, bits: 0x60 }],
};

const compare = (theirs: Bench, ours: Bench, name = 'counting', version = '11.1.3'): string[] =>
  new Comparison(version, [{ ...known, since: '11.1', until: '11.10' }]).differences(
    name,
    'legacy',
    theirs,
    ours,
  );

describe('a comparison of QEMU and the model', () => {
  it('finds nothing where both say the same', () => {
    expect(compare(benchOf(['a', 'b'], 1, 2), benchOf(['a', 'b'], 1, 2))).toEqual([]);
  });

  it('finds lines that differ, and lines that only one has', () => {
    expect(compare(benchOf(['a', 'b']), benchOf(['a', 'c', 'd']))).toEqual([
      'line 1:\n  QEMU   b\n  model  c',
      'line 2:\n  QEMU   (nothing)\n  model  d',
    ]);
  });

  it('finds words of memory that differ', () => {
    expect(compare(benchOf([], 0, 7), benchOf([], 0, 5))).toEqual([
      'memory at 0x800004: QEMU 0x7, model 0x5',
    ]);
  });

  it('passes over what is known, whichever of its ways', () => {
    expect(compare(benchOf(['five!'], 0x61), benchOf(['four!'], 1))).toEqual([]);
    expect(compare(benchOf(['five!']), benchOf(['six!']))).toEqual([]);
    expect(compare(benchOf(['five!']), benchOf(['seven!']))).toHaveLength(1);
  });

  it.each([
    ['in another scenario', 'singing', '11.1.3'],
    ['before the version that it came with', 'counting', '11.0.9'],
    ['from the version on that has mended it', 'counting', '11.10'],
  ])('does not pass over it %s', (_where, name, version) => {
    expect(compare(benchOf(['five!']), benchOf(['four!']), name, version)).toHaveLength(1);
  });

  it('counts how often it met each, also where it did not', () => {
    const other = { ...known, why: 'never' };
    const comparison = new Comparison('11.1', [known, other]);
    comparison.differences('counting', 'legacy', benchOf(['five']), benchOf(['four']));
    expect([...comparison.met.values()]).toEqual([1, 0]);
  });
});
