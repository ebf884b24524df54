// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { Access } from './access.ts';
import { LEGACY, SCALABLE, type VtdDescription } from './capabilities.ts';
import { ModelInitiator } from './initiator.ts';
import { FS_ALL, Rig, SID, SS_RW } from './test_rig.ts';

const at = (page: number | bigint): bigint => BigInt(page) * 4096n;
const [FIRST, SECOND, NESTED, PASS] = [1, 2, 3, 4];
const { WRITE, EXECUTE, PRIVILEGED, ATOMIC } = Access;

describe('A unit that is off', () => {
  it('passes every address through', () => {
    expect(new Rig(LEGACY).dma(0xffff_ffff_ffff_f123n)).toBe(0xf_ffff_ffff_ffff);
  });
});

describe('A second stage', () => {
  const wide: VtdDescription = { ...LEGACY, cap: { ...LEGACY.cap, SAGAW: 0b01110, MGAW: 56 } };
  const cases = [3, 4, 5].flatMap((levels) =>
    [0, 1, 2].map((level) => [levels, level] as [number, number]),
  );
  it.each(cases)('of %i levels maps with a leaf of level %i', (levels, level) => {
    const rig = new Rig(wide);
    const size = 1n << BigInt(12 + 9 * level);
    const address = (1n << BigInt(12 + 9 * levels)) - 2n * size;
    const target = 0xa_8000_0000n;
    const top = rig.page();
    rig.map(top, levels, address, target + SS_RW + (level > 0 ? 0x80n : 0n), { level });
    rig.legacy(top, { aw: levels - 2 });
    rig.on();
    const last = address + size - 1n;
    // A miss each, a miss out of the paging-structure cache, and a hit.
    expect([rig.dma(address), rig.dma(last), rig.dma(last)]).toEqual([
      Number(target >> 12n),
      Number((target + size - 1n) >> 12n),
      Number((target + size - 1n) >> 12n),
    ]);
    expect(rig.dma(address + size)).toBe(-6);
    expect(rig.unit.lastLg2).toBe(9 * level);
  });

  it.each([
    ['2 MiB', 1, 0b10],
    ['1 GiB', 2, 0b01],
  ])('has no leaf of %s where the unit has none', (_, level, SSLPS) => {
    const rig = new Rig({ ...LEGACY, cap: { ...LEGACY.cap, SSLPS } });
    const top = rig.page();
    rig.map(top, 4, 0n, SS_RW + 0x80n, { level });
    rig.legacy(top);
    rig.on();
    expect(rig.dma(0n)).toBe(-0xc);
  });

  it('refuses reserved bits of large leaves, and SNP where there is no snoop control', () => {
    for (const [entry, level] of [
      [0x1000n + 0x83n, 1],
      [0x20_0000n + 0x83n, 2],
      [0x803n, 0],
      [0x803n, 1],
    ] as const) {
      const rig = new Rig({ ...LEGACY, ecap: { ...LEGACY.ecap, SC: 0 } });
      const top = rig.page();
      rig.map(top, 4, 0n, entry, { level });
      rig.legacy(top);
      rig.on();
      expect(rig.dma(0n)).toBe(-0xc);
    }
  });

  it('allows what every entry on the way allows', () => {
    const rig = new Rig(LEGACY);
    const top = rig.page();
    const [above, index] = rig.map(top, 4, 0n, at(rig.page()) + 1n, { level: 2 });
    rig.map(top, 4, 0n, at(0x10_2000) + SS_RW);
    rig.legacy(top);
    rig.on();
    expect([
      rig.dma(0n),
      rig.dma(0n, WRITE),
      rig.dma(0x1000n, WRITE),
      rig.dma(0n, WRITE + ATOMIC),
    ]).toEqual([0x10_2000, -5, -5, -5]);
    expect(rig.get(above, index) & 3n).toBe(1n);
  });

  it('sets accessed bits on the way, and the dirty bit at the first write even where a read was cached', () => {
    const rig = new Rig(SCALABLE, true);
    const ss = rig.page();
    const [page, index] = rig.map(ss, 4, 0n, at(0x10_2000) + SS_RW);
    rig.pasid(0, SECOND, { ss, bits: 1n << 9n });
    rig.on();
    rig.dma(0n);
    expect([rig.get(ss, 0) & 0x300n, rig.get(page, index) & 0x300n]).toEqual([0x100n, 0x100n]);
    rig.dma(0n, WRITE);
    expect([rig.get(ss, 0) & 0x300n, rig.get(page, index) & 0x300n]).toEqual([0x100n, 0x300n]);
  });

  it('sets none unless the PASID entry asks for it', () => {
    const rig = new Rig(SCALABLE, true);
    const ss = rig.page();
    const [page, index] = rig.map(ss, 4, 0n, at(0x10_2000) + SS_RW);
    rig.pasid(0, SECOND, { ss });
    rig.on();
    rig.dma(0n, WRITE);
    expect(rig.get(page, index) & 0x300n).toBe(0n);
  });
});

