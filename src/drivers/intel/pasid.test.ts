// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Errno } from '../../base/errno.ts';
import type { Device } from '../../iommu/device.ts';
import type { Domain } from '../../iommu/domain.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { CachingVtd } from './caching_vtd.ts';
import { fakeAts, FakeRig, guestTable } from './fake_rig.ts';
import { bits, CAP_ALL, ECAP_LEGACY, ECAP_PASID, ECAP_SCALABLE } from './fake_vtd.ts';

const RW = 3;
const SID = 0x0318;
const PASID = 5;
const FAR = 0xf_fff1;

function setUp(more: { cap?: bigint; ecap?: bigint } = {}, kind?: typeof CachingVtd) {
  const rig = new FakeRig({ ecap: ECAP_PASID, ...more }, kind);
  const device = rig.add(SID, { pasidBits: 20, ats: fakeAts(1) });
  return { rig, device };
}

/** Every domain that a PASID can be attached to, by name. */
function domains(rig: FakeRig, device: Device): Record<string, Domain> {
  const parent = rig.paging(device, DomainFlags.NEST_PARENT);
  const { identityDomain } = rig.driver.ops;
  if (!identityDomain) throw new Error('no identity domain');
  return {
    first: rig.paging(device, DomainFlags.PASID),
    'another first': rig.paging(device, DomainFlags.PASID),
    second: rig.paging(device, DomainFlags.PASID | DomainFlags.DIRTY_TRACKING),
    nested: rig.nested(device, parent, guestTable(0x10_0000n)),
    identity: identityDomain,
  };
}

describe('the PASID table of a device', () => {
  it.each([
    [1, 2],
    [15, 2],
    [16, 3],
    [20, 7],
  ])('has a directory for PASIDs of %i bits: PDTS %i', (pasidBits, pdts) => {
    const rig = new FakeRig({ ecap: ECAP_PASID });
    const before = rig.ram.liveFrames;
    const device = rig.add(SID, { pasidBits });
    expect(((rig.context(SID)[0] ?? 0) >>> 9) & 7).toBe(pdts);
    // The context entry says PASIDE.
    expect((rig.context(SID)[0] ?? 0) & 8).toBe(8);
    expect(device.maxPasids).toBe(2 ** pasidBits);
    rig.driver.removeDevice(device);
    // The table of the bus stays.
    expect(rig.ram.liveFrames).toBe(before + 2);
  });

  it('has no more PASIDs than the unit tells apart', () => {
    const ecap = (ECAP_PASID & ~(0x1fn << 35n)) | bits([16, 35]);
    const rig = new FakeRig({ ecap });
    expect(rig.add(SID, { pasidBits: 20 }).maxPasids).toBe(2 ** 17);
    expect(((rig.context(SID)[0] ?? 0) >>> 9) & 7).toBe(4);
  });

  it('gets a table of entries for 64 PASIDs when one of them is attached, and keeps it', () => {
    const { rig, device } = setUp();
    const domain = rig.paging(device);
    expect(rig.pasidEntry(SID, FAR)).toEqual([]);
    const before = rig.ram.liveFrames;
    for (const pasid of [FAR, FAR + 1]) expect(rig.attach(device, domain, pasid)).toBe(0);
    expect(rig.ram.liveFrames).toBe(before + 2);
    expect(rig.pasidEntry(SID, FAR)[0]).toBe(0x4d); // present, 57 bits, first stage
    for (const pasid of [FAR, FAR + 1]) rig.detach(device, domain, pasid);
    expect(rig.pasidEntry(SID, FAR)).toEqual(Array(16).fill(0));
    expect(rig.ram.liveFrames).toBe(before + 2);
    rig.driver.removeDevice(device);
    expect(rig.driver.infoOf(device)).toBeUndefined();
  });
});

