// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import type { InvalidateRequest } from '../../pci/ats_messages.ts';
import { decodeRange } from '../../pci/ats_entry.ts';
import { SHARING, type VtdDescription } from './capabilities.ts';
import { Rig, SID } from './test_rig.ts';

const [FSTS, IQH, IQERCD] = [0x34, 0x80, 0xb0];
const [ICE, ITE] = [0x20, 0x40];
const MINUTES = 90e9;
const [LEGACY_TYPE, PASID_TYPE] = [3n, 8n];
const [S, GLOBAL] = [0x800n, 1n];

type Descriptor = readonly [bigint, bigint];

/** A unit, and functions that are told what to forget; with `completes` they say at once that they have. */
function start(completes = false, description: VtdDescription = SHARING) {
  const rig = new Rig(description, true);
  rig.on();
  rig.queueOn();
  const told: (InvalidateRequest & { sid: number })[] = [];
  rig.unit.deviceTlbs.send = (sid, request) => {
    told.push({ sid, ...request });
    if (completes) complete(request.itag, sid);
  };
  const complete = (itag: number, sid = SID, count = 1): void => {
    rig.unit.deviceTlbs.complete(sid, { itags: (1 << itag) >>> 0, count });
    rig.sim.settle();
  };
  /** Word `index` of the status page is written. */
  const wait = (index = 0, bits = 0n): Descriptor => [
    0x1_0000_0025n + bits,
    BigInt(rig.status) * 4096n + BigInt(index * 8),
  ];
  const done = (index = 0): boolean => rig.get(rig.status, index) === 1n;
  const advance = (ns: number): void => {
    rig.sim.clock.advanceBy(ns);
    rig.sim.settle();
  };
  return { rig, told, complete, wait, done, advance };
}
/** All of the requests without PASID of a function; `most` of them out at a time. */
const forget = (address = 0n, sid = SID, most = 0): Descriptor => [
  LEGACY_TYPE + (BigInt(sid) << 32n) + (BigInt(most) << 16n),
  address,
];

