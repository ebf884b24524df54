// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { LEGACY, SCALABLE } from './capabilities.ts';
import { FS_ALL, Rig, SID, SS_RW } from './test_rig.ts';

const ADDRESS = 0x1234_5000n;
const at = (page: number): bigint => BigInt(page) * 4096n;
const [FIRST, SECOND, NESTED] = [1, 2, 3];

/** Two domains of legacy mode, 7 and 8, each with a page at ADDRESS and the one after, read once: so that they are cached. */
function legacyRig() {
  const rig = new Rig(LEGACY);
  const tops = [7, 8].map((did) => {
    const top = rig.page();
    rig.map(top, 4, ADDRESS, at(0x10_2000) + SS_RW);
    rig.map(top, 4, ADDRESS + 4096n, at(0x10_2001) + SS_RW);
    rig.legacy(top, { did, sid: did });
    return top;
  });
  rig.on();
  const read = (did: number, address = ADDRESS): number => rig.dma(address, 0, -1, did);
  const all = (): number[] => [
    read(7),
    read(7, ADDRESS + 4096n),
    read(8),
    read(8, ADDRESS + 4096n),
  ];
  expect(all()).toEqual([0x10_2000, 0x10_2001, 0x10_2000, 0x10_2001]);
  // The entries go away in memory: whatever is still answered comes out of a cache.
  for (const top of tops) for (const page of [0n, 4096n]) rig.map(top, 4, ADDRESS + page, 0n);
  const stale = (): boolean[] => all().map((page) => page >= 0);
  return { rig, stale, tops };
}

describe('The IOTLB of legacy mode', () => {
  it('goes on answering what memory has not any more', () => {
    expect(legacyRig().stale()).toEqual([true, true, true, true]);
  });

  it.each([
    ['all', [0x12n, 0n], [false, false, false, false]],
    ['of a domain', [0x7_0022n, 0n], [false, false, true, true]],
    ['of a page', [0x7_0032n, ADDRESS], [false, true, true, true]],
    ['of two pages', [0x7_0032n, 0x1234_4000n + 1n], [false, true, true, true]],
    ['of two pages beside', [0x7_0032n, 0x1234_6000n + 1n], [true, false, true, true]],
    ['of four pages', [0x7_0032n, 0x1234_4000n + 2n], [false, false, true, true]],
    ['of a page of another domain', [0x9_0032n, ADDRESS], [true, true, true, true]],
  ] as const)('forgets, %s, what the queue asks it to', (_, descriptor, left) => {
    const { rig, stale } = legacyRig();
    rig.queueOn();
    rig.submit(descriptor);
    expect(stale()).toEqual(left);
  });

  it.each([
    ['all', 1, 0n, [false, false, false, false]],
    ['of a domain', 2, 0n, [false, false, true, true]],
    ['of a page', 3, ADDRESS, [false, true, true, true]],
  ] as const)(
    'forgets, %s, what registers ask it to, and says what it did',
    (_, granularity, address, left) => {
      const { rig, stale } = legacyRig();
      rig.mmio.write64(0x500, address);
      rig.mmio.write64(0x508, (1n << 63n) + (BigInt(granularity) << 60n) + (7n << 32n));
      expect((rig.mmio.read64(0x508) >> 57n) & 0x43n).toBe(BigInt(granularity));
      expect(stale()).toEqual(left);
    },
  );

  it('forgets a large page by any part of it', () => {
    const rig = new Rig(LEGACY);
    const top = rig.page();
    rig.map(top, 4, 0x4000_0000n, 0x1_4000_0000n + SS_RW + 0x80n, { level: 1 });
    rig.legacy(top);
    rig.on();
    rig.queueOn();
    expect([rig.dma(0x4000_0000n), rig.dma(0x4000_3000n)]).toEqual([0x14_0000, 0x14_0003]);
    rig.map(top, 4, 0x4000_0000n, 0n, { level: 1 });
    rig.submit([0x7_0032n, 0x401f_f000n]);
    expect([rig.dma(0x4000_0000n), rig.dma(0x4000_3000n)]).toEqual([-6, -6]);
  });
});

