// SPDX-License-Identifier: Apache-2.0
/** DMA while software is at work on what it goes through: the old and the new are right, and what was cached meanwhile is known of. */
import { beforeEach, describe, expect, it } from 'vitest';
import { attachDevice, replaceDevice } from '../iommufd/change_pt.ts';
import { NO_PASID } from '../iommu/device.ts';
import { ProcessMm } from '../iommu/process_mm.ts';
import { RequestMode } from '../pci/translator.ts';
import { Sim } from '../sim/sim.ts';
import type { Body } from '../sim/task.ts';
import {
  ADDRESS,
  CACHED_READ,
  FOR_PASIDS,
  GuestRig,
  NEST_PARENT,
  PT,
  TRANSLATE,
} from './guest_rig.ts';

const [DATA, OTHER_DATA] = [16, 32];
const PRESET = 'vtd-page-faults';

let found: string[];
let sim: Sim;
let rig: GuestRig;
let parent: number;
let nested: number;

beforeEach(() => {
  found = [];
  return () => expect(found).toEqual([]);
});

/** A world with an order of its own. */
function setUp(seed = 1): void {
  sim = new Sim({ choices: 'random', seed });
  rig = new GuestRig(PRESET, ({ text }) => found.push(text), sim);
  parent = rig.hwpt(rig.ioas, { flags: NEST_PARENT | FOR_PASIDS });
  nested = rig.nested(parent, FOR_PASIDS);
  rig.set(PT, 0, DATA);
}

const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);

/** What 8 bytes at an address are for the device: the first of them, or -1 where it is refused. */
function read(address: bigint, pasid = NO_PASID): number {
  const into = new Uint8Array(8);
  const fault = rig.fn.dma.read(address, into, pasid, pasid === NO_PASID ? 0 : RequestMode.PASID);
  return fault ? -1 : (into[0] ?? 0);
}

/** Runs `change` with the device reading at every step of it while `isIt` holds; what it read. */
function reading(change: () => void, once: () => number, isIt = (): boolean => true): number[] {
  const got: number[] = [];
  const state = { isOver: false };
  function* body(): Body {
    while (!state.isOver) {
      if (isIt()) got.push(once());
      yield 'the device goes on';
    }
  }
  sim.spawn('device', body());
  change();
  state.isOver = true;
  sim.settle();
  return got;
}

describe('a guest', () => {
  it('whose second stage is being flushed is served from before, or not', () => {
    const got = SEEDS.flatMap((seed) => {
      setUp(seed);
      attachDevice(rig.bound, NO_PASID, nested);
      expect(read(ADDRESS)).toBe(0);
      const meanwhile = reading(
        () => rig.unmapPage(DATA),
        () => read(ADDRESS),
      );
      expect(read(ADDRESS)).toBe(-1);
      return meanwhile;
    });
    expect(new Set(got)).toEqual(new Set([0, -1]));
  });

  it('whose table is cached while it is being attached is not blamed for what it changes then', () => {
    setUp();
    attachDevice(rig.bound, NO_PASID, parent);
    const { group } = rig.bound.device;
    const got = reading(
      () => replaceDevice(rig.bound, NO_PASID, nested),
      () => read(ADDRESS),
      () => group?.mutex.isLocked === true,
    );
    expect(got).toContain(0);
    rig.set(PT, 0, OTHER_DATA);
    rig.client.process.mm.copyOut(0x4000_0000n + BigInt(OTHER_DATA) * 0x1000n, Uint8Array.of(7));
    expect(read(ADDRESS)).toBe(0);
    rig.invalidate(nested, { address: ADDRESS });
    expect(read(ADDRESS)).toBe(7);
  });

  it('whose table was cached for a translation alone, by ATS, is not blamed either', () => {
    setUp();
    attachDevice(rig.bound, NO_PASID, nested);
    rig.start(TRANSLATE, ADDRESS);
    sim.settle();
    expect(read(ADDRESS + 0x1000n)).toBe(-1);
    rig.set(PT, 0, OTHER_DATA);
    rig.start(CACHED_READ, ADDRESS);
    sim.settle();
    expect(read(ADDRESS)).toBe(0);
  });
});

describe('a process', () => {
  it('whose tables are being changed is served from before, or not', () => {
    const got = SEEDS.flatMap((seed) => {
      setUp(seed);
      const mm = ProcessMm.create(rig.machine.ram);
      if (typeof mm === 'number') throw new Error('no process');
      mm.mmap(ADDRESS, 0x1000, { readable: true, writable: true });
      mm.copyOut(ADDRESS, Uint8Array.of(7));
      const bond = rig.machine.iommufd.core.sva.bind(rig.fn.device, mm);
      if (typeof bond === 'number') throw new Error(`bind: ${bond}`);
      const byDevice = (): number => read(ADDRESS, bond.pasid);
      expect(byDevice()).toBe(7);
      const unmapped = reading(() => mm.munmap(ADDRESS, 0x1000), byDevice);
      expect(byDevice()).toBe(-1);
      mm.mmap(ADDRESS, 0x1000, { readable: true, writable: true });
      mm.copyOut(ADDRESS, Uint8Array.of(8));
      expect(byDevice()).toBe(8);
      const ended = reading(() => mm.exit(), byDevice);
      expect(byDevice()).toBe(-1);
      return [...unmapped, ...ended];
    });
    expect(new Set(got)).toEqual(new Set([7, 8, -1]));
  });
});
