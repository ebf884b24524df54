// SPDX-License-Identifier: Apache-2.0
/**
 * Nested translation beside the plainest reading of it: one walk that follows the guest's entries, and asks another walk, of one stage,
 * where each of them lies. Bigints, no cache, nothing of the model's walker.
 */
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { Access, NO_PASID } from './access.ts';
import { SCALABLE } from './capabilities.ts';
import { FS_ALL, Rig, SS_RW } from './test_rig.ts';

const [FS_P, FS_RW, FS_US, FS_A, FS_D, FS_PS] = [1n, 2n, 4n, 0x20n, 0x40n, 0x80n];
const [SS_READ, SS_WRITE, SS_PS, SS_A, SS_D] = [1n, 2n, 0x80n, 0x100n, 0x200n];
/** Of a PASID entry: the second stage has accessed and dirty bits. */
const SSADE = 0x200n;
const ADDRESS = 0xf_ffff_ffff_f000n;
const NESTED = 3;
const PAGE = 4096n;

const indexAt = (address: bigint, level: number): number =>
  Number((address >> BigInt(12 + 9 * level)) & 511n);
const isLeaf = (entry: bigint, level: number, large: bigint): boolean =>
  level === 0 || (entry & large) !== 0n;
/** The byte that a leaf of a level leads to. */
const withOffset = (entry: bigint, level: number, address: bigint): bigint => {
  const size = 1n << BigInt(12 + 9 * level);
  return ((entry & ADDRESS) / size) * size + (address % size);
};

interface Stage {
  readonly top: number;
  readonly marks: boolean;
}

/** Where a second stage of 4 levels has an address, and whether it can be written; undefined where it refuses. Sets A and D if it has them. */
function secondStage(
  rig: Rig,
  { top, marks }: Stage,
  address: bigint,
  write: boolean,
): { readonly at: bigint; readonly writable: boolean } | undefined {
  if (address >= 1n << 48n) return undefined;
  let table = top;
  let allows = SS_RW;
  for (let level = 3; ; level--) {
    const index = indexAt(address, level);
    const entry = rig.get(table, index);
    if ((entry & SS_RW) === 0n) return undefined;
    allows &= entry;
    const last = isLeaf(entry, level, SS_PS);
    if (last && (allows & (write ? SS_WRITE : SS_READ)) === 0n) return undefined;
    if (marks) rig.put(table, index, entry | SS_A | (last && write ? SS_D : 0n));
    if (last)
      return { at: withOffset(entry, level, address), writable: (allows & SS_WRITE) !== 0n };
    table = Number((entry & ADDRESS) / PAGE);
  }
}

/** A guest's table of 4 levels on that stage: every entry lies where the second stage has it. Sets A and D as hardware does. */
function bothStages(
  rig: Rig,
  { guest, below }: { readonly guest: bigint; readonly below: Stage },
  address: bigint,
  write: boolean,
): bigint | undefined {
  let table = guest;
  let user = true;
  let writable = true;
  for (let level = 3; ; level--) {
    const found = secondStage(rig, below, table, false);
    // Where the second stage notes what is written, the guest's tables count as written.
    if (found === undefined || (below.marks && !found.writable)) return undefined;
    const page = Number(found.at / PAGE);
    const index = indexAt(address, level);
    const entry = rig.get(page, index);
    if ((entry & FS_P) === 0n) return undefined;
    user &&= (entry & FS_US) !== 0n;
    writable &&= (entry & FS_RW) !== 0n;
    const last = isLeaf(entry, level, FS_PS);
    // Whether it is allowed is asked of a translation that there is.
    if (last && (!user || (write && !writable))) return undefined;
    const marked = entry | FS_A | (last && write ? FS_D : 0n);
    if (marked !== entry) {
      if (secondStage(rig, below, table, true) === undefined) return undefined;
      rig.put(page, index, marked);
    }
    if (!last) {
      table = entry & ADDRESS;
      continue;
    }
    return secondStage(rig, below, withOffset(entry, level, address), write)?.at;
  }
}

