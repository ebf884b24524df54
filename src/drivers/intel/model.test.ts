// SPDX-License-Identifier: Apache-2.0
/** The driver and the model of the hardware: two readings of one specification, which meet in memory and registers only. */
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { Capabilities, LEGACY, SCALABLE, type VtdDescription } from '../../hw/vtd/capabilities.ts';
import { Fault } from '../../hw/vtd/fault_reasons.ts';
import { VtdUnit } from '../../hw/vtd/vtd_unit.ts';
import { NO_PASID } from '../../iommu/device.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { IotlbGather } from '../../iommu/domain.ts';
import type { Hardware } from '../../kernel/hardware.ts';
import type { DeviceFault } from './intel_iommu.ts';
import { Rig } from './fake_rig.ts';
import { World } from './random_world.ts';

/** As many as `VTD_SEQUENCES` says; a cut of them in CI. */
const SEQUENCES = Number(
  (globalThis as { process?: { env: Record<string, string> } }).process?.env['VTD_SEQUENCES'] ??
    120,
);
const STEPS = 60;
const RW = 3;
const SID = 0x0318;

class ModelRig extends Rig<Hardware> {
  readonly model: VtdUnit;

  constructor(description: VtdDescription) {
    let made: VtdUnit | undefined;
    super((sim, ram) => {
      made = new VtdUnit({ sim, ram, caps: Capabilities.of(description) });
      return made.hardware;
    });
    if (!made) throw new Error('no model');
    this.model = made;
  }

  /** The page that an access leads to, or minus the reason. */
  access(sourceId: number, page: number, isWrite = false, pasid = NO_PASID): number {
    const lo = (page % 2 ** 20) * 4096;
    return this.model.translate(
      sourceId,
      pasid || -1,
      lo,
      Math.floor(page / 2 ** 20),
      isWrite ? 1 : 0,
    );
  }
}

const with_ = (
  base: VtdDescription,
  cap: VtdDescription['cap'],
  ecap: VtdDescription['ecap'] = {},
): VtdDescription => ({ cap: { ...base.cap, ...cap }, ecap: { ...base.ecap, ...ecap } });

const kinds: readonly [string, VtdDescription][] = [
  ['legacy', LEGACY],
  ['scalable', SCALABLE],
  ['legacy, caching mode', with_(LEGACY, { CM: 1 })],
  ['scalable, caching mode', with_(SCALABLE, { CM: 1 })],
  ['legacy, tables that are not snooped', with_(LEGACY, {}, { C: 0 })],
  ['scalable, tables that are not snooped', with_(SCALABLE, {}, { C: 0, SMPWCS: 0 })],
  ['scalable, invalidations of 2^3 pages', with_(SCALABLE, { MAMV: 3 })],
];

describe.each(kinds)('driver and model: %s', (_name, description) => {
  it('agree on every access of random sequences', { timeout: 3_600_000 }, () => {
    for (let seed = 1; seed <= SEQUENCES / kinds.length; seed++) {
      const rig = new ModelRig(description);
      const world = new World(new Prng(seed), rig, (sourceId, page, isWrite, pasid) => {
        const found = rig.access(sourceId, page, isWrite, pasid);
        return found < 0 ? undefined : found;
      });
      for (let step = 0; step < STEPS; step++) world.step();
      expect(rig.core.warnings).toEqual([]);
    }
  });
});

describe('faults', () => {
  it.each([
    ['legacy', LEGACY, Fault.CONTEXT_NOT_PRESENT, Fault.NO_READ],
    ['scalable', SCALABLE, Fault.SM_PASID_NOT_PRESENT, Fault.SM_FS_NOT_PRESENT],
  ])(
    'come to the listener with device, address and reason: %s',
    (_mode, kind, blocked, nothing) => {
      const rig = new ModelRig(kind);
      const device = rig.add(SID);
      const domain = rig.paging(device);
      const told: DeviceFault[] = [];
      rig.driver.onFault = (fault) => told.push(fault);
      expect(rig.access(SID, 0x1234, true)).toBe(-blocked);
      rig.sim.settle();
      rig.attach(device, domain);
      expect(rig.access(SID, 0x5678)).toBe(-nothing);
      rig.sim.settle();
      expect(told).toMatchObject([
        { device, sourceId: SID, address: 0x123_4000n, access: 'write', reason: blocked },
        { device, sourceId: SID, address: 0x567_8000n, access: 'read', reason: nothing },
      ]);
      for (const { text } of told) expect(text).not.toMatch(/^reason/);
    },
  );

  it('that are more than there is room for are told as lost, and more come after', () => {
    const rig = new ModelRig(SCALABLE);
    rig.add(SID);
    let [count, lost] = [0, 0];
    rig.driver.onFault = () => count++;
    rig.driver.onFaultOverflow = () => lost++;
    for (let page = 0; page < 20; page++) rig.access(SID, page);
    rig.sim.settle();
    expect([count, lost]).toEqual([8, 1]);
    rig.access(SID, 100);
    rig.sim.settle();
    expect(count).toBe(9);
  });
});

