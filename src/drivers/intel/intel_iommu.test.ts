// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { iommu_hw_info_vtd } from '../../abi/iommufd.ts';
import { Errno } from '../../base/errno.ts';
import { allocUserDomain } from '../../iommu/alloc.ts';
import { IommuCore } from '../../iommu/core.ts';
import { Device } from '../../iommu/device.ts';
import { DomainFlags, IommuCap } from '../../iommu/ops.ts';
import { Ram } from '../../memory/ram.ts';
import { Faults } from '../../sim/faults.ts';
import { Sim } from '../../sim/sim.ts';
import { FakeRig, userDataOf, fakeAts } from './fake_rig.ts';
import { bits, CAP_ALL, ECAP_LEGACY, ECAP_SCALABLE, FakeVtd } from './fake_vtd.ts';
import { type DeviceFault, IntelIommu } from './intel_iommu.ts';

const RW = 3;
const SID = 0x0318;

const legacy = { ecap: ECAP_LEGACY };

/** A start, with what became of the memory. */
function start(options: ConstructorParameters<typeof FakeVtd>[2], kill?: (vtd: FakeVtd) => void) {
  const faults = new Faults();
  const sim = new Sim({ faults });
  const ram = new Ram({ faults });
  const vtd = new FakeVtd(sim, ram, options);
  kill?.(vtd);
  const driver = new IntelIommu(new IommuCore({ sim }));
  return { vtd, ram, faults, start: () => driver.addUnit('dmar0', vtd) };
}

describe('the start of a unit', () => {
  it('sets the root table, forgets everything in order, and turns translation on', () => {
    const rig = new FakeRig();
    expect(rig.vtd.asked).toEqual(['contexts', 'pasids', 'iotlb all rw']);
    expect(rig.vtd.isScalable).toBe(true);
    // Translation, root table pointer, queue.
    expect(rig.vtd.mmio.read32(0x1c)).toBe(0xc400_0000);
    expect(rig.vtd.words(rig.vtd.rootTable, 1024).every((word) => word === 0)).toBe(true);
  });

  it('has its interrupt written where it was given, and lets it come', () => {
    const { vtd } = new FakeRig();
    const [message] = vtd.handlers.keys();
    expect(vtd.mmio.read32(0x3c)).toBe(message?.data);
    expect(vtd.mmio.read32(0x40)).toBe(0xfee0_1000);
    expect(vtd.mmio.read32(0x44)).toBe(0x12);
    expect(vtd.mmio.read32(0x38)).toBe(0);
  });

  it.each([0x20n, 0x40n])('turns off memory that firmware protects: CAP bit %i', (bit) => {
    expect(new FakeRig({ cap: CAP_ALL | bit }).vtd.mmio.read32(0x64)).toBe(0);
    expect(new FakeRig({}).vtd.mmio.read32(0x64)).toBe(0x8000_0001);
  });

  it('turns off what firmware left on before it sets its own tables', () => {
    const { vtd, start: run } = start({}, (one) => {
      one.mmio.write32(0x88, 0);
      one.mmio.write32(0x18, 0x8400_0000);
    });
    const states: number[] = [];
    vtd.onCommand = (value) => states.push(value & 0xc400_0000);
    expect(typeof run()).toBe('object');
    expect(states.map((value) => value >>> 26)).toEqual([1, 0, 1, 0b10001, 0b100001]);
  });

  it('in legacy mode has no PASIDs to forget, and narrow descriptors', () => {
    const rig = new FakeRig(legacy);
    expect(rig.vtd.asked).toEqual(['contexts', 'iotlb all rw']);
    expect(rig.vtd.isScalable).toBe(false);
    expect(rig.vtd.mmio.read64(0x90) & 0xfffn).toBe(0n);
  });

  it.each([
    ['there is none', { cap: 2n ** 64n - 1n, ecap: 2n ** 64n - 1n }],
    ['it has no invalidation queue', { ecap: ECAP_SCALABLE & ~2n }],
    ['it has no width that fits', { cap: CAP_ALL & ~(0x1fn << 8n), ecap: ECAP_LEGACY }],
  ])('is -ENODEV where %s, and takes no memory', (_what, options) => {
    const { start: run, ram } = start(options);
    expect(run()).toBe(-Errno.ENODEV);
    expect(ram.liveFrames).toBe(0);
  });

  it('is -ETIMEDOUT where the hardware does not answer, and takes no memory', () => {
    const { start: run, ram } = start({}, (vtd) => (vtd.isDead = true));
    expect(run()).toBe(-Errno.ETIMEDOUT);
    expect(ram.liveFrames).toBe(0);
  });

  it('fails at each allocation and each submission, and takes no memory', () => {
    let failures = 0;
    for (let nth = 1; ; nth++) {
      const { start: run, ram, faults, vtd } = start({});
      faults.plan({ nth });
      const unit = run();
      faults.clear();
      if (!faults.injected) break;
      expect(unit).toBe(faults.injected === 'alloc' ? -Errno.ENOMEM : -Errno.EIO);
      expect(ram.liveFrames).toBe(0);
      expect(vtd.mmio.read32(0x1c) & 0x8400_0000).toBe(0);
      expect(vtd.handlers.size).toBe(0);
      failures++;
    }
    // Root table, queue, status words; three submissions.
    expect(failures).toBe(6);
  });
});

