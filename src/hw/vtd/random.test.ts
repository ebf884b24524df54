// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { LEGACY, SCALABLE, SHARING } from './capabilities.ts';
import { Fault } from './fault_reasons.ts';
import { Rig, SID } from './test_rig.ts';

/** How many random structures: a cut here, a million at night (`VTD_RANDOM=1000000`, and `VTD_SEED` for others). */
const COUNT = Number(process.env['VTD_RANDOM'] ?? 20_000);
const SEED = Number(process.env['VTD_SEED'] ?? 0);
const REASONS = new Set(Object.values(Fault));

it.each([
  ['legacy', LEGACY, false],
  ['scalable', SCALABLE, true],
  ['scalable (with page requests)', SHARING, true],
] as const)(
  '%s mode: random bits in every table and register are refused with a reason, and bounded',
  (_, kind, isScalable) => {
    const random = new Prng(SEED * 2 + (isScalable ? 2 : 1));
    const rig = new Rig({ ...kind, haw: 46 }, isScalable);
    const pages = [rig.root, rig.context, rig.directory, rig.pasids, rig.queue].filter(
      (page) => page > 0,
    );
    for (let i = 0; i < 6; i++) pages.push(rig.page());
    const word = (): bigint =>
      (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32));
    // Mostly pointers to pages that are there, with random bits around: or nothing would get past the first check.
    const entry = (): bigint => {
      const page = pages[random.below(pages.length)] ?? 0;
      const bits = random.below(4) === 0 ? word() & 0xfffn : word() & 0x1cfn;
      return random.below(20) === 0 ? word() : BigInt(page) * 4096n + (bits | 1n);
    };
    const seen = new Set<number>();
    const { deviceTlbs, pageRequests } = rig.unit;
    const tally = { told: 0, answers: 0, entries: 0, refusals: 0 };
    const isMute = (): boolean => random.below(4) === 0;
    deviceTlbs.send = (sid, { itag }) => {
      tally.told++;
      if (!isMute()) deviceTlbs.complete(sid, { itags: (1 << itag) >>> 0, count: 1 });
    };
    pageRequests.respond = () => void tally.answers++;
    const prefix = () =>
      random.below(3) === 0
        ? undefined
        : {
            value: random.below(random.below(2) === 0 ? 2 : 2 ** 20),
            ...{ execute: random.below(2) === 0, privileged: random.below(2) === 0 },
          };
    rig.on();
    rig.queueOn();
    let found = 0;
    for (let i = 0; i < COUNT; i++) {
      for (const page of pages) {
        rig.put(page, 0, entry());
        rig.put(page, random.below(16), entry());
      }
      rig.put(rig.root, 0, entry());
      rig.put(rig.context, SID * (isScalable ? 4 : 2), entry());
      if (random.below(2) === 0)
        rig.put(rig.context, SID * (isScalable ? 4 : 2) + 1, BigInt(random.below(4)));
      if (!isScalable && random.below(2) === 0) {
        rig.put(rig.root, 0, BigInt(rig.context) * 4096n + 1n);
        rig.put(rig.root, 1, 0n);
        rig.put(rig.context, SID * 2, (entry() & ~0xfffn) | BigInt(random.below(4) << 2) | 1n);
        rig.put(rig.context, SID * 2 + 1, BigInt(random.below(4)));
      }
      if (isScalable && random.below(2) === 0) {
        for (let at = 1; at < 8; at++)
          rig.put(rig.pasids, at, at === 2 ? entry() : at === 1 ? 0x80_0000n : 0n);
        rig.put(rig.pasids, 0, (entry() & ~0x1ffn) | BigInt((1 + random.below(4)) << 6) | 9n);
        rig.put(rig.directory, 0, BigInt(rig.pasids) * 4096n + 1n);
        rig.put(rig.context, SID * 4, BigInt(rig.directory) * 4096n + 0xdn);
        rig.put(rig.context, SID * 4 + 1, 0n);
        rig.put(rig.root, 0, BigInt(rig.context) * 4096n + 1n);
      }
      if (random.below(3) === 0) rig.mmio.write32(0x34, 0x71);
      if (random.below(8) === 0) rig.mmio.write32(random.below(0x200) * 4, random.below(2 ** 32));
      if (random.below(3) === 0) rig.mmio.write32(0x88, random.below(256) * 16);
      if (random.below(50) === 0) {
        rig.unit.hardware.reset();
        rig.on();
        rig.queueOn();
      }
      rig.unit.invalidation.all();
      for (const address of [0n, word() & 0xffffn, word()]) {
        const pasid = isScalable && random.below(2) === 0 ? random.below(2) : -1;
        const answer = rig.dma(address, random.below(64), pasid);
        if (answer >= 0) found++;
        else seen.add(-answer);
      }
      if (kind === SHARING) {
        const address = random.below(2) === 0 ? word() & ~0xfffn : word() & 0xf000n;
        const [read, write, last] = [2, 2, 2].map((of) => random.below(of) === 0) as [
          boolean,
          boolean,
          boolean,
        ];
        const asked = { pasid: prefix(), iova: address, noWrite: read };
        const { status } = rig.unit.requestTranslation(SID, asked);
        tally[status === 'SUCCESS' ? 'entries' : 'refusals']++;
        pageRequests.receive(random.below(8) === 0 ? random.below(2 ** 16) : SID, {
          ...{ pasid: prefix(), address, read, write, last },
          group: random.below(512),
        });
        if (random.below(20) === 0) rig.sim.clock.advanceBy(90e9);
        if (random.below(4) === 0) rig.mmio.write32(0xdc, 3);
        const at = rig.mmio.read32(0x80) / 8;
        for (const i of [2, 3]) rig.put(rig.queue, (at + i) % 512, 0n);
        const types = [3n, 8n, 9n, 5n];
        const spare = [0n, 0xe0_01ffn, 0xe0fn][random.below(3)] ?? 0n;
        const type = types[random.below(4)] ?? 0n;
        rig.put(rig.queue, at, (word() & 0xffff_000f_ffff_ffffn & ~spare & ~0xe0fn) | type);
        rig.put(rig.queue, at + 1, word() & 0xffff_f000n);
        rig.mmio.write32(0x34, 0x71);
        rig.mmio.write32(0x88, (at * 8 + 32) % 4096);
      }
      // At most so many steps as the queue has descriptors.
      for (let step = 0; step < 4; step++) rig.sim.point('the queue runs');
    }
    expect([...seen].filter((reason) => !REASONS.has(reason))).toEqual([]);
    expect(seen.size).toBeGreaterThan(isScalable ? 15 : 6);
    expect(found).toBeGreaterThan(COUNT / 100);
    const isAsked = kind === SHARING;
    for (const [what, count] of Object.entries(tally)) {
      expect(count > COUNT / 100, `${what}: ${count}`).toBe(isAsked);
    }
  },
  600_000,
);
