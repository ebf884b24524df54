// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { dumpTable } from '../generic_pt/dump.ts';
import { amdv1 } from '../generic_pt/fmt/amdv1.ts';
import { Table } from '../generic_pt/table.ts';
import { IotlbGather, Prot } from './domain.ts';
import { FakeDomain, FakeWorld } from './fake_driver.ts';

let world: FakeWorld;

beforeEach(() => {
  world = new FakeWorld();
  return expectQuiet;
});

/** Nobody broke a rule, and no lock is left held. */
function expectQuiet(): void {
  expect(world.core.warnings).toEqual([]);
  world.sim.assertNothingHeld();
}

describe('a paging domain of a page table', () => {
  const make = (): FakeDomain => {
    const domain = world.makeDomain();
    if (typeof domain === 'number') throw new Error('no memory');
    return domain;
  };
  const RW = Prot.READ | Prot.WRITE;

  it('maps at any address of its aperture, above 2^53 too', () => {
    const table = Table.create(amdv1, world.ram, { topLevel: 5 });
    if (typeof table === 'number') throw new Error('no memory');
    const domain = new FakeDomain(table);
    expect(domain.apertureLast).toBe(2n ** 64n - 1n);
    const iova = 2n ** 64n - 4096n;
    expect(domain.map(iova, 8, 2, RW)).toBe(0);
    expect(domain.iovaToPhys(2n ** 64n - 1n)).toBe(0x4fffn);
    expect(domain.iovaToFrame(iova + 2048n)).toBe(9);
    expect(domain.unmap(iova, 2)).toBe(2);
  });

  it.each([1n, 2n ** 63n + 1n])('refuses an address inside a frame: 0x1000 + %i', (offset) => {
    const domain = make();
    const before = dumpTable(domain.table);
    expect(domain.map(0x1000n + offset, 8, 2, RW)).toBe(-Errno.ENXIO);
    expect(domain.unmap(0x1000n + offset, 2)).toBe(0);
    expect(dumpTable(domain.table)).toEqual(before);
  });

  it('frees tables at the sync, not before', () => {
    const domain = make();
    const top = world.ram.liveFrames;
    const tableful = 1024; // the reach of one table of level 0
    domain.map(0n, 3 * tableful + 2, tableful, RW);
    const live = world.ram.liveFrames;
    const gather = new IotlbGather();
    expect(domain.unmapGathered(0n, tableful, gather)).toBe(tableful);
    expect([gather.start, gather.last, gather.tables.length]).toEqual([0, tableful - 1, 1]);
    expect(world.ram.liveFrames).toBe(live);
    domain.iotlbSync(gather);
    expect(world.ram.liveFrames).toBe(live - 2);
    expect(gather.isEmpty).toBe(true);
    expect(live).toBeGreaterThan(top);
  });

  it('flushes, and frees the table, when a large page takes its place', () => {
    const flushed: number[][] = [];
    class Recording extends FakeDomain {
      protected override flush(gather: IotlbGather): void {
        flushed.push([...gather.tables]);
      }
    }
    const domain = new Recording(make().table);
    domain.map(0n, 8, 2, RW);
    domain.unmap(0n, 2); // leaves the table, empty
    const live = world.ram.liveFrames;
    flushed.length = 0;
    expect(domain.map(0n, 1024, 1024, RW)).toBe(0);
    expect(world.ram.liveFrames).toBe(live - 2);
    expect(flushed).toEqual([[expect.any(Number)]]);
  });

  it('gives all memory back when it is freed', () => {
    const domain = make();
    domain.map(0x1000n, 2, 1000, RW);
    domain.free();
    expect(world.ram.liveFrames).toBe(0);
  });
});
