// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Ram } from '../memory/ram.ts';
import { walkAccess } from './access.ts';
import { readDirty } from './dirty.ts';
import { amdv1, amdv1Mock } from './fmt/amdv1.ts';
import { vtdss } from './fmt/vtdss.ts';
import type { TableFormat } from './format.ts';
import { IotlbGather } from './gather.ts';
import { map } from './map.ts';
import { Prot } from './prot.ts';
import { Table } from './table.ts';
import { NO_FRAME, translate } from './walk.ts';

const RW = Prot.READ | Prot.WRITE;

function make(format: TableFormat, topLevel: number) {
  const table = Table.create(format, new Ram(), { topLevel });
  if (typeof table === 'number') throw new Error('no memory');
  const put = (start: number, frames: number, oa: number, prot: number = RW) =>
    map(table, start, frames, oa, prot, new IotlbGather());
  return { table, put };
}

describe.each([
  [amdv1, 3],
  [amdv1Mock, 2],
  [vtdss, 3],
] as const)('an access to a table of $name', (format, topLevel) => {
  it('leads where translate leads, for every page size, to the end of its entry', () => {
    const { table, put } = make(format, topLevel);
    // 2 MiB and 16 pages, contiguous and aligned: entries of several sizes.
    const [start, oa, frames] = [0x1_0000, 0x20_0000, 1024 + 32];
    expect(put(start, frames, oa)).toBe(0);
    fc.assert(
      fc.property(fc.integer({ min: start - 8, max: start + frames + 8 }), (frame) => {
        const found = walkAccess(table, frame, true);
        const expected = translate(table, frame);
        if (expected === NO_FRAME) {
          expect(found).toBe('not mapped');
          return;
        }
        if (typeof found === 'string') throw new Error(found);
        expect(found.frame).toBe(expected);
        expect(found.frames).toBeGreaterThan(0);
        expect(translate(table, frame + found.frames - 1)).toBe(expected + found.frames - 1);
      }),
      { numRuns: 300 },
    );
  });

  it('needs the permission of its kind', () => {
    const { table, put } = make(format, topLevel);
    put(0, 2, 0x100, Prot.READ);
    put(2, 2, 0x200, Prot.WRITE);
    expect(walkAccess(table, 0, false)).toMatchObject({ frame: 0x100 });
    expect(walkAccess(table, 0, true)).toBe('not writable');
    expect(walkAccess(table, 2, false)).toBe('not readable');
    expect(walkAccess(table, 2, true)).toMatchObject({ frame: 0x200 });
  });

  it('beyond the reach of the table is out of range', () => {
    const { table } = make(format, topLevel);
    expect(walkAccess(table, table.end, false)).toBe('out of range');
    expect(walkAccess(table, table.end - 1, false)).toBe('not mapped');
    expect(walkAccess(table, -1, false)).toBe('out of range');
  });

  it('marks what it writes, only where it is asked to and allowed', () => {
    const { table, put } = make(format, topLevel);
    put(0, 2, 0x100);
    put(2, 2, 0x300, Prot.READ);
    const dirty = (): number[] => {
      const told: number[] = [];
      readDirty(table, 0, 4, (frame) => told.push(frame), undefined);
      return told;
    };
    walkAccess(table, 0, true);
    walkAccess(table, 0, false, true);
    walkAccess(table, 2, true, true);
    expect(dirty()).toEqual([]);
    walkAccess(table, 0, true, true);
    expect(dirty()).toEqual([0]);
    expect(translate(table, 0)).toBe(0x100);
  });
});