describe('what a user is told', () => {
  it('of the hardware: its registers, and the erratum that Linux says of all', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    for (const type of [0, 1]) {
      const info = rig.driver.ops.hwInfo?.(device, type);
      if (typeof info !== 'object') throw new Error('refused');
      expect(info.type).toBe(1);
      const told = iommu_hw_info_vtd.on(new DataView(info.data.buffer));
      expect([told.flags, told.__reserved]).toEqual([1, 0]);
      expect([told.cap_reg, told.ecap_reg]).toEqual([CAP_ALL, ECAP_SCALABLE]);
    }
    expect(rig.driver.ops.hwInfo?.(device, 2)).toBe(-Errno.EOPNOTSUPP);
  });

  it('of capabilities: what the registers say', () => {
    const all = new FakeRig();
    const few = new FakeRig({ ecap: ECAP_LEGACY & ~0x80n });
    const has = (rig: FakeRig, cap: IommuCap) => rig.driver.ops.capable?.(rig.add(cap), cap);
    expect(has(all, IommuCap.CACHE_COHERENCY)).toBe(true);
    expect(has(all, IommuCap.ENFORCE_CACHE_COHERENCY)).toBe(true);
    expect(has(all, IommuCap.DIRTY_TRACKING)).toBe(true);
    expect(has(all, IommuCap.PCI_ATS_SUPPORTED)).toBe(false);
    expect(has(few, IommuCap.ENFORCE_CACHE_COHERENCY)).toBe(false);
    expect(has(few, IommuCap.DIRTY_TRACKING)).toBe(false);
  });
});

