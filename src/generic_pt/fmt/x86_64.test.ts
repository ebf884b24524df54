// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { toBigint } from '../../base/u64.ts';
import { Ram } from '../../memory/ram.ts';
import { walkAccess } from '../access.ts';
import { readDirty } from '../dirty.ts';
import { levelSizes } from '../format.ts';
import { IotlbGather } from '../gather.ts';
import { map } from '../map.ts';
import { Prot } from '../prot.ts';
import { Table } from '../table.ts';
import { x8664 } from './x86_64.ts';

/* Items written out by hand from Linux's fmt/x86_64.h. */

function make(topLevel: number) {
  const table = Table.create(x8664, new Ram(), { topLevel, signExtend: true });
  if (typeof table === 'number') throw new Error('no memory');
  return table;
}

const put = (table: Table, va: number, frames: number, oa: number, prot: number): number =>
  map(table, va, frames, oa, prot, new IotlbGather());

/** Indices and items on the way to an address, from the top. */
function wayTo(table: Table, va: number): { index: number; item: bigint }[] {
  const way = [];
  let at = table.top;
  for (let level = table.topLevel; level >= 0; level--) {
    const index = table.index(va, level);
    const lane = table.ram.laneOf(at) + 2 * index;
    const item = toBigint(table.ram.lanesOf(at)[lane] ?? 0, table.ram.lanesOf(at)[lane + 1] ?? 0);
    way.push({ index, item });
    if (level === 0 || (item & 0x80n) !== 0n || item === 0n) break;
    at = Number((item & 0xf_ffff_ffff_f000n) >> 11n);
  }
  return way;
}

describe('x86_64', () => {
  it('has leaves of 4 KiB, 2 MiB and 1 GiB and no others', () => {
    const sizes = [0, 1, 2, 3, 4].map((level) => levelSizes(x8664, level));
    expect(sizes).toEqual([1n << 12n, 1n << 21n, 1n << 30n, 0n, 0n]);
  });

  it('writes P, U, A, and R/W with D where writing is allowed; tables P, R/W, U, A', () => {
    const table = make(3);
    put(table, 2, 2, 0x2_4690, Prot.READ | Prot.WRITE);
    put(table, 4, 2, 0x2_4690, Prot.READ);
    expect(wayTo(table, 2).at(-1)?.item).toBe(0x1234_8000n | 0x67n);
    expect(wayTo(table, 4).at(-1)?.item).toBe(0x1234_8000n | 0x25n);
    for (const { item } of wayTo(table, 2).slice(0, -1)) expect(item & 0xfffn).toBe(0x27n);
  });

  it('sets PS in leaves above level 0, where level 0 has PAT', () => {
    const table = make(4);
    put(table, 1024, 1024, 0, Prot.READ);
    put(table, 2 ** 19, 2 ** 19, 0, Prot.READ);
    expect(wayTo(table, 1024).map(({ item }) => item & 0x80n)).toEqual([0n, 0n, 0n, 0x80n]);
    expect(wayTo(table, 2 ** 19).at(-1)?.item).toBe(0xa5n);
  });

  it('reads what is present, whatever was asked for', () => {
    const table = make(3);
    put(table, 0, 2, 0x100, Prot.WRITE);
    expect(walkAccess(table, 0, false)).toMatchObject({ frame: 0x100 });
    put(table, 2, 2, 0x100, Prot.READ);
    expect(walkAccess(table, 2, true)).toBe('not writable');
  });

  it('puts the upper half into the upper half of the top', () => {
    const table = make(3);
    put(table, 2 ** 53 - 2, 2, 0x100, Prot.READ);
    expect(wayTo(table, 2 ** 53 - 2).map(({ index }) => index)).toEqual([511, 511, 511, 511]);
    put(table, 2 ** 36 - 2, 2, 0x100, Prot.READ);
    expect(wayTo(table, 2 ** 36 - 2).map(({ index }) => index)).toEqual([255, 511, 511, 511]);
  });

  it('takes D (bit 6) for written, clears that and keeps A (bit 5)', () => {
    const table = make(3);
    put(table, 0, 2, 0x1000, Prot.READ | Prot.WRITE);
    expect(readDirty(table, 0, 2, undefined, new IotlbGather())).toBe(0);
    expect(wayTo(table, 0).at(-1)?.item).toBe(0x80_0027n);
  });
});
