// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IdTable } from './id_table.ts';

const filled = (count: number, firstId = 1): IdTable<string> => {
  const table = new IdTable<string>(firstId);
  for (let i = 0; i < count; i++) {
    const id = table.reserve();
    table.store(id, `v${id}`);
  }
  return table;
};

describe('ids', () => {
  it('start at 1 and are the lowest that is free', () => {
    const table = filled(3);
    table.erase(2);
    expect([table.reserve(), table.reserve()]).toEqual([2, 4]);
  });

  it('start where they are told to', () => {
    expect(new IdTable(0).reserve()).toBe(0);
    expect(new IdTable(100).reserve()).toBe(100);
  });

  it('end with EBUSY where none is left', () => {
    const table = new IdTable<string>(1, 40);
    for (let i = 0; i < 40; i++) table.reserve();
    expect(() => table.reserve()).toThrow('no free id is left in 1..40');
    table.erase(33);
    expect(table.reserve()).toBe(33);
  });

  it.each([32, 1024, 32768])('pass from %i to the next one level up', (count) => {
    const table = filled(count + 1);
    expect(table.get(count + 1)).toBe(`v${count + 1}`);
    for (const id of [1, count, count + 1]) {
      table.erase(id);
      expect(table.reserve()).toBe(id);
    }
  });
});

describe('an id', () => {
  it('has no value while reserved, and is taken', () => {
    const table = new IdTable<string>();
    const id = table.reserve();
    expect([table.get(id), table.size, table.isEmpty()]).toEqual([undefined, 0, false]);
    expect(table.reserve()).not.toBe(id);
  });

  it('stays taken as a tombstone until it is erased', () => {
    const table = filled(1);
    expect(table.tombstone(1)).toBe('v1');
    expect([table.get(1), table.size, table.isEmpty()]).toEqual([undefined, 0, false]);
    expect(table.reserve()).toBe(2);
    table.erase(1);
    table.erase(2);
    expect(table.isEmpty()).toBe(true);
  });

  it('must be taken before it is stored or made a tombstone', () => {
    const table = filled(1);
    for (const id of [0, 2, 1.5, -1]) {
      expect(() => table.store(id, 'x')).toThrow(`id ${id} is free`);
      expect(() => table.tombstone(id)).toThrow(`id ${id} is free`);
      expect(table.erase(id)).toBeUndefined();
      expect(table.get(id)).toBeUndefined();
    }
    expect(table.size).toBe(1);
  });
});

describe('entries', () => {
  it('may be erased while iterating, those ahead included', () => {
    const table = filled(100);
    const seen: number[] = [];
    for (const [id] of table.entries()) {
      seen.push(id);
      table.erase(id);
      table.erase(id + 1);
    }
    expect(seen).toEqual(Array.from({ length: 50 }, (_, i) => 2 * i + 1));
    expect(table.isEmpty()).toBe(true);
  });

  it('leave out reservations and tombstones', () => {
    const table = filled(40);
    table.reserve();
    table.tombstone(2);
    expect([...table.entries()].map(([id]) => id)).toEqual(
      Array.from({ length: 40 }, (_, i) => i + 1).filter((id) => id !== 2),
    );
  });
});

it('agrees with a Set of taken ids and a Map of values', () => {
  const op = fc.tuple(
    fc.constantFrom('reserve', 'reserve', 'put', 'put', 'put', 'erase', 'tombstone', 'store'),
    fc.nat(120),
  );
  fc.assert(
    fc.property(fc.array(op, { maxLength: 300, size: 'max' }), (ops) => {
      const table = new IdTable<number>();
      const taken = new Set<number>();
      const values = new Map<number, number>();
      for (const [what, id] of ops) {
        if (what === 'reserve' || what === 'put') {
          let lowest = 1;
          while (taken.has(lowest)) lowest++;
          expect(table.reserve()).toBe(lowest);
          taken.add(lowest);
          if (what === 'put') {
            table.store(lowest, lowest * 10);
            values.set(lowest, lowest * 10);
          }
        } else if (what === 'erase') {
          expect(table.erase(id)).toBe(values.get(id));
          taken.delete(id);
          values.delete(id);
        } else if (taken.has(id)) {
          if (what === 'store') {
            table.store(id, -id);
            values.set(id, -id);
          } else {
            expect(table.tombstone(id)).toBe(values.get(id));
            values.delete(id);
          }
        }
        expect(table.get(id)).toBe(values.get(id));
        expect(table.size).toBe(values.size);
        expect(table.isEmpty()).toBe(taken.size === 0);
      }
      expect([...table.entries()]).toEqual([...values].toSorted(([a], [b]) => a - b));
    }),
    { seed: 7, numRuns: 300 },
  );
});