describe('An invalidation of a device TLB', () => {
  it.each([
    ['a page', forget(0x1234_5000n), undefined, 0x1234_5000n, 12, false],
    ['two pages', forget(0x1234_4001n), undefined, 0x1234_4000n, 13, false],
    ['sixteen pages', forget(0x7001n), undefined, 0n, 16, false],
    ['everything', forget(2n ** 63n - 4095n), undefined, 0n, 64, false],
    ['everything, by ones alone', forget(2n ** 64n - 4095n), undefined, 0n, 64, false],
    ['a page of a PASID', [PASID_TYPE + (5n << 32n), 0x7000n], 5, 0x7000n, 12, false],
    ['four pages of it', [PASID_TYPE + (5n << 32n), 0x9000n + S], 5, 0x8000n, 14, false],
    ['all of it', [PASID_TYPE + (5n << 32n), 2n ** 63n - 4096n + S], 5, 0n, 64, false],
    ['all PASIDs', [PASID_TYPE, 0x7000n + GLOBAL], 0, 0x7000n, 12, true],
  ] as const)('names %s', (_, [first, second], pasid, begin, sizeLg2, global) => {
    const { rig, told } = start();
    const sid = (first & 15n) === PASID_TYPE ? BigInt(SID) << 16n : 0n;
    rig.submit([first + sid, second]);
    expect(told).toEqual([{ sid: SID, itag: 0, pasid, range: expect.anything(), global }]);
    expect(decodeRange(told[0]?.range ?? 0n)).toEqual({ start: begin, sizeLg2 });
  });

  it('is told in words', () => {
    const { rig } = start();
    const told: unknown[] = [];
    rig.unit.invalidation.told = ({ text, range }) => told.push([text, range]);
    rig.submit(
      forget(0x7001n),
      forget(2n ** 63n - 4095n),
      [PASID_TYPE + (5n << 32n), 0x7000n],
      [PASID_TYPE, 0x9000n + S + GLOBAL],
      [9n, 0n],
    );
    expect(told).toEqual([
      ['device TLB, 0x0-0xffff of device 0x10', { first: 0n, last: 0xffffn }],
      ['device TLB, device 0x10', undefined],
      ['device TLB, 0x7000-0x7fff of device 0x0, PASID 5', { first: 0x7000n, last: 0x7fffn }],
      ['device TLB, 0x8000-0xbfff of device 0x0, all PASIDs', { first: 0x8000n, last: 0xbfffn }],
    ]);
  });

  it('goes to the function that the descriptor names, and the queue goes on meanwhile', () => {
    const { rig, told, done, wait, complete } = start();
    rig.submit(forget(), forget(0n, 0xffff), [0x11n, 0n], wait());
    expect(told.map(({ sid, itag }) => [sid, itag])).toEqual([
      [SID, 0],
      [0xffff, 0],
    ]);
    expect([rig.mmio.read32(IQH), done()]).toEqual([128, false]);
    complete(0);
    expect(done()).toBe(false);
    complete(0, 0xffff);
    expect(done()).toBe(true);
  });

  it('is complete where the function answers before the message has been sent', () => {
    const { rig, done, wait } = start(true);
    rig.submit(forget(), wait());
    expect(done()).toBe(true);
  });

  it('that is complete does not time out', () => {
    const { rig, complete, advance } = start();
    rig.submit(forget());
    complete(0);
    advance(2 * MINUTES);
    expect(rig.mmio.read32(FSTS)).toBe(0);
  });

  it('can have several completions', () => {
    const { rig, done, wait, complete } = start();
    rig.submit(forget(), wait());
    complete(0, SID, 3);
    complete(0, SID, 3);
    expect(done()).toBe(false);
    complete(0, SID, 3);
    expect(done()).toBe(true);
  });

  it('can be completed with others in one message', () => {
    const { rig, done, wait, told } = start();
    rig.submit(forget(), forget(), forget(), wait());
    expect(told.map(({ itag }) => itag)).toEqual([0, 1, 2]);
    rig.unit.deviceTlbs.complete(SID, { itags: 7, count: 1 });
    rig.sim.settle();
    expect(done()).toBe(true);
  });

  it('waits until the function takes another one: as many as the descriptor says, 32 at most', () => {
    for (const [most, expected] of [
      [3, 3],
      [0, 32],
    ] as const) {
      const { rig, told, complete, done, wait } = start();
      rig.submit(...Array.from({ length: 40 }, () => forget(0n, SID, most)), wait());
      expect([told.length, rig.mmio.read32(IQH)]).toEqual([expected, expected * 32]);
      complete(1);
      expect(told.at(-1)?.itag).toBe(1);
      expect(told.length).toBe(expected + 1);
      for (let i = 0; !done() && i < 50; i++)
        for (let tag = 0; tag < expected; tag++) {
          if (rig.unit.deviceTlbs.oldest <= told.length && !done()) complete(tag);
        }
      expect([done(), told.length]).toEqual([true, 40]);
    }
  });

  it('is done where no device is there that could keep anything', () => {
    const { rig, done, wait } = start();
    rig.unit.deviceTlbs.send = undefined;
    rig.submit(forget(), wait());
    expect(done()).toBe(true);
  });

  it('is a thing of the past after a reset', () => {
    const { rig, advance, complete } = start();
    rig.submit(forget());
    rig.unit.reset();
    advance(2 * MINUTES);
    expect(rig.mmio.read32(FSTS)).toBe(0);
    complete(0);
    expect(rig.mmio.read32(FSTS)).toBe(ICE);
  });

  it.each([
    ['a reserved bit', [0x13n, 0n]],
    ['one of its address', [3n, 2n]],
    ['one of its address, with PASID', [8n, 2n]],
    ['a physical function, which this unit does not want', [0x1003n, 0n]],
    ['the same with PASID', [0x1008n, 0n]],
  ] as const)('with %s is an error of the queue', (_, descriptor) => {
    const { rig, told } = start(false, { ...SHARING, ecap: { ...SHARING.ecap, DIT: 0 } });
    rig.submit(descriptor);
    expect([rig.mmio.read64(IQERCD), told]).toEqual([4n, []]);
  });

  it('counts with those of the same physical function, where the unit wants that', () => {
    const { rig, told, complete } = start();
    const of = (sid: bigint, physical: bigint): Descriptor => [
      0x1_0003n + (sid << 32n) + ((physical & 15n) << 12n) + ((physical >> 4n) << 52n),
      0n,
    ];
    rig.submit(of(0x21n, 0x20n), of(0x99n, 0x90n), of(0x22n, 0x20n));
    expect(told.map(({ sid }) => sid)).toEqual([0x21, 0x99]);
    complete(0, 0x21);
    expect(told.at(-1)?.sid).toBe(0x22);
  });

  it('is an unknown kind where the unit has none', () => {
    for (const type of [3n, 8n]) {
      const { rig } = start(false, { ...SHARING, ecap: { ...SHARING.ecap, DT: 0, PRS: 0 } });
      rig.submit([type, 0n]);
      expect(rig.mmio.read64(IQERCD)).toBe(3n);
    }
  });

  it('with random bits is sent, or an error, and nothing else', () => {
    const { rig, told } = start(true);
    const random = new Prng(4);
    const word = (): bigint =>
      (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32));
    let stopped = 0;
    for (let i = 0; i < 3000; i++) {
      const type = random.below(2) === 0 ? LEGACY_TYPE : PASID_TYPE;
      const spare = type === LEGACY_TYPE ? 0xe0_01ffn | (0xfn << 48n) : 0xe0fn;
      const first = random.below(4) === 0 ? word() & ~0xe0fn : word() & ~0xffe0_01ffn & ~spare;
      rig.submit([first | type, word() & (random.below(4) === 0 ? -1n : ~0xffen)]);
      if (rig.mmio.read32(FSTS) === 0) continue;
      stopped++;
      const at = rig.mmio.read32(IQH) / 8;
      rig.put(rig.queue, at, 0x11n);
      rig.put(rig.queue, at + 1, 0n);
      rig.mmio.write32(FSTS, 0x70);
      rig.sim.settle();
    }
    expect(told.length).toBeGreaterThan(1000);
    expect(stopped).toBe(3000 - told.length);
    for (const { range } of told) expect(decodeRange(range).sizeLg2).toBeGreaterThan(11);
  });
});