describe('a device behind a unit', () => {
  it('in legacy mode has an entry that is not present while nothing is attached', () => {
    const rig = new FakeRig(legacy);
    rig.add(SID);
    expect(rig.context(SID)).toEqual([0, 0, 0, 0]);
  });

  it('in scalable mode has a PASID table of its own, of which entry 0 is not present', () => {
    const rig = new FakeRig();
    rig.add(SID);
    rig.add(SID + 1);
    const [one, other] = [rig.context(SID), rig.context(SID + 1)];
    expect((one[0] ?? 0) & 0xfff).toBe(0x401); // present, 2^9 entries in the directory
    expect(one[0]).not.toBe(other[0]);
    expect(one.slice(2)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(rig.pasidEntry(SID)).toEqual(Array(16).fill(0));
  });

  it('has the table of its half of the functions in scalable mode', () => {
    const rig = new FakeRig();
    rig.add(0x0307);
    rig.add(0x0380);
    expect((rig.context(0x0307)[0] ?? 0) & 1).toBe(1);
    expect((rig.context(0x0380)[0] ?? 0) & 1).toBe(1);
    expect(rig.context(0x0300)[0]).toBe(0);
  });

  it('is refused where its requester id is taken, or it is not announced', () => {
    const rig = new FakeRig();
    rig.add(SID);
    const twin = new Device('twin');
    expect(rig.driver.addDevice(twin, rig.unit, { sourceId: SID })).toBe(-Errno.EBUSY);
    expect(rig.core.probeDevice(new Device('x'), rig.driver.iommuOf(rig.unit))).toBe(-Errno.ENODEV);
  });

  it.each([
    ['legacy', legacy],
    ['scalable', {}],
    ['scalable, caching mode', { cap: CAP_ALL | 0x80n }],
  ])('leaves nothing behind when it goes, or cannot come: %s', (_mode, options) => {
    const rig = new FakeRig(options);
    rig.add(0x0300); // makes the tables of the bus
    const [before, ids] = [rig.ram.liveFrames, rig.unit.dids.taken];
    for (let nth = 1; ; nth++) {
      const device = new Device('dev');
      rig.faults.plan({ nth });
      const rc = rig.driver.addDevice(device, rig.unit, { sourceId: SID });
      rig.faults.clear();
      if (rc === 0) {
        expect(rig.faults.injected).toBeUndefined();
        rig.driver.removeDevice(device);
        expect([rig.ram.liveFrames, rig.unit.dids.taken]).toEqual([before, ids]);
        expect(rig.context(SID)[0]).toBe(0);
        break;
      }
      expect(rig.faults.injected).toBeDefined();
      expect([rig.ram.liveFrames, rig.unit.dids.taken]).toEqual([before, ids]);
    }
    expect(rig.core.warnings).toEqual([]);
  });

  it.each([
    ['legacy', legacy],
    ['scalable', {}],
  ])('on a bus without a table takes no memory where it cannot come: %s', (_mode, options) => {
    const rig = new FakeRig(options);
    const before = rig.ram.liveFrames;
    for (let nth = 1; ; nth++) {
      rig.faults.plan({ nth, kinds: ['alloc'] });
      const rc = rig.driver.addDevice(new Device('dev'), rig.unit, { sourceId: SID });
      rig.faults.clear();
      if (!rig.faults.injected) break;
      expect(rc).toBe(-Errno.ENOMEM);
      // Core's own domain comes after the bus's table, which stays.
      expect(rig.ram.liveFrames - before).toBeLessThanOrEqual(2);
    }
  });

  it('is told to forget its entry before that goes', () => {
    const rig = new FakeRig({ ecap: ECAP_SCALABLE | 4n });
    const device = new Device('dev');
    rig.driver.addDevice(device, rig.unit, { sourceId: SID, ats: fakeAts(4) });
    const entries: number[] = [];
    rig.vtd.onAsked = (words) => {
      if (words.startsWith('context')) entries.push(rig.context(SID)[0] ?? 0);
    };
    const asked = rig.vtd.during(() => rig.driver.removeDevice(device));
    expect(asked.slice(-2)).toEqual(['device 0x318 all', 'context 0 of 0x318']);
    // Not present when it is forgotten, gone after.
    expect(entries.map((word) => word & 1)).toEqual([0]);
    expect(entries[0]).not.toBe(0);
    expect(rig.context(SID)[0]).toBe(0);
  });

  it('is announced to hardware that caches what is not present', () => {
    const rig = new FakeRig({ cap: CAP_ALL | 0x80n });
    const asked = rig.vtd.during(() => rig.add(SID));
    expect(asked.slice(0, 2)).toEqual(['context 0 of 0x318', 'iotlb 0 rw']);
  });
});

describe('a paging domain', () => {
  it('is a first stage where there is one, for whoever wants nothing that it has not', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    expect(rig.paging(device).stage).toBe('first');
    expect(rig.paging(device, DomainFlags.PASID).stage).toBe('first');
    expect(rig.paging(device, DomainFlags.NEST_PARENT).stage).toBe('second');
    expect(rig.paging(device, DomainFlags.DIRTY_TRACKING).stage).toBe('second');
    const old = new FakeRig(legacy);
    expect(old.paging(old.add(SID)).stage).toBe('second');
  });

  it('has the lower half of what its first stage can address, and all of its second', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    expect(rig.paging(device).apertureLast).toBe(2n ** 47n - 1n);
    expect(rig.paging(device, DomainFlags.NEST_PARENT).apertureLast).toBe(2n ** 48n - 1n);
    const wide = new FakeRig({ cap: (CAP_ALL & ~(0x3fn << 16n)) | bits([56, 16], [1, 60]) });
    const other = wide.add(SID);
    expect(wide.paging(other).apertureLast).toBe(2n ** 56n - 1n);
    expect(wide.paging(other, DomainFlags.NEST_PARENT).apertureLast).toBe(2n ** 57n - 1n);
  });

  it('has the page sizes of the hardware', () => {
    const sizes = (options: ConstructorParameters<typeof FakeRig>[0], flags: number) => {
      const rig = new FakeRig(options);
      return rig.paging(rig.add(SID), flags).pgsizeBitmap;
    };
    const [k4, m2, g1] = [1n << 12n, 1n << 21n, 1n << 30n];
    expect(sizes({}, 0)).toBe(k4 | m2 | g1);
    expect(sizes({ cap: CAP_ALL & ~(1n << 56n) }, 0)).toBe(k4 | m2);
    expect(sizes({}, DomainFlags.NEST_PARENT)).toBe(k4 | m2 | g1);
    expect(sizes({ cap: CAP_ALL & ~(2n << 34n) }, DomainFlags.NEST_PARENT)).toBe(k4 | m2);
    expect(sizes({ cap: CAP_ALL & ~(3n << 34n) }, DomainFlags.NEST_PARENT)).toBe(k4);
  });

  it.each([
    ['nesting that the unit has not', { ecap: ECAP_SCALABLE & ~(1n << 26n) }, 1],
    ['dirty bits that the unit has not', { ecap: ECAP_SCALABLE & ~(1n << 45n) }, 2],
    ['dirty bits that walks could not see', { ecap: ECAP_SCALABLE & ~(1n << 48n) }, 2],
    ['nesting in legacy mode', legacy, 1],
    ['dirty bits in legacy mode', legacy, 2],
    ['a second stage that the unit has not', { ecap: ECAP_SCALABLE & ~(1n << 46n) }, 1],
    ['an unknown flag', {}, 1 << 10],
    ['a second stage of no width that fits', { cap: CAP_ALL & ~(0x1fn << 8n) }, 1],
  ])('is -EOPNOTSUPP for %s', (_what, options, flags) => {
    const rig = new FakeRig(options);
    const device = rig.add(SID);
    const before = rig.ram.liveFrames;
    expect(allocUserDomain(device, { flags })).toBe(-Errno.EOPNOTSUPP);
    expect(rig.ram.liveFrames).toBe(before);
  });

  it('is -EOPNOTSUPP for data of a user, and nested without any', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const userData = userDataOf(1, new Uint8Array(24));
    const parent = rig.paging(device, DomainFlags.NEST_PARENT);
    for (const request of [{ userData }, { parent }]) {
      expect(allocUserDomain(device, { flags: 0, ...request })).toBe(-Errno.EOPNOTSUPP);
    }
  });

  it('that is a nesting parent takes nothing that cannot be written', () => {
    const rig = new FakeRig();
    const parent = rig.paging(rig.add(SID), DomainFlags.NEST_PARENT);
    expect(parent.map(0x1000n, 2, 2, 1)).toBe(-Errno.EINVAL);
    expect(parent.map(0x1000n, 2, 2, RW)).toBe(0);
  });
});