describe('Pass-through', () => {
  it('leads where the address says, in both modes', () => {
    const legacy = new Rig(LEGACY);
    legacy.legacy(0, { tt: 2 });
    legacy.on();
    const scalable = new Rig(SCALABLE, true);
    scalable.pasid(0, PASS);
    scalable.on();
    expect([legacy.dma(0x12_3456_7000n), scalable.dma(0x12_3456_7000n)]).toEqual([
      0x1234567, 0x1234567,
    ]);
  });
});

describe('A first stage', () => {
  const firstRig = (entry: bigint, more = {}, table = FS_ALL) => {
    const rig = new Rig(SCALABLE, true);
    const fs = rig.page();
    const [page, index] = rig.map(fs, 4, 0n, at(0x10_2000) + entry, { table });
    rig.pasid(0, FIRST, { fs, ...more });
    rig.pasid(5, FIRST, { fs, ...more });
    rig.on();
    return { rig, fs, entry: () => rig.get(page, index) & 0xfffn };
  };

  const cases = [4, 5].flatMap((levels) =>
    [0, 1, 2].map((level) => [levels, level] as [number, number]),
  );
  it.each(cases)('of %i levels maps with a leaf of level %i, in both halves', (levels, level) => {
    const rig = new Rig(SCALABLE, true);
    const size = 1n << BigInt(12 + 9 * level);
    const half = 1n << BigInt(11 + 9 * levels);
    const fs = rig.page();
    const target = 0xa_8000_0000n;
    for (const address of [half - size, (1n << 64n) - size]) {
      rig.map(fs, levels, address, target + FS_ALL + (level > 0 ? 0x80n : 0n), {
        level,
        table: FS_ALL,
      });
    }
    rig.pasid(0, FIRST, { fs, bits2: levels === 5 ? 4n : 0n });
    rig.on();
    const expected = Number((target + size - 1n) >> 12n);
    expect([rig.dma(half - 1n), rig.dma((1n << 64n) - 1n)]).toEqual([expected, expected]);
    expect(rig.dma(half)).toBe(-0x80);
  });

  it('sets A on the way and D at the first write, and EA where the PASID entry asks for it', () => {
    const plain = firstRig(7n, {}, 7n);
    plain.rig.dma(0n);
    expect([plain.entry(), plain.rig.get(plain.fs, 0) & 0xfffn]).toEqual([0x27n, 0x27n]);
    plain.rig.dma(0n, WRITE);
    expect([plain.entry(), plain.rig.get(plain.fs, 0) & 0xfffn]).toEqual([0x67n, 0x27n]);
    const extended = firstRig(7n, { bits2: 0x80n });
    extended.rig.dma(0n);
    expect(extended.entry()).toBe(0x427n);
  });

  it.each([
    ['obeys write protection where WPE is set', 0x11n, -0x85],
    ['does not where it is clear', 0x01n, 0x10_2000],
  ])('a supervisor %s', (_, bits2, expected) => {
    const { rig } = firstRig(0x25n, { bits2 });
    expect(rig.dma(0n, PRIVILEGED, 5)).toBe(0x10_2000);
    expect(rig.dma(0n, PRIVILEGED + WRITE, 5)).toBe(expected);
    expect(rig.dma(0n, WRITE, 5)).toBe(-0x85);
  });

  it("a supervisor's page is not a user's, also out of the cache", () => {
    const { rig } = firstRig(0x23n, { bits2: 1n });
    expect([rig.dma(0n, PRIVILEGED, 5), rig.dma(0n, 0, 5)]).toEqual([0x10_2000, -0x81]);
  });

  it('plain requests have the privilege that the context entry says', () => {
    const { rig } = firstRig(0x23n, { bits2: 1n });
    rig.put(rig.context, SID * 4 + 1, 1n << 20n);
    expect(rig.dma(0n)).toBe(0x10_2000);
  });

  it('does not take PAT of a large page for a part of its address', () => {
    const rig = new Rig(SCALABLE, true);
    const fs = rig.page();
    rig.map(fs, 4, 0n, 0xa_8000_0000n + FS_ALL + 0x1080n, { level: 1, table: FS_ALL });
    rig.pasid(0, FIRST, { fs });
    rig.on();
    expect(rig.dma(0x3000n)).toBe(0xa8_0003);
  });

  it('executes what is not forbidden to', () => {
    expect(firstRig(FS_ALL, { bits2: 2n }).rig.dma(0n, EXECUTE, 5)).toBe(0x10_2000);
  });

  it('takes the PASID for plain requests from the context entry', () => {
    const { rig } = firstRig(FS_ALL);
    rig.put(rig.pasids, 0, 0n);
    rig.put(rig.context, SID * 4 + 1, 5n);
    expect(rig.dma(0n)).toBe(0x10_2000);
  });
});