describe('A paging-structure cache', () => {
  it.each([
    ['stays with the hint that only leaves changed', 0x40n, true],
    ['goes without it', 0n, false],
  ])('%s', (_, hint, isKept) => {
    const { rig, tops } = legacyRig();
    const top = tops[0] ?? 0;
    // Another table of leaves, with another page in it.
    const table = rig.page();
    rig.map(top, 4, ADDRESS, at(0x10_3000) + SS_RW);
    rig.put(table, Number((ADDRESS >> 12n) & 511n), at(0x10_4000) + SS_RW);
    rig.map(top, 4, ADDRESS, at(table) + SS_RW, { level: 1 });
    rig.queueOn();
    rig.submit([0x7_0032n, ADDRESS + hint]);
    expect(rig.dma(ADDRESS, 0, -1, 7)).toBe(isKept ? 0x10_3000 : 0x10_4000);
  });
});

describe('The context cache', () => {
  const changed = () => {
    const { rig } = legacyRig();
    rig.queueOn();
    for (const sid of [7, 8]) rig.put(rig.context, sid * 2, 0n);
    const left = (): boolean[] => [7, 8].map((sid) => rig.dma(ADDRESS, 0, -1, sid) >= 0);
    expect(left()).toEqual([true, true]);
    return { rig, left };
  };
  it.each([
    ['all', 0x11n, [false, false]],
    ['a domain', 0x7_0021n, [false, true]],
    ['a requester', 0x7_0000_0031n, [false, true]],
    ['a requester without bit 2 of its function', (1n << 48n) + 0x3_0000_0031n, [false, true]],
    ['another requester', 0x9_0000_0031n, [true, true]],
  ])('forgets %s by the queue', (_, descriptor, expected) => {
    const { rig, left } = changed();
    rig.submit([descriptor, 0n]);
    expect(left()).toEqual(expected);
  });

  it.each([
    ['all', 1n << 61n, [false, false]],
    ['a domain', (2n << 61n) + 7n, [false, true]],
    ['a requester', (3n << 61n) + (7n << 16n), [false, true]],
  ])('forgets %s by registers', (_, command, expected) => {
    const { rig, left } = changed();
    rig.mmio.write32(0x18, 0x8000_0000);
    rig.mmio.write64(0x28, (1n << 63n) + command);
    expect(rig.mmio.read64(0x28) >> 63n).toBe(0n);
    expect((rig.mmio.read64(0x28) >> 59n) & 3n).toBe((command >> 61n) & 3n);
    expect(left()).toEqual(expected);
  });

  it('remembers what is not present in caching mode only', () => {
    for (const CM of [0, 1]) {
      const rig = new Rig({ ...LEGACY, cap: { ...LEGACY.cap, CM } });
      rig.on();
      rig.queueOn();
      expect(rig.dma(ADDRESS)).toBe(-2);
      const top = rig.page();
      rig.legacy(top);
      expect(rig.dma(ADDRESS)).toBe(CM === 1 ? -2 : -6);
      rig.submit([0x11n, 0n]);
      expect(rig.dma(ADDRESS)).toBe(-6);
      rig.map(top, 4, ADDRESS, at(0x10_2000) + SS_RW);
      expect(rig.dma(ADDRESS)).toBe(CM === 1 ? -6 : 0x10_2000);
      rig.submit([0x7_0032n, ADDRESS]);
      expect(rig.dma(ADDRESS)).toBe(0x10_2000);
    }
  });
});

