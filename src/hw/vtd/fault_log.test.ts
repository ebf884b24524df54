// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Access } from './access.ts';
import { LEGACY, SCALABLE, type VtdDescription } from './capabilities.ts';
import { Rig, SID } from './test_rig.ts';

const [FSTS, FECTL, FEDATA, FEADDR] = [0x34, 0x38, 0x3c, 0x40];
const [PFO, PPF] = [1, 2];

function rigOf(description: VtdDescription = LEGACY) {
  const rig = new Rig(description);
  const count = { interrupts: 0 };
  const message = rig.unit.hardware.irq.request(() => count.interrupts++);
  rig.mmio.write32(FEDATA, message.data);
  rig.mmio.write32(FEADDR, Number(message.address));
  rig.on();
  const fault = (times = 1): void => {
    for (let i = 0; i < times; i++) rig.dma(BigInt(i) * 4096n);
    rig.sim.settle();
  };
  return { rig, count, fault };
}

describe('A refused request', () => {
  it('is recorded, pends, and interrupts once for all that are pending', () => {
    const { rig, count, fault } = rigOf();
    rig.mmio.write32(FECTL, 0);
    fault(3);
    expect([rig.mmio.read32(FSTS), count.interrupts]).toEqual([PPF, 1]);
    expect(rig.faults().map(({ address }) => address)).toEqual([0n, 0x1000n, 0x2000n]);
    expect(rig.mmio.read32(FSTS)).toBe(0);
    fault();
    // The next record is the fourth.
    expect([rig.mmio.read32(FSTS), count.interrupts]).toEqual([PPF | 0x300, 2]);
  });

  it('overflows when all records are full, until software has said that it knows', () => {
    const { rig, fault } = rigOf();
    fault(9);
    expect(rig.mmio.read32(FSTS)).toBe(PPF | PFO);
    expect(rig.faults()).toHaveLength(8);
    fault();
    expect(rig.faults()).toHaveLength(0);
    rig.mmio.write32(FSTS, PFO);
    fault();
    expect(rig.faults()).toHaveLength(1);
  });

  it('is one of several of its requester where the unit collapses them', () => {
    const { rig, fault } = rigOf({ ...LEGACY, collapsesFaults: true });
    fault(9);
    rig.dma(0n, 0, -1, 0x20);
    expect(rig.faults().map(({ sid }) => sid)).toEqual([SID, 0x20]);
    expect(rig.mmio.read32(FSTS)).toBe(0);
  });

  it('pends while interrupts are masked, and goes when software deals with it first', () => {
    const { rig, count, fault } = rigOf();
    fault();
    expect([rig.mmio.read32(FECTL), count.interrupts]).toEqual([0xc000_0000, 0]);
    rig.mmio.write32(FECTL, 0);
    rig.sim.settle();
    expect([rig.mmio.read32(FECTL), count.interrupts]).toEqual([0, 1]);
    rig.mmio.write32(FECTL, 0x8000_0000);
    rig.faults();
    fault();
    rig.faults();
    expect(rig.mmio.read32(FECTL)).toBe(0x8000_0000);
    rig.mmio.write32(FECTL, 0);
    rig.sim.settle();
    expect(count.interrupts).toBe(1);
  });

  it.each([
    ['a context entry', (rig: Rig) => rig.put(rig.context, SID * 2, 2n), 0],
    ['nothing', () => undefined, 1],
  ])('is not recorded where %s disables that', (_, arrange, records) => {
    const { rig, fault } = rigOf();
    arrange(rig);
    fault();
    expect(rig.faults()).toHaveLength(records);
  });

  it.each([
    [
      'context entry',
      (rig: Rig) => rig.put(rig.context, SID * 4, BigInt(rig.directory) * 4096n + 15n),
    ],
    ['directory entry', (rig: Rig) => rig.put(rig.directory, 0, BigInt(rig.pasids) * 4096n + 3n)],
    ['PASID entry', (rig: Rig) => rig.put(rig.pasids, 5 * 8, 2n)],
  ])('is not recorded where a %s of scalable mode disables that', (_, arrange) => {
    const rig = new Rig(SCALABLE, true);
    arrange(rig);
    rig.on();
    expect(rig.dma(0n, 0, 5)).toBe(-0x59);
    expect(rig.faults()).toEqual([]);
  });

  it('says what it asked for', () => {
    const rig = new Rig(SCALABLE, true);
    rig.on();
    rig.dma(0x1000n, Access.EXECUTE + Access.PRIVILEGED, 5);
    rig.dma(0x2000n, Access.WRITE + Access.ATOMIC, 6);
    const high = (i: number): bigint => rig.mmio.read64(0x400 + i * 16 + 8);
    expect(high(0)).toBe((0xc000_0559n << 32n) + 0xe000_0000n + BigInt(SID));
    expect(high(1)).toBe((0xc000_0659n << 32n) + 0x9000_0000n + BigInt(SID));
  });
});