describe('A first stage over a second', () => {
  it('equals one walk after the other, for every combination of sizes', () => {
    for (const below of [0, 1, 2]) {
      for (const above of [0, 1, 2]) {
        const rig = new Rig(SCALABLE, true);
        const [fs, ss] = [rig.page(), rig.page()];
        rig.map(ss, 4, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
        const [guest, target] = [0x20_8000_0000n, 0x30_c000_0000n];
        const leaf = (level: number): bigint => (level > 0 ? 0x80n : 0n);
        rig.map(ss, 4, guest, target + SS_RW + leaf(below), { level: below });
        rig.map(fs, 4, 0x7000_0000_0000n, guest + FS_ALL + leaf(above), {
          level: above,
          table: FS_ALL,
        });
        rig.pasid(0, NESTED, { fs, ss });
        rig.on();
        expect(rig.dma(0x7000_0000_0abcn)).toBe(Number(target >> 12n));
        expect(rig.unit.lastLg2).toBe(9 * Math.min(below, above));
      }
    }
  });

  it('equals a first stage, then a second, on random tables', () => {
    const random = new Prng(5);
    for (let round = 0; round < 40; round++) {
      const rig = new Rig(SCALABLE, true);
      const [fs, ss] = [rig.page(), rig.page()];
      rig.map(ss, 4, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
      for (let page = 0; page < 64; page++) {
        const bits = BigInt(random.below(4));
        rig.map(ss, 4, at(page), at(0x100_0000 + random.below(64)) + bits);
        const guest = at(random.below(64)) + 0x61n + BigInt(random.below(4) << 1);
        rig.map(fs, 4, at(page), guest, { table: FS_ALL });
      }
      rig.pasid(5, FIRST, { fs });
      rig.pasid(6, SECOND, { ss, did: 8 });
      rig.pasid(9, NESTED, { fs, ss, did: 9 });
      rig.on();
      for (let i = 0; i < 300; i++) {
        const address = at(random.below(64));
        const access = random.below(2);
        const guest = rig.dma(address, access, 5);
        const naive = guest < 0 ? guest : rig.dma(at(guest), access, 6);
        expect(rig.dma(address, access, 9)).toBe(naive);
      }
    }
  });

  it('allows what both allow, and dirties both', () => {
    const rig = new Rig(SCALABLE, true);
    const [fs, ss] = [rig.page(), rig.page()];
    rig.map(ss, 4, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
    const seconds = [1n, SS_RW].map((bits, i) => rig.map(ss, 4, at(i), at(0x10_2000 + i) + bits));
    const firsts = [0n, 1n].map((i) => rig.map(fs, 4, at(i), at(i) + 7n, { table: 7n }));
    rig.pasid(0, NESTED, { fs, ss, bits: 1n << 9n });
    rig.on();
    expect([rig.dma(at(0)), rig.dma(at(0), WRITE), rig.dma(at(1), WRITE)]).toEqual([
      0x10_2000, -0x85, 0x10_2001,
    ]);
    const held = ([page, index]: [number, number]): bigint => rig.get(page, index) & 0x360n;
    // A of the first stage is bit 5 and D bit 6; of the second bits 8 and 9.
    expect(firsts.map(held)).toEqual([0x20n, 0x60n]);
    expect(seconds.map(held)).toEqual([0x100n, 0x300n]);
    // The tables of the first stage were written through the second.
    const [table, index] = [ss, 0];
    expect(rig.get(table, index) & 0x100n).toBe(0x100n);
  });
});

describe('A PASID entry', () => {
  it.each([
    ['forces accesses to snoop', 1n << 24n, true],
    ['leaves that to the device', 0n, false],
  ])('%s', (_, bits, expected) => {
    const rig = new Rig(SCALABLE, true);
    rig.pasid(0, SECOND, { ss: rig.page(), bits1: (1n << 23n) + bits });
    rig.on();
    expect(rig.unit.forcesSnoop(SID, -1)).toBe(expected);
  });
});

describe('A unit whose walks do not look into caches', () => {
  it('sees what has been flushed, and nothing else', () => {
    const rig = new Rig({ ...LEGACY, ecap: { ...LEGACY.ecap, C: 0 } });
    const top = rig.page();
    rig.map(top, 4, 0n, at(0x10_2000) + SS_RW);
    rig.legacy(top);
    rig.on();
    expect(rig.dma(0n)).toBe(-1);
    const { mem } = rig.unit.hardware;
    mem.flush(rig.root * 2, 0, 16);
    expect(rig.dma(0n)).toBe(-2);
    mem.flush(rig.context * 2, SID * 16, 16);
    expect(rig.dma(0n)).toBe(-6);
    for (let page = top; page < top + 4; page++) mem.flush(page * 2, 0, 4096);
    expect(rig.dma(0n)).toBe(0x10_2000);
  });
});

describe('A device', () => {
  it('moves bytes over pages, as far as it may', () => {
    const rig = new Rig(LEGACY);
    const [top, one, two] = [rig.page(), rig.page(), rig.page()];
    rig.map(top, 4, 0x5000n, at(two) + SS_RW);
    rig.map(top, 4, 0x6000n, at(one) + SS_RW);
    rig.legacy(top);
    rig.on();
    const device = new ModelInitiator(rig.unit, SID);
    const sent = Uint8Array.from({ length: 300 }, (_, i) => i & 0xff);
    expect(device.dmaWrite(0x5f80n, sent)).toEqual({ ok: true, bytes: 300 });
    const got = new Uint8Array(300);
    expect(device.dmaRead(0x5f80n, got)).toEqual({ ok: true, bytes: 300 });
    expect(got).toEqual(sent);
    expect(rig.get(one, 0) & 0xffn).toBe(0x80n);
    expect(device.dmaRead(0x6fffn, got)).toEqual({ ok: false, bytes: 1 });
  });

  it('sends interrupts past the tables', () => {
    const rig = new Rig(LEGACY);
    rig.legacy(rig.page());
    rig.on();
    expect([rig.dma(0xfee0_0000n, WRITE), rig.dma(0xfee0_0000n)]).toEqual([0xf_ee00, -0xe]);
  });
});