/** PASIDs 0 (second stage, domain 7), 5 (first stage, 7), 6 (first, 7), 9 (nested, 8), cached, and gone from memory. */
function scalableRig() {
  const rig = new Rig(SCALABLE, true);
  const ss = rig.page();
  rig.map(ss, 4, ADDRESS, at(0x10_2000) + SS_RW);
  rig.map(ss, 4, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
  rig.pasid(0, SECOND, { ss });
  const tops = [5, 6, 9].map((pasid) => {
    const fs = rig.page();
    rig.map(fs, 4, ADDRESS, at(0x10_2000 + pasid) + FS_ALL, { table: FS_ALL });
    rig.pasid(pasid, pasid === 9 ? NESTED : FIRST, { fs, ss, did: pasid === 9 ? 8 : 7 });
    return fs;
  });
  rig.on();
  rig.queueOn();
  const all = (): number[] => [-1, 5, 6, 9].map((pasid) => rig.dma(ADDRESS, 0, pasid));
  expect(all()).toEqual([0x10_2000, 0x10_2005, 0x10_2006, 0x10_2009]);
  const clearTables = (): void => {
    for (const top of [ss, ...tops]) rig.map(top, 4, ADDRESS, 0n);
  };
  return { rig, clearTables, left: (): boolean[] => all().map((page) => page >= 0) };
}

describe('In scalable mode', () => {
  it.each([
    [
      'an IOTLB invalidation of a domain takes all of it',
      [0x7_0022n, 0n],
      [false, false, false, true],
    ],
    [
      'one of pages takes those, and first stages as a whole',
      [0x7_0032n, 0x9999_9000n],
      [true, false, false, true],
    ],
    [
      'one of pages takes nested ones as a whole',
      [0x8_0032n, 0x9999_9000n],
      [true, true, true, false],
    ],
    ['one of a PASID takes that', [0x5_0007_0026n, 0n], [true, false, true, true]],
    [
      'one of a PASID in another domain takes nothing',
      [0x5_0008_0026n, 0n],
      [true, true, true, true],
    ],
    ['one of pages of a PASID takes those', [0x5_0007_0036n, ADDRESS], [true, false, true, true]],
    [
      'one of other pages of a PASID takes nothing',
      [0x5_0007_0036n, 0x9999_9000n],
      [true, true, true, true],
    ],
    [
      'one of more pages of a PASID than those of a domain can be takes those',
      [0x5_0007_0036n, 0x1fn],
      [true, false, true, true],
    ],
    [
      'one of pages of a nested PASID takes those',
      [0x9_0008_0036n, ADDRESS],
      [true, true, true, false],
    ],
    ['one of a PASID takes a second stage', [0x0_0007_0026n, 0n], [false, true, true, true]],
    [
      'one of pages of a PASID takes no second stage',
      [0x0_0007_0036n, ADDRESS],
      [true, true, true, true],
    ],
  ] as const)('%s', (_, descriptor, expected) => {
    const { rig, clearTables, left } = scalableRig();
    clearTables();
    rig.submit(descriptor);
    expect(left()).toEqual(expected);
  });

  it.each([
    ['all', 0x37n, [false, false, false, false]],
    ['a domain', 0x7_0007n, [false, false, false, true]],
    ['a PASID of a domain', 0x5_0007_0017n, [true, false, true, true]],
    ['nothing of another domain', 0x5_0008_0017n, [true, true, true, true]],
  ] as const)('a PASID cache invalidation takes %s', (_, descriptor, expected) => {
    const { rig, left } = scalableRig();
    for (const pasid of [0, 5, 6, 9]) rig.put(rig.pasids, pasid * 8, 0n);
    expect(left()).toEqual([true, true, true, true]);
    rig.submit([descriptor, 0n]);
    expect(left()).toEqual(expected);
  });

  it('context entries are cached apart from PASID entries', () => {
    const { rig, left } = scalableRig();
    rig.put(rig.context, SID * 4, 0n);
    rig.submit([0x37n, 0n]);
    expect(left()).toEqual([true, true, true, true]);
    rig.submit([0x31n + (BigInt(SID) << 32n), 0n]);
    expect(left()).toEqual([false, false, false, false]);
  });
});

describe('Registers that invalidate', () => {
  it('are ignored outside legacy mode, and say so', () => {
    const rig = new Rig(SCALABLE, true);
    const ss = rig.page();
    rig.map(ss, 4, ADDRESS, at(0x10_2000) + SS_RW);
    rig.pasid(0, SECOND, { ss });
    rig.on();
    expect(rig.dma(ADDRESS)).toBe(0x10_2000);
    rig.map(ss, 4, ADDRESS, 0n);
    rig.put(rig.context, SID * 4, 0n);
    rig.mmio.write64(0x28, 5n << 61n);
    rig.mmio.write64(0x508, 9n << 60n);
    expect([rig.mmio.read64(0x28) >> 59n, rig.mmio.read64(0x508) >> 57n]).toEqual([4n, 8n]);
    expect(rig.dma(ADDRESS)).toBe(0x10_2000);
  });
});