describe('Registers', () => {
  it('of a unit that says so forget everything with a new root table', () => {
    for (const ESRTPS of [0, 1]) {
      const { rig } = rigOf({ ...LEGACY, cap: { ...LEGACY.cap, ESRTPS } });
      rig.legacy(0, { tt: 2 });
      expect(rig.dma(0x5000n)).toBe(5);
      rig.mmio.write64(0x20, BigInt(rig.page()) * 4096n);
      rig.mmio.write32(0x18, 0xc000_0000);
      expect(rig.dma(0x5000n)).toBe(ESRTPS === 1 ? -1 : 5);
    }
  });

  it('tell of an error of the queue by no second interrupt while a fault pends', () => {
    const { rig, count, fault } = rigOf();
    rig.mmio.write32(FECTL, 0);
    fault();
    rig.queueOn();
    rig.submit([0xfn, 0n]);
    expect([rig.mmio.read32(FSTS), count.interrupts]).toEqual([PPF | 0x10, 1]);
  });

  it('read what the unit can do, and 0 where there are none', () => {
    const { rig } = rigOf();
    expect(rig.mmio.read64(8)).toBe(rig.unit.caps.cap);
    expect(rig.mmio.read64(0x10)).toBe(rig.unit.caps.ecap);
    expect([rig.mmio.read32(0), rig.mmio.read32(0x7ffc), rig.mmio.read32(0x10_0000)]).toEqual([
      0x50, 0, 0,
    ]);
  });

  it('keep their reserved and read-only bits', () => {
    const { rig } = rigOf();
    rig.mmio.write64(8, 0n);
    rig.mmio.write32(FECTL, 0x7fff_ffff);
    rig.mmio.write32(FSTS, 0xffff_ff8e);
    expect(rig.mmio.read64(8)).toBe(rig.unit.caps.cap);
    expect([rig.mmio.read32(FECTL), rig.mmio.read32(FSTS)]).toEqual([0, 0]);
  });

  it('forget everything in a unit of scalable mode that is turned off, and records start anew', () => {
    for (const [description, isScalable] of [
      [LEGACY, false],
      [SCALABLE, true],
    ] as const) {
      const rig = new Rig(description, isScalable);
      rig.on();
      const entry = SID * (isScalable ? 4 : 2);
      rig.put(rig.context, entry, 0n);
      expect(rig.dma(0x5000n)).toBe(isScalable ? -0x41 : -2);
      expect(rig.faults(0x400, 1)).toHaveLength(1);
      if (isScalable) {
        rig.put(rig.context, entry, BigInt(rig.directory) * 4096n + 1n);
        rig.pasid(0, 4);
      } else rig.legacy(0, { tt: 2 });
      expect(rig.dma(0x5000n)).toBe(5);
      rig.put(rig.context, entry, 0n);
      rig.mmio.write32(0x18, 0);
      rig.mmio.write32(0x18, 0x8000_0000);
      expect(rig.dma(0x5000n)).toBe(isScalable ? -0x41 : 5);
      rig.dma(0x6000n, 0, -1, 0x1f);
      expect(rig.faults(0x400, 1)).toHaveLength(1);
    }
  });

  it('are as after power-on after a reset, and nothing is cached', () => {
    const { rig, fault } = rigOf();
    rig.legacy(rig.page());
    fault();
    rig.unit.hardware.reset();
    expect([rig.mmio.read32(0x1c), rig.mmio.read32(FSTS), rig.mmio.read32(FECTL)]).toEqual([
      0, 0, 0x8000_0000,
    ]);
    expect(rig.dma(0x5000n)).toBe(5);
    rig.put(rig.context, SID * 2, 0n);
    rig.on();
    expect(rig.dma(0x5000n)).toBe(-2);
  });

  it('take a new root table only when they are told', () => {
    const { rig } = rigOf();
    rig.legacy(0, { tt: 2 });
    rig.mmio.write64(0x20, BigInt(rig.page()) * 4096n);
    expect(rig.dma(0x5000n)).toBe(5);
    rig.mmio.write32(0x18, 0xc000_0000);
    // What is cached of the old one goes on.
    expect(rig.dma(0x5000n)).toBe(5);
    rig.mmio.write64(0x28, 5n << 61n);
    expect(rig.dma(0x5000n)).toBe(-1);
  });
});