describe('faults', () => {
  it('are told with device, address, access and reason, oldest first', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const told: DeviceFault[] = [];
    rig.driver.onFault = (fault) => told.push(fault);
    rig.vtd.mmio.write32(0x38, 0x8000_0000); // masked, so that both are there at once
    rig.vtd.fault(6, 0x1234_5678_9000n, SID, 0x4000_0000 | 0x79);
    rig.vtd.fault(7, 0x2000n, 0x8000_0999, (5 << 8) | 0x59);
    rig.vtd.mmio.write32(0x38, 0);
    for (const handler of rig.vtd.handlers.values()) handler();
    expect(told).toEqual([
      {
        unit: 'dmar0',
        device,
        sourceId: SID,
        pasid: undefined,
        address: 0x1234_5678_9000n,
        access: 'read',
        reason: 0x79,
        text: 'a second-stage entry is not present',
      },
      {
        unit: 'dmar0',
        device: undefined,
        sourceId: 0x999,
        pasid: 5,
        address: 0x2000n,
        access: 'write',
        reason: 0x59,
        text: 'the PASID table entry is not present',
      },
    ]);
    // Room again: the next one interrupts again.
    rig.vtd.fault(0, 0x3000n, SID, 0x71);
    expect(told.at(-1)).toMatchObject({ address: 0x3000n, access: 'write', reason: 0x71 });
  });

  it('that were lost are told as such', () => {
    const rig = new FakeRig();
    let lost = '';
    rig.driver.onFaultOverflow = (unit) => (lost = unit);
    rig.vtd.overflow();
    rig.vtd.fault(0, 0n, SID, 1);
    expect(lost).toBe('dmar0');
    expect(rig.vtd.mmio.read32(0x34)).toBe(0);
  });
});