/** Tables at random, twice the same: the guest's physical memory is a few pages, mapped here and there by the second stage. */
function world(seed: number) {
  const prng = new Prng(seed);
  const chance = (n: number): boolean => prng.below(n) === 0;
  const rig = new Rig(SCALABLE, true);
  const below: Stage = { top: rig.page(), marks: chance(2) };
  const where = new Map<bigint, number>();
  let next = 0x10n;
  /** A page of the guest: its own address, and where it really is. */
  const guestPage = (): bigint => {
    const address = next * PAGE;
    next += BigInt(1 + prng.below(3));
    const page = rig.page();
    where.set(address, page);
    const rights = chance(12) ? SS_READ : chance(25) ? 0n : SS_RW;
    if (rights !== 0n) rig.map(below.top, 4, address, BigInt(page) * PAGE + rights);
    return address;
  };
  const guest = guestPage();
  const put = (table: bigint, index: number, entry: bigint): void =>
    rig.put(where.get(table) ?? 0, index, entry);
  const bits = (): bigint => {
    let entry = FS_ALL & ~FS_A;
    if (chance(3)) entry |= FS_A;
    if (chance(8)) entry &= ~FS_RW;
    if (chance(10)) entry &= ~FS_US;
    if (chance(12)) entry &= ~FS_P;
    return entry;
  };
  // A large page of the guest's, and one of the second stage's below it.
  const large = 0x8000_0000n;
  rig.map(below.top, 4, large, 0x1_4000_0000n + SS_RW + SS_PS, { level: 1 });
  const fill = (table: bigint, level: number, from: number): void => {
    for (let i = 0; i < 3; i++) {
      const index = from + i;
      if (level === 0) put(table, index, guestPage() | bits());
      else if (level === 1 && chance(3)) put(table, index, large | bits() | FS_PS);
      else {
        const lower = guestPage();
        put(table, index, lower | bits());
        if (where.has(lower)) fill(lower, level - 1, prng.below(500));
      }
    }
  };
  fill(guest, 3, prng.below(200));
  const ssade = below.marks ? SSADE : 0n;
  rig.pasid(0, NESTED, { ss: below.top, fs: Number(guest / PAGE), bits: ssade });
  rig.on();
  /** An address that the tables have something for, mostly. */
  const address = (): bigint => {
    let found = 0n;
    let table = guest;
    for (let level = 3; level >= 0; level--) {
      const page = where.get(table);
      const used: number[] = [];
      if (page !== undefined)
        for (let index = 0; index < 512; index++) if (rig.get(page, index) !== 0n) used.push(index);
      const index = chance(40) ? prng.below(256) : (used[prng.below(used.length || 1)] ?? 0);
      found |= BigInt(index) << BigInt(12 + 9 * level);
      const entry = page === undefined ? 0n : rig.get(page, index);
      if (level === 1 && (entry & FS_PS) !== 0n) return found + BigInt(prng.below(512)) * PAGE;
      table = entry & ADDRESS;
    }
    return found;
  };
  return { prng, rig, below, guest, address };
}

/** All bytes of the tables. */
const memoryOf = (rig: Rig): string =>
  rig.ram.chunks.map((lanes) => Buffer.from(lanes?.buffer ?? []).toString('latin1')).join('');

describe('a nested translation', () => {
  it('is what two plain walks, one on the other, come to: 150 pairs of tables, 60 accesses each, with caches and without', () => {
    const seen = { translated: 0, refused: 0 };
    for (let seed = 1; seed <= 150; seed++) {
      const [model, plain] = [world(seed), world(seed)];
      const caches = seed % 2 === 1;
      for (let i = 0; i < 60; i++) {
        if (!caches) model.rig.unit.invalidation.all();
        const address = model.address();
        plain.address(); // the same draws
        const write = model.prng.below(2) === 1;
        plain.prng.below(2);
        const found = model.rig.dma(address, write ? Access.WRITE : Access.READ, NO_PASID);
        const expected = bothStages(plain.rig, plain, address, write);
        const where = `tables ${seed}, access ${i}, ${write ? 'write' : 'read'} of 0x${address.toString(16)}`;
        expect([where, found < 0 ? undefined : found]).toEqual([
          where,
          expected === undefined ? undefined : Number(expected / PAGE),
        ]);
        if (expected === undefined) seen.refused++;
        else seen.translated++;
      }
      // Accessed and dirty bits too. With caches, a write that is refused out of them leaves the bits alone.
      if (!caches)
        expect([seed, memoryOf(model.rig) === memoryOf(plain.rig)]).toEqual([seed, true]);
    }
    expect(seen.translated).toBeGreaterThan(1800);
    expect(seen.refused).toBeGreaterThan(600);
  });
});
