// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Errno } from '../../base/errno.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { FakeRig, guestTable } from './fake_rig.ts';
import { bits, CAP_ALL, ECAP_LEGACY, ECAP_SCALABLE } from './fake_vtd.ts';

const SID = 0x0318;
const legacy = { ecap: ECAP_LEGACY };

describe('a domain and a unit that has less than the one that it was made for', () => {
  const wide = (CAP_ALL & ~(0x3fn << 16n)) | bits([56, 16], [1, 60]);
  const without = (ecapBit: number, cap = CAP_ALL) => ({
    cap,
    ecap: ECAP_SCALABLE & ~(1n << BigInt(ecapBit)),
  });
  it.each([
    ['a first stage, no first stage', {}, 0, without(47)],
    ['a first stage, walks that are not coherent', {}, 0, without(48)],
    ['a first stage of 5 levels, 4', { cap: wide }, 0, {}],
    ['a first stage of 1 GiB, 2 MiB', {}, 0, { cap: CAP_ALL & ~(1n << 56n) }],
    ['a nesting parent, no nesting', {}, 1, without(26)],
    ['a second stage, no second stage', {}, 1, without(46)],
    ['a second stage, walks that are not coherent', {}, 1, without(48)],
    ['a second stage of 57 bits, 48 addresses', { cap: wide }, 1, {}],
    ['a second stage of 5 levels, 4', {}, 1, { cap: CAP_ALL & ~(8n << 8n) }],
    ['a second stage of 1 GiB, 2 MiB', {}, 1, { cap: CAP_ALL & ~(2n << 34n) }],
    [
      'a second stage of 2 MiB, 4 KiB',
      { cap: CAP_ALL & ~(2n << 34n) },
      1,
      { cap: CAP_ALL & ~(3n << 34n) },
    ],
    ['a second stage, caching mode', {}, 1, { cap: CAP_ALL | 0x80n }],
    ['dirty bits, none', {}, 2, without(45)],
  ])('%s: -EINVAL, and nothing has changed', (_what, here, flags, there) => {
    const rig = new FakeRig(here);
    const unit = rig.driver.addUnit('dmar1', new FakeRig(there).vtd);
    if (typeof unit === 'number') throw new Error(`no unit: ${unit}`);
    const [one, two] = [rig.add(SID), rig.add(SID + 8)];
    rig.driver.removeDevice(two);
    expect(rig.driver.addDevice(two, unit, { sourceId: SID + 8 })).toBe(0);
    const domain = rig.paging(one, flags);
    const ids = unit.dids.taken;
    expect(domain.attachDev(two, undefined)).toBe(-Errno.EINVAL);
    expect([unit.dids.taken, domain.attachments.devices.size]).toEqual([ids, 0]);
    expect(domain.attachDev(one, undefined)).toBe(0);
  });

  it('forced coherence, none: -EINVAL', () => {
    const rig = new FakeRig();
    const unit = rig.driver.addUnit('dmar1', new FakeRig(without(7)).vtd);
    if (typeof unit === 'number') throw new Error('no unit');
    const [one, two] = [rig.add(SID), rig.add(SID + 8)];
    rig.driver.removeDevice(two);
    rig.driver.addDevice(two, unit, { sourceId: SID + 8 });
    const domain = rig.paging(one, DomainFlags.NEST_PARENT);
    expect(domain.enforceCacheCoherency()).toBe(true);
    expect(domain.attachDev(two, undefined)).toBe(-Errno.EINVAL);
  });

  it('pass-through, none: -EINVAL', () => {
    const rig = new FakeRig({ ecap: ECAP_SCALABLE & ~(1n << 6n) });
    const device = rig.add(SID);
    expect(rig.driver.ops.identityDomain?.attachDev(device, undefined)).toBe(-Errno.EINVAL);
  });
});

