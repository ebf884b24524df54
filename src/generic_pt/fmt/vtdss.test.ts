// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Errno } from '../../base/errno.ts';
import { toBigint } from '../../base/u64.ts';
import { Ram } from '../../memory/ram.ts';
import { readDirty } from '../dirty.ts';
import { itemLg2, levelSizes } from '../format.ts';
import { IotlbGather } from '../gather.ts';
import { map } from '../map.ts';
import { Prot } from '../prot.ts';
import { Table } from '../table.ts';
import { vtdss } from './vtdss.ts';

/* Items written out by hand from Linux's fmt/vtdss.h. */

function make(topLevel: number, forceCoherent = false) {
  const table = Table.create(vtdss, new Ram(), { topLevel, forceCoherent });
  if (typeof table === 'number') throw new Error('no memory');
  return table;
}

const put = (table: Table, va: number, frames: number, oa: number, prot: number): number =>
  map(table, va, frames, oa, prot, new IotlbGather());

/** The items on the way to an address, from the top. */
function itemsAt(table: Table, va: number): bigint[] {
  const items: bigint[] = [];
  let at = table.top;
  for (let level = table.topLevel; level >= 0; level--) {
    const lanes = table.ram.lanesOf(at);
    const lane = table.ram.laneOf(at) + 2 * table.index(va, level);
    const item = toBigint(lanes[lane] ?? 0, lanes[lane + 1] ?? 0);
    items.push(item);
    if (level === 0 || (item & 0x80n) !== 0n || item === 0n) break;
    at = Number((item & 0xf_ffff_ffff_f000n) >> 11n);
  }
  return items;
}

describe('vtdss', () => {
  it('has 39, 48 and 57 bits with 3, 4 and 5 levels', () => {
    expect([2, 3, 4].map((top) => itemLg2(vtdss, top) + vtdss.itemsLg2)).toEqual([39, 48, 57]);
  });

  it('has leaves of 4 KiB, 2 MiB and 1 GiB and no others', () => {
    const sizes = [0, 1, 2, 3, 4].map((level) => levelSizes(vtdss, level));
    expect(sizes).toEqual([1n << 12n, 1n << 21n, 1n << 30n, 0n, 0n]);
  });

  it('writes a small leaf as address, R and W, below tables that allow both', () => {
    const table = make(3);
    put(table, 2, 2, 0x2_4690, Prot.READ | Prot.WRITE);
    const [top, second, third, leaf] = itemsAt(table, 2);
    expect(leaf).toBe(0x1234_8000n | 3n);
    for (const item of [top, second, third]) expect((item ?? 0n) & 0xfffn).toBe(3n);
  });

  it('writes only R, only W, and SNP where coherence is forced', () => {
    const table = make(2);
    put(table, 0, 2, 0x1000, Prot.READ);
    put(table, 2, 2, 0x1000, Prot.WRITE);
    table.forceCoherent = true;
    put(table, 4, 2, 0x1000, Prot.READ);
    const leaves = [0, 2, 4].map((va) => itemsAt(table, va).at(-1));
    expect(leaves).toEqual([0x80_0001n, 0x80_0002n, 0x80_0801n]);
    expect((itemsAt(table, 4)[0] ?? 0n) & 0x800n).toBe(0n);
  });

  it('sets PS in leaves above level 0 and there alone', () => {
    const table = make(4);
    put(table, 1024, 1024, 0, Prot.READ);
    put(table, 2 ** 19, 2 ** 19, 0, Prot.READ);
    put(table, 2, 2, 0, Prot.READ);
    expect(itemsAt(table, 1024)).toHaveLength(4);
    expect(itemsAt(table, 1024).at(-1)).toBe(0x81n);
    expect(itemsAt(table, 2 ** 19)).toHaveLength(3);
    expect(itemsAt(table, 2 ** 19).at(-1)).toBe(0x81n);
    expect(itemsAt(table, 2).at(-1)).toBe(0x1n);
  });

  it('takes D (bit 9) for written, clears that and keeps A (bit 8)', () => {
    const table = make(2);
    put(table, 0, 2, 0x1000, Prot.READ | Prot.WRITE);
    let at = table.top;
    for (let level = 2; level > 0; level--) {
      const lane = table.ram.laneOf(at);
      const lanes = table.ram.lanesOf(at);
      at = Number(toBigint((lanes[lane] ?? 0) & ~0xfff, lanes[lane + 1] ?? 0) >> 11n);
    }
    const lanes = table.ram.lanesOf(at);
    const lane = table.ram.laneOf(at);
    lanes[lane] = (lanes[lane] ?? 0) | 0x100;
    const told: number[] = [];
    const read = (): number =>
      readDirty(table, 0, 2, (frame) => told.push(frame), new IotlbGather());
    read();
    expect(told).toEqual([]);
    lanes[lane] = (lanes[lane] ?? 0) | 0x300;
    read();
    expect(told).toEqual([0]);
    expect(lanes[lane]).toBe(0x80_0103);
  });

  it('ends at 52 bits of output', () => {
    const table = make(3);
    expect(put(table, 0, 2, 2 ** 41 - 2, Prot.READ)).toBe(0);
    expect(itemsAt(table, 0).at(-1)).toBe(0xf_ffff_ffff_f001n);
    expect(put(table, 2, 2, 2 ** 41, Prot.READ)).toBe(-Errno.ERANGE);
  });
});