describe('two stages', () => {
  it('are the composition of one and the other, for every pair of page sizes', () => {
    const [small, middle, large] = [1, 512, 2 ** 18];
    for (const upper of [small, middle]) {
      for (const lower of [small, middle, large]) {
        const rig = new ModelRig(SCALABLE);
        const world = new World(new Prng(upper + lower), rig, () => undefined);
        const [guest] = world.guests;
        if (!guest) throw new Error('no guest');
        const device = world.requesters[0]?.device;
        if (!device) throw new Error('no device');
        expect(rig.attach(device, guest.domain)).toBe(0);
        const info = rig.driver.infoOf(device);
        // The stage below, in pages of one size; of the one above only 4 KiB pages are the world's.
        const base = 2 ** 20;
        const rc = guest.parent.domain.map(BigInt(base) << 12n, 2 ** 22 * 2, lower * 2, RW);
        expect(rc).toBe(0);
        for (let i = 0; i < Math.min(upper, 16); i++) {
          guest.table.set(2 ** 21 + i, base + ((i * 7) % lower), true);
        }
        for (let i = 0; i < Math.min(upper, 16); i++) {
          const expected = 2 ** 22 + ((i * 7) % lower);
          expect(rig.access(info?.sourceId ?? 0, 2 ** 21 + i, true)).toBe(expected);
        }
      }
    }
  });
});

describe('dirty bits', () => {
  it('are written while they are tracked, read and cleaned with a flush', () => {
    const rig = new ModelRig(SCALABLE);
    const device = rig.add(SID);
    const domain = rig.paging(device, DomainFlags.DIRTY_TRACKING);
    rig.attach(device, domain);
    domain.map(0n, 2 ** 21, 2 * 600, RW);
    const dirty = (): number[] => {
      const told: number[] = [];
      const gather = new IotlbGather();
      domain.dirty?.readAndClear(0n, 1200, 0, gather, (frame) => told.push(frame / 2));
      domain.iotlbSync(gather);
      return told;
    };
    rig.access(SID, 3, true);
    expect(dirty()).toEqual([]);
    expect(domain.dirty?.setTracking(true)).toBe(0);
    rig.access(SID, 4, false);
    expect(dirty()).toEqual([]);
    rig.access(SID, 4, true);
    rig.access(SID, 550, true);
    expect(dirty()).toEqual([0, 550]); // 2 MiB, 4 KiB
    expect(dirty()).toEqual([]);
    // Cleaned bits are not cached as set.
    rig.access(SID, 550, true);
    expect(dirty()).toEqual([550]);
    domain.dirty?.setTracking(false);
    rig.access(SID, 551, true);
    expect(dirty()).toEqual([]);
  });
});

describe('enforced coherence', () => {
  it('makes every access of a first stage snoop', () => {
    const rig = new ModelRig(SCALABLE);
    const device = rig.add(SID);
    const domain = rig.paging(device);
    rig.attach(device, domain);
    domain.map(0n, 2 ** 21, 2, RW);
    rig.access(SID, 0);
    expect(rig.model.forcesSnoop(SID, -1)).toBe(false);
    expect(domain.enforceCacheCoherency()).toBe(true);
    expect(rig.model.forcesSnoop(SID, -1)).toBe(true);
    expect(rig.access(SID, 0)).toBe(2 ** 20);
  });
});

describe('hardware that does not look into the cache of processors', () => {
  it('goes wrong where the driver does not flush', () => {
    const rig = new ModelRig(with_(LEGACY, {}, { C: 0 }));
    const device = rig.add(SID);
    const domain = rig.paging(device);
    rig.attach(device, domain);
    domain.map(0n, 2 ** 21, 2, RW);
    expect(rig.access(SID, 0)).toBe(2 ** 20);
    // The same without the flush: the leaf is there for processors alone.
    const quiet = Object.create(domain.table, {
      onWrite: { value: undefined },
    }) as typeof domain.table;
    Object.defineProperty(domain, 'table', { value: quiet });
    domain.map(0x10_0000n, 2 ** 21 + 4, 2, RW);
    expect(domain.iovaToFrame(0x10_0000n)).toBe(2 ** 21 + 4);
    expect(rig.access(SID, 0x100)).toBe(-Fault.NO_READ);
  });
});