describe('a domain at a PASID', () => {
  it('has the entry that it has without one', () => {
    const { rig, device } = setUp();
    for (const domain of Object.values(domains(rig, device))) {
      expect(rig.attach(device, domain)).toBe(0);
      expect(rig.attach(device, domain, PASID)).toBe(0);
      expect(rig.pasidEntry(SID, PASID)).toEqual(rig.pasidEntry(SID));
      rig.detach(device, domain, PASID);
      expect(rig.pasidEntry(SID, PASID)).toEqual(Array(16).fill(0));
      expect(rig.pasidEntry(SID)[0]).not.toBe(0); // B8, the other way
      rig.detach(device, domain);
    }
  });

  it.each([
    ['first', ['pasid 2/5', 'piotlb 2/5', 'device 0x318/5 all']],
    ['second', ['pasid 2/5', 'iotlb 2 rw', 'device 0x318/5 all']],
    ['nested', ['pasid 2/5', 'iotlb 2 rw', 'device 0x318/5 all']],
    ['identity', ['pasid 1/5', 'piotlb 1/5', 'device 0x318/5 all']],
  ])('is forgotten in this order when it is detached: %s', (name, expected) => {
    const { rig, device } = setUp();
    const domain = domains(rig, device)[name];
    if (!domain) throw new Error(name);
    rig.attach(device, domain, PASID);
    expect(rig.vtd.during(() => rig.detach(device, domain, PASID))).toEqual(expected);
    expect(rig.vtd.submissions).toEqual([1, 2]);
    expect(rig.vtd.during(() => rig.detach(device, domain, PASID))).toEqual([]);
  });

  it('is exchanged for another without a moment of none, and what was cached is forgotten', () => {
    const { rig, device } = setUp();
    const all = Object.entries(domains(rig, device));
    for (const [from, old] of all) {
      for (const [to, next] of all) {
        if (from === to) continue;
        rig.attach(device, old, PASID);
        let blocked = false;
        rig.vtd.onAsked = () => {
          blocked ||= ((rig.pasidEntry(SID, PASID)[0] ?? 0) & 1) === 0;
        };
        expect(rig.replace(device, next, PASID)).toBe(0);
        rig.vtd.onAsked = undefined;
        const bothStages = [from, to].includes('nested') && `${from}${to}`.includes('first');
        expect([from, to, blocked]).toEqual([from, to, bothStages]);
        rig.detach(device, next, PASID);
      }
    }
    expect(rig.unit.dids.taken).toBe(0);
  });

  it('that fails anywhere to be attached or to replace another leaves all as it was', () => {
    for (const [hasOld, cap] of [
      [false, CAP_ALL | 0x80n],
      [true, CAP_ALL],
    ] as const) {
      for (const name of ['first', 'second', 'nested', 'identity']) {
        const { rig, device } = setUp({ cap });
        const all = domains(rig, device);
        const [domain, old] = [all[name], all['another first']];
        if (!domain || !old) throw new Error(name);
        rig.attach(device, old, hasOld ? PASID : 6);
        const info = rig.driver.infoOf(device);
        const state = () => [
          rig.pasidEntry(SID, PASID),
          rig.unit.dids.taken,
          rig.ram.liveFrames,
          info?.pasids.size,
          info?.pasids.get(PASID)?.attached,
        ];
        const before = state();
        let failures = 0;
        for (; ; failures++) {
          rig.faults.plan({ nth: failures + 1 });
          const rc = hasOld
            ? rig.replace(device, domain, PASID)
            : rig.attach(device, domain, PASID);
          rig.faults.clear();
          if (!rig.faults.injected) break;
          expect(rc).toBe(rig.faults.injected === 'alloc' ? -Errno.ENOMEM : -Errno.EIO);
          expect(state()).toEqual(before);
        }
        expect(failures).toBeGreaterThanOrEqual(hasOld ? 2 : 4);
        expect(rig.core.warnings).toEqual([]);
      }
    }
  });

  it('whose table of entries can not be made is -ENOMEM', () => {
    const { rig, device } = setUp();
    const domain = rig.paging(device);
    const before = rig.ram.liveFrames;
    // Core's, what is known of the PASID, the table.
    rig.faults.plan({ nth: 3 });
    expect(rig.attach(device, domain, FAR)).toBe(-Errno.ENOMEM);
    rig.faults.clear();
    expect([rig.ram.liveFrames, rig.driver.infoOf(device)?.pasids.size]).toEqual([before, 0]);
  });

  it('is -EOPNOTSUPP where unit or device have no PASIDs, and blocking one that has nothing is 0', () => {
    for (const ecap of [ECAP_LEGACY, ECAP_SCALABLE, ECAP_PASID]) {
      const rig = new FakeRig({ ecap });
      const device = rig.add(SID);
      const { identityDomain, blockedDomain } = rig.driver.ops;
      for (const domain of [rig.paging(device), identityDomain]) {
        expect(domain?.setDevPasid?.(device, PASID, undefined)).toBe(-Errno.EOPNOTSUPP);
      }
      expect(blockedDomain?.setDevPasid?.(device, PASID, undefined)).toBe(0);
    }
  });

  it('that does not fit is refused as without a PASID', () => {
    const { rig, device } = setUp();
    const parent = rig.paging(device, DomainFlags.NEST_PARENT);
    const nested = rig.nested(device, parent, guestTable(0n, { addr_width: 32 }));
    expect(rig.attach(device, nested, PASID)).toBe(-Errno.EINVAL);
    expect(rig.driver.infoOf(device)?.pasids.size).toBe(0);
  });
});

