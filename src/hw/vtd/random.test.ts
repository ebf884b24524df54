// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { LEGACY, SCALABLE } from './capabilities.ts';
import { Fault } from './fault_reasons.ts';
import { Rig, SID } from './test_rig.ts';

/** How many random structures: a cut here, a million at night (`VTD_RANDOM=1000000`). */
const COUNT = Number(process.env['VTD_RANDOM'] ?? 20_000);
const REASONS = new Set(Object.values(Fault));

it.each([
  ['legacy', LEGACY, false],
  ['scalable', SCALABLE, true],
] as const)(
  'random bits in every table and register of %s mode are refused with a reason, and bounded',
  (_, kind, isScalable) => {
    const random = new Prng(isScalable ? 2 : 1);
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
      // At most so many steps as the queue has descriptors.
      for (let step = 0; step < 4; step++) rig.sim.point('the queue runs');
    }
    expect([...seen].filter((reason) => !REASONS.has(reason))).toEqual([]);
    expect(seen.size).toBeGreaterThan(isScalable ? 15 : 6);
    expect(found).toBeGreaterThan(COUNT / 100);
  },
  600_000,
);