describe('A wait', () => {
  it('waits for the invalidations before it, not for those after', () => {
    const { rig, done, wait, complete } = start();
    rig.submit(forget(), wait(0), forget(), wait(1));
    complete(1);
    expect([done(0), done(1)]).toEqual([false, false]);
    complete(0);
    expect([done(0), done(1)]).toEqual([true, true]);
  });

  it('with a fence holds back what follows', () => {
    const { rig, told, done, wait, complete } = start();
    rig.submit(forget(), wait(0, 0x40n), forget(), wait(1));
    expect([told.length, rig.mmio.read32(IQH)]).toEqual([1, 64]);
    complete(0);
    expect([told.length, done(0), done(1)]).toEqual([2, true, false]);
  });
});

describe('A function that does not complete', () => {
  it('in time is named, the waits that were taken come to nothing, and the queue stops until software has seen it', () => {
    const { rig, advance, done, wait, told } = start();
    rig.submit(forget(), wait());
    advance(MINUTES - 1e9);
    expect(rig.mmio.read32(FSTS)).toBe(0);
    advance(1e9);
    expect([rig.mmio.read32(FSTS), rig.mmio.read64(IQERCD)]).toEqual([ITE, BigInt(SID) << 32n]);
    rig.submit(forget(), wait());
    expect([told.length, done()]).toEqual([1, false]);
    rig.mmio.write32(FSTS, ITE);
    rig.sim.settle();
    expect([told.length, done()]).toEqual([2, false]);
    rig.unit.deviceTlbs.complete(SID, { itags: 1, count: 1 });
    rig.sim.settle();
    expect(done()).toBe(true);
  });

  it('late is one that nobody waits for', () => {
    const { rig, advance, told, complete } = start();
    rig.submit(forget());
    advance(MINUTES);
    complete(0);
    expect(rig.mmio.read32(FSTS)).toBe(ITE + ICE);
    rig.mmio.write32(FSTS, ITE + ICE);
    rig.submit(forget());
    expect(told.at(-1)?.itag).toBe(0);
  });

  it('holds up only itself', () => {
    const { rig, advance, wait, done } = start();
    rig.submit(forget(0n, 9), wait());
    advance(MINUTES);
    rig.mmio.write32(FSTS, ITE);
    rig.submit(wait());
    expect(done()).toBe(true);
    expect(rig.mmio.read64(IQERCD)).toBe(9n << 32n);
  });
});

describe('A completion that nobody waits for', () => {
  it('is recorded with the function, and the queue goes on', () => {
    const { rig, complete, wait, done } = start();
    complete(3, 0xfedc);
    expect([rig.mmio.read32(FSTS), rig.mmio.read64(IQERCD)]).toEqual([ICE, 0xfedcn << 48n]);
    rig.submit(wait());
    expect(done()).toBe(true);
  });

  it('beside one that somebody waits for takes nothing from that', () => {
    const { rig, wait, done } = start();
    rig.submit(forget(), wait());
    rig.unit.deviceTlbs.complete(SID, { itags: 0xff, count: 1 });
    rig.sim.settle();
    expect([done(), rig.mmio.read32(FSTS)]).toEqual([true, ICE]);
  });

  it('is one too many for a request', () => {
    const { rig, complete } = start();
    rig.submit(forget());
    complete(0);
    complete(0);
    expect(rig.mmio.read32(FSTS)).toBe(ICE);
  });
});
