// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { LEGACY, SCALABLE } from './capabilities.ts';
import { Rig } from './test_rig.ts';

const [FSTS, IQH, IQERCD, ICS] = [0x34, 0x80, 0xb0, 0x9c];
const IQE = 0x10;
const ALL_CONTEXTS = [0x11n, 0n] as const;

const rigOf = (isScalable = false): Rig => {
  const rig = new Rig(isScalable ? SCALABLE : LEGACY, isScalable);
  rig.on();
  rig.queueOn();
  return rig;
};
/** Writes `data` to word `index` of the status page. */
const wait = (rig: Rig, data: number, index = 0): readonly [bigint, bigint] => [
  (BigInt(data) << 32n) + 0x25n,
  BigInt(rig.status) * 4096n + BigInt(index * 8),
];

describe('The invalidation queue', () => {
  it.each([
    ['128', false, 16],
    ['256', true, 32],
  ])('takes descriptors of %s bits, and writes the word of a wait', (_, isScalable, bytes) => {
    const rig = rigOf(isScalable);
    rig.submit(ALL_CONTEXTS, wait(rig, 0xdead_beef));
    expect(rig.get(rig.status, 0)).toBe(0xdead_beefn);
    expect(rig.mmio.read32(IQH)).toBe(2 * bytes);
    expect(rig.mmio.read32(FSTS)).toBe(0);
  });

  it('goes round at its end', () => {
    const rig = rigOf();
    for (let i = 0; i < 300; i++) rig.submit(wait(rig, i + 1));
    expect(rig.get(rig.status, 0)).toBe(300n);
    expect(rig.mmio.read32(IQH)).toBe((300 % 256) * 16);
  });

  it('takes a step for each descriptor, between which others run', () => {
    const rig = rigOf();
    const seen: bigint[] = [];
    rig.sim.spawn('watcher', function* () {
      for (let i = 0; i < 12; i++) {
        seen.push(rig.get(rig.status, 0));
        yield 'watching';
      }
    });
    rig.submit(wait(rig, 1), wait(rig, 2), wait(rig, 3));
    expect([...new Set(seen)]).toEqual([1n, 2n, 3n]);
  });

  it('accepts what is for interrupt entries', () => {
    const rig = rigOf();
    rig.submit([4n, 0n], [0x14n + (3n << 32n), 0n], wait(rig, 1));
    expect(rig.get(rig.status, 0)).toBe(1n);
  });

  it('interrupts at a wait, once until software has seen it', () => {
    const rig = rigOf();
    let count = 0;
    const message = rig.unit.hardware.irq.request(() => count++);
    rig.mmio.write32(0xa4, message.data);
    rig.mmio.write32(0xa8, Number(message.address));
    rig.mmio.write32(0xa0, 0);
    rig.submit([0x15n, 0n]);
    rig.submit([0x15n, 0n]);
    expect([count, rig.mmio.read32(ICS)]).toEqual([1, 1]);
    rig.mmio.write32(ICS, 1);
    expect(rig.mmio.read32(ICS)).toBe(0);
    rig.submit([0x15n, 0n]);
    expect(count).toBe(2);
  });

  it('keeps a masked interrupt pending', () => {
    const rig = rigOf();
    let count = 0;
    const message = rig.unit.hardware.irq.request(() => count++);
    rig.mmio.write32(0xa4, message.data);
    rig.mmio.write32(0xa8, Number(message.address));
    rig.submit([0x15n, 0n]);
    expect([count, rig.mmio.read32(0xa0)]).toEqual([0, 0xc000_0000]);
    rig.mmio.write32(0xa0, 0);
    rig.sim.settle();
    expect([count, rig.mmio.read32(0xa0)]).toEqual([1, 0]);
  });
});

describe('An error of the queue', () => {
  it.each([
    ['an unknown kind', false, [0xfn, 0n], 3],
    ['a kind that the unit has not', false, [0x26n, 0n], 3],
    ['a reserved bit', false, [0x11n, 1n], 4],
    ['a reserved granularity', false, [0x02n, 0n], 4],
    ['a mask that is too large', false, [0x32n, 19n], 4],
    ['a reserved granularity of PASIDs', true, [0x27n, 0n], 4],
    ['a reserved granularity of a PASID', true, [0x16n, 0n], 4],
    ['a reserved bit of a wait', false, [0x125n, 0n], 4],
  ] as const)('stops it at %s, and says why', (_, isScalable, descriptor, info) => {
    const rig = rigOf(isScalable);
    const bytes = isScalable ? 32 : 16;
    rig.submit(ALL_CONTEXTS, descriptor, wait(rig, 1));
    expect(rig.mmio.read32(FSTS)).toBe(IQE);
    expect(rig.mmio.read32(IQH)).toBe(bytes);
    expect(rig.mmio.read64(IQERCD)).toBe(BigInt(info));
    expect(rig.get(rig.status, 0)).toBe(0n);
    // Software writes another descriptor in its place, and clears the error.
    rig.put(rig.queue, bytes / 8, 0x11n);
    rig.put(rig.queue, bytes / 8 + 1, 0n);
    rig.mmio.write32(FSTS, IQE);
    rig.sim.settle();
    expect(rig.get(rig.status, 0)).toBe(1n);
  });

  it('is a tail beyond the queue, or between two descriptors', () => {
    for (const [isScalable, tail, info] of [
      [false, 0x1000, 1],
      [true, 16, 6],
    ] as const) {
      const rig = rigOf(isScalable);
      rig.mmio.write32(0x88, tail);
      rig.sim.settle();
      expect([rig.mmio.read32(FSTS), rig.mmio.read64(IQERCD)]).toEqual([IQE, BigInt(info)]);
    }
  });

  it('is a queue where no memory is, and one of narrow descriptors in scalable mode', () => {
    for (const [isScalable, base, info] of [
      [false, 0x10_0000n, 2],
      [true, 0x1_0000_0000n, 5],
    ] as const) {
      const rig = new Rig(isScalable ? SCALABLE : LEGACY, isScalable);
      rig.on();
      rig.mmio.write64(0x90, base);
      rig.queueOn();
      rig.mmio.write32(0x88, 32);
      rig.sim.settle();
      expect([rig.mmio.read32(FSTS), rig.mmio.read64(IQERCD)]).toEqual([IQE, BigInt(info)]);
    }
  });

  it('is a queue of wide descriptors where the unit has none, and pages where it forgets domains only', () => {
    const rig = rigOf(false);
    rig.mmio.write64(0x90, rig.mmio.read64(0x90) + 0x800n);
    rig.mmio.write32(0x88, 32);
    rig.sim.settle();
    expect([rig.mmio.read32(FSTS), rig.mmio.read64(IQERCD)]).toEqual([IQE, 5n]);
    const coarse = new Rig({ ...LEGACY, cap: { ...LEGACY.cap, PSI: 0 } });
    coarse.on();
    coarse.queueOn();
    coarse.submit([0x32n, 0n]);
    expect([coarse.mmio.read32(FSTS), coarse.mmio.read64(IQERCD)]).toEqual([IQE, 4n]);
  });

  it('is a mode of translation that the unit has not', () => {
    const rig = new Rig(LEGACY, true);
    rig.on();
    rig.queueOn();
    rig.submit(ALL_CONTEXTS);
    expect([rig.mmio.read32(FSTS), rig.mmio.read64(IQERCD)]).toEqual([IQE, 7n]);
  });
});