describe('an unmap', () => {
  it('of a first stage asks by each PASID, the IOTLB before the cache of the device', () => {
    const { rig, device } = setUp();
    const domain = rig.paging(device);
    rig.attach(device, domain);
    rig.attach(device, domain, PASID);
    rig.attach(device, domain, FAR);
    domain.map(0x10_0000n, 0x1002, 8, RW);
    expect(rig.vtd.during(() => domain.unmap(0x10_0000n, 8))).toEqual([
      'piotlb 2/0 pages 0x100+2^2 leaves',
      'device 0x318 0x101 S',
      'piotlb 2/5 pages 0x100+2^2 leaves',
      'device 0x318/5 0x101 S',
      `piotlb 2/${FAR} pages 0x100+2^2 leaves`,
      `device 0x318/${FAR} 0x101 S`,
    ]);
    expect(rig.vtd.submissions).toEqual([6]);
    rig.detach(device, domain);
    rig.detach(device, domain, FAR);
    domain.map(0x10_0000n, 0x1002, 2, RW);
    expect(rig.vtd.during(() => domain.unmap(0x10_0000n, 2))).toEqual([
      'piotlb 2/5 pages 0x100+2^0 leaves',
      'device 0x318/5 0x100',
    ]);
  });

  it('of a second stage asks once by domain id, whatever the PASIDs', () => {
    const { rig, device } = setUp();
    const domain = rig.paging(device, DomainFlags.DIRTY_TRACKING);
    for (const pasid of [PASID, 0, FAR]) rig.attach(device, domain, pasid);
    domain.map(0n, 0x1002, 2, RW);
    expect(rig.vtd.during(() => domain.unmap(0n, 2))).toEqual([
      'iotlb 2 pages 0x0+2^0 leaves rw',
      'device 0x318/5 0x0',
      'device 0x318 0x0',
      `device 0x318/${FAR} 0x0`,
    ]);
    for (const pasid of [PASID, 0]) rig.detach(device, domain, pasid);
    domain.map(0n, 0x1002, 2, RW);
    expect(rig.vtd.during(() => domain.unmap(0n, 2))).toHaveLength(2);
    rig.detach(device, domain, FAR);
    expect(domain.attachments.tags.all).toEqual([]);
  });

  it('of what a guest lies on empties the whole cache of the device at its PASID', () => {
    const { rig, device } = setUp();
    const parent = rig.paging(device, DomainFlags.NEST_PARENT);
    const nested = rig.nested(device, parent, guestTable(0x10_0000n));
    rig.attach(device, nested, PASID);
    parent.map(0n, 0x1002, 2, RW);
    expect(rig.vtd.during(() => parent.unmap(0n, 2))).toEqual([
      'iotlb 2 pages 0x0+2^0 rw',
      'device 0x318/5 all',
    ]);
  });
});

describe('dirty tracking and enforced coherence', () => {
  it('reach the entries of PASIDs', () => {
    const { rig, device } = setUp();
    const tracked = rig.paging(device, DomainFlags.DIRTY_TRACKING);
    const snooping = rig.paging(device);
    rig.attach(device, tracked, PASID);
    rig.attach(device, snooping, FAR);
    expect(tracked.dirty?.setTracking(true)).toBe(0);
    expect((rig.pasidEntry(SID, PASID)[0] ?? 0) & 0x200).toBe(0x200);
    expect(snooping.enforceCacheCoherency()).toBe(true);
    expect((rig.pasidEntry(SID, FAR)[2] ?? 0) & (1 << 24)).not.toBe(0);
  });
});

describe('PASIDs of one device', () => {
  it('go on when the domain without PASID is detached (B8), and see only their own', () => {
    const { rig, device } = setUp({}, CachingVtd);
    const vtd = rig.vtd as CachingVtd;
    const [one, two] = [rig.paging(device), rig.paging(device)];
    one.map(0n, 0x1002, 2, RW);
    two.map(0n, 0x2002, 2, RW);
    rig.attach(device, one);
    rig.attach(device, two, PASID);
    const frame = (pasid: number): unknown => {
      const found = vtd.accessByCache(SID, 0n, false, pasid);
      return typeof found === 'string' ? found : found.frame / 2048n;
    };
    expect([frame(0), frame(PASID), frame(6)]).toEqual([0x1002n, 0x2002n, 'no PASID entry']);
    rig.detach(device, one);
    expect([frame(0), frame(PASID)]).toEqual(['no PASID entry', 0x2002n]);
    rig.replace(device, one, PASID);
    expect(frame(PASID)).toBe(0x1002n);
  });

  it('that a device leaves attached are blocked and given back when it goes', () => {
    const { rig, device } = setUp();
    const domain = rig.paging(device);
    rig.attach(device, domain, PASID);
    const asked = rig.vtd.during(() => rig.driver.removeDevice(device));
    expect(asked).toContain('pasid 2/5');
    expect(asked.indexOf('device 0x318/5 all')).toBeLessThan(asked.indexOf('context 0 of 0x318'));
    expect(domain.attachments.devices.size).toBe(0);
    expect(domain.attachments.tags.all).toEqual([]);
  });
});
