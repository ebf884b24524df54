// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Ram } from '../../memory/ram.ts';
import { dumpTable } from '../dump.ts';
import { levelSizes, type TableFormat } from '../format.ts';
import { IotlbGather } from '../gather.ts';
import { map } from '../map.ts';
import { Table } from '../table.ts';
import { amdv1, amdv1Mock } from './amdv1.ts';

/* Bits written out by hand; nothing here is computed by what it checks. */

const READ = 1;
const WRITE = 2;

/** The 64 bits of the items that a map into an empty table makes, by level and index, and the frame of each table. */
function items(
  format: TableFormat,
  topLevel: number,
  mapping: { start: number; frames: number; oa: number; prot: number; coherent?: boolean },
): Map<string, bigint> {
  const ram = new Ram({ firstFrame: 0x100000 });
  const table = Table.create(format, ram, { topLevel, forceCoherent: mapping.coherent ?? false });
  if (typeof table === 'number') throw new Error('no memory');
  const { start, frames, oa, prot } = mapping;
  expect(map(table, start, frames, oa, prot, new IotlbGather())).toBe(0);
  const found = new Map<string, bigint>();
  for (const line of dumpTable(table).slice(1)) {
    const [, where = '', bits = ''] = line.split(' ');
    found.set(where, BigInt(`0x${bits}`));
  }
  return found;
}

describe('AMDv1 items', () => {
  it('a 4 KiB page: PR, IR, IW and the address at bit 12', () => {
    const found = items(amdv1, 2, {
      start: 0,
      frames: 2,
      oa: 0x1_2345_6780 / 0x10,
      prot: READ | WRITE,
    });
    // Frame 0x12345678 is byte 0x91a2b3c000.
    expect(found.get('L0[0]')).toBe(0x6000_0091_a2b3_c001n);
  });

  it('read only has IR alone, write only IW alone', () => {
    const at = { start: 0, frames: 2, oa: 2 };
    expect(items(amdv1, 2, { ...at, prot: READ }).get('L0[0]')).toBe(0x2000_0000_0000_1001n);
    expect(items(amdv1, 2, { ...at, prot: WRITE }).get('L0[0]')).toBe(0x4000_0000_0000_1001n);
  });

  it('a coherent table sets FC in leaves', () => {
    const found = items(amdv1, 2, { start: 0, frames: 2, oa: 2, prot: READ, coherent: true });
    expect(found.get('L0[0]')).toBe(0x3000_0000_0000_1001n);
  });

  it('tables have their level as next level, IR and IW', () => {
    const found = items(amdv1, 2, { start: 0, frames: 2, oa: 2, prot: READ });
    // Tables were allocated at frames 0x100000 (top), 0x100002 (level 1), 0x100004 (level 0).
    expect(found.get('L2[0]')).toBe(0x6000_0000_8000_1401n);
    expect(found.get('L1[0]')).toBe(0x6000_0000_8000_2201n);
  });

  it('a 2 MiB page is one item of level 1 with next level 0', () => {
    const found = items(amdv1, 2, { start: 1024, frames: 1024, oa: 0x40000, prot: READ | WRITE });
    expect(found.get('L1[1]')).toBe(0x6000_0000_2000_0001n);
    expect(found.size).toBe(2);
  });

  it('an 8 KiB page is two equal items with next level 7 and no ones in the address', () => {
    const found = items(amdv1, 2, { start: 4, frames: 4, oa: 8, prot: READ });
    expect(found.get('L0[2]')).toBe(0x2000_0000_0000_4e01n);
    expect(found.get('L0[3]')).toBe(0x2000_0000_0000_4e01n);
  });

  it('a 64 KiB page is sixteen items with three ones', () => {
    const found = items(amdv1, 2, { start: 32, frames: 32, oa: 64, prot: READ });
    expect(found.get('L0[16]')).toBe(0x2000_0000_0002_7e01n);
    expect(found.get('L0[31]')).toBe(0x2000_0000_0002_7e01n);
    expect(found.size).toBe(18);
  });

  it('a 4 MiB page is two items of level 1 with nine ones', () => {
    const found = items(amdv1, 2, { start: 2048, frames: 2048, oa: 4096, prot: READ });
    expect(found.get('L1[2]')).toBe(0x2000_0000_009f_fe01n);
    expect(found.get('L1[3]')).toBe(0x2000_0000_009f_fe01n);
  });

  it('sizes: every power of two from 4 KiB to 2^51 but 512 GiB, none at the sixth level', () => {
    const sizes = [0, 1, 2, 3, 4, 5].map((level) => levelSizes(amdv1, level));
    expect(sizes[0]).toBe(0x1f_f000n);
    expect(sizes[3]).toBe(0xff00_0000_0000n);
    expect(sizes[4]).toBe(0xf_0000_0000_0000n);
    expect(sizes[5]).toBe(0n);
  });
});

describe('items of the test driver', () => {
  it('count addresses in 2 KiB at bit 12', () => {
    const found = items(amdv1Mock, 2, { start: 1, frames: 1, oa: 3, prot: READ | WRITE });
    expect(found.get('L0[1]')).toBe(0x6000_0000_0000_3001n);
  });

  it('a 4 KiB page is two items with next level 7', () => {
    const found = items(amdv1Mock, 2, { start: 2, frames: 2, oa: 6, prot: READ });
    expect(found.get('L0[2]')).toBe(0x2000_0000_0000_6e01n);
    expect(found.get('L0[3]')).toBe(0x2000_0000_0000_6e01n);
  });

  it('tables are pointed to in the same unit', () => {
    const found = items(amdv1Mock, 2, { start: 1, frames: 1, oa: 3, prot: READ });
    expect(found.get('L1[0]')).toBe(0x6000_0001_0000_4201n);
  });
});