describe('enforced coherence', () => {
  it('of a second stage is a bit in every leaf from then on', () => {
    const rig = new FakeRig(legacy);
    const device = rig.add(SID);
    const domain = rig.paging(device);
    rig.attach(device, domain);
    expect(domain.enforceCacheCoherency()).toBe(true);
    expect(domain.enforceCacheCoherency()).toBe(true);
    expect(domain.table.forceCoherent).toBe(true);
  });

  it('of a first stage is a bit in each entry, which the hardware is told', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const domain = rig.paging(device);
    rig.attach(device, domain);
    const asked = rig.vtd.during(() => expect(domain.enforceCacheCoherency()).toBe(true));
    expect(asked).toEqual(['pasid 2/0', 'piotlb 2/0']);
    expect(rig.vtd.during(() => domain.enforceCacheCoherency())).toEqual([]);
    expect((rig.pasidEntry(SID)[2] ?? 0) & (1 << 24)).not.toBe(0);
    const other = rig.add(SID + 8);
    rig.attach(other, domain);
    expect((rig.pasidEntry(SID + 8)[2] ?? 0) & (1 << 24)).not.toBe(0);
  });

  it('of a guests table is that of its parent', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const parent = rig.paging(device, DomainFlags.NEST_PARENT);
    parent.enforceCacheCoherency();
    rig.attach(device, rig.nested(device, parent, guestTable(0x1000n)));
    expect((rig.pasidEntry(SID)[2] ?? 0) & (1 << 24)).not.toBe(0);
  });

  it('is refused, and changes nothing, where a unit has it not or can not be told', () => {
    const without = new FakeRig({ ecap: ECAP_SCALABLE & ~0x80n });
    const device = without.add(SID);
    const domain = without.paging(device);
    without.attach(device, domain);
    expect(domain.enforceCacheCoherency()).toBe(false);
    const rig = new FakeRig();
    const other = rig.add(SID);
    const first = rig.paging(other);
    rig.attach(other, first);
    const before = rig.pasidEntry(SID);
    rig.faults.plan({ nth: 1, kinds: ['command'] });
    expect(first.enforceCacheCoherency()).toBe(false);
    rig.faults.clear();
    expect(rig.pasidEntry(SID)).toEqual(before);
    expect(first.enforceCacheCoherency()).toBe(true);
  });
});

describe('dirty tracking', () => {
  const SSADE = 1 << 9;
  const isOn = (rig: FakeRig, sid: number): boolean =>
    ((rig.pasidEntry(sid)[0] ?? 0) & SSADE) !== 0;
  const both = DomainFlags.DIRTY_TRACKING | DomainFlags.NEST_PARENT;

  it('is a bit in the entry of each device, also through a guests table, and of those that come', () => {
    const rig = new FakeRig();
    const [one, two, three] = [rig.add(SID), rig.add(SID + 8), rig.add(SID + 16)];
    const parent = rig.paging(one, both);
    rig.attach(one, parent);
    rig.attach(two, rig.nested(two, parent, guestTable(0x1000n)));
    const asked = rig.vtd.during(() => expect(parent.dirty?.setTracking(true)).toBe(0));
    expect(asked).toEqual(['pasid 2/0', 'iotlb 2 rw', 'pasid 3/0', 'iotlb 3 rw']);
    rig.attach(three, parent);
    expect([SID, SID + 8, SID + 16].map((sid) => isOn(rig, sid))).toEqual([true, true, true]);
    expect(rig.vtd.during(() => parent.dirty?.setTracking(true))).toEqual([]);
    parent.dirty?.setTracking(false);
    expect([SID, SID + 8, SID + 16].map((sid) => isOn(rig, sid))).toEqual([false, false, false]);
  });

  it('that can not be told leaves every entry as it was', () => {
    const rig = new FakeRig();
    const [one, two] = [rig.add(SID), rig.add(SID + 8)];
    const domain = rig.paging(one, both);
    rig.attach(one, domain);
    rig.attach(two, domain);
    for (const nth of [1, 2, 3, 4]) {
      rig.faults.plan({ nth, kinds: ['command'] });
      expect(domain.dirty?.setTracking(true)).toBe(-Errno.EIO);
      rig.faults.clear();
      expect([SID, SID + 8].map((sid) => isOn(rig, sid))).toEqual([false, false]);
    }
    expect(domain.dirty?.setTracking(true)).toBe(0);
  });

  it('needs the bits where the domain is attached', () => {
    const rig = new FakeRig();
    const without = rig.driver.addUnit(
      'dmar1',
      new FakeRig({ ecap: ECAP_SCALABLE & ~(1n << 45n) }).vtd,
    );
    if (typeof without === 'number') throw new Error('no unit');
    const device = rig.add(SID);
    const other = rig.add(SID + 8);
    rig.driver.removeDevice(other);
    rig.driver.addDevice(other, without, { sourceId: SID + 8 });
    const domain = rig.paging(device, DomainFlags.DIRTY_TRACKING);
    expect(domain.attachDev(other, undefined)).toBe(-Errno.EINVAL);
  });
});
