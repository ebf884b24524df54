// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { DomainFlags, IommuCap } from '../../iommu/ops.ts';
import { CachingVtd } from './caching_vtd.ts';
import { fakeAts, FakeRig } from './fake_rig.ts';
import { bits, CAP_ALL, ECAP_LEGACY, ECAP_PASID } from './fake_vtd.ts';

const RW = 3;
const SID = 0x0318;
const LEGACY_ATS = ECAP_LEGACY | 4n;
const DTE = 4;

describe('the cache of a device', () => {
  it('is turned on after PASIDs, when the entry allows it, and off before that goes', () => {
    const rig = new FakeRig({ ecap: ECAP_PASID });
    const log: string[] = [];
    const control = (name: string) => ({
      queueDepth: 1,
      enable: (on: boolean) =>
        log.push(`${name} ${on ? 'on' : 'off'}, entry ${((rig.context(SID)[0] ?? 0) & 0xf) >>> 0}`),
    });
    const device = rig.add(SID, { pasidBits: 8, pasid: control('PASID'), ats: control('ATS') });
    expect(log.splice(0)).toEqual(['PASID on, entry 13', 'ATS on, entry 13']);
    rig.driver.removeDevice(device);
    expect(log).toEqual(['ATS off, entry 13', 'PASID off, entry 13']);
  });

  it('is on in legacy mode while a table is attached, and not asked for anything else', () => {
    const rig = new FakeRig({ ecap: LEGACY_ATS });
    const ats = fakeAts(1);
    const device = rig.add(SID, { ats });
    const domain = rig.paging(device);
    expect(ats.isOn).toBe(false);
    rig.attach(device, domain);
    expect([ats.isOn, ((rig.context(SID)[0] ?? 0) >>> 2) & 3]).toEqual([true, 1]);
    const { identityDomain } = rig.driver.ops;
    if (!identityDomain) throw new Error('no identity domain');
    rig.replace(device, identityDomain);
    expect(ats.isOn).toBe(false);
    expect(rig.vtd.during(() => rig.replace(device, domain))).toEqual([
      'context 1 of 0x318',
      'iotlb 1 rw',
    ]);
    expect(ats.isOn).toBe(true);
    rig.detach(device, domain);
    expect(ats.isOn).toBe(false);
  });

  it('is left alone where the unit has none, and core is told so', () => {
    const rig = new FakeRig({ ecap: ECAP_PASID & ~4n });
    const ats = fakeAts(1);
    const device = rig.add(SID, { ats });
    expect([ats.isOn, (rig.context(SID)[0] ?? 0) & DTE]).toEqual([false, 0]);
    expect(rig.driver.ops.capable?.(device, IommuCap.PCI_ATS_SUPPORTED)).toBe(false);
  });

  it.each([
    [1, 1],
    [31, 31],
    [32, 0],
  ])('says how many invalidations it takes at once: %i as %i', (depth, written) => {
    const rig = new FakeRig({ ecap: ECAP_PASID });
    const device = rig.add(SID, { pasidBits: 8, ats: fakeAts(depth) });
    const domain = rig.paging(device);
    rig.attach(device, domain);
    rig.attach(device, domain, 3);
    const words: number[] = [];
    rig.vtd.onDescriptor = ([w0 = 0]) => words.push(w0);
    domain.map(0n, 0x1002, 2, RW);
    domain.unmap(0n, 2);
    expect(words.map((w0) => w0 & 0xf)).toEqual([6, 3, 6, 8]);
    expect(((words[1] ?? 0) >>> 16) & 0x1f).toBe(written);
    expect(((words[3] ?? 0) >>> 4) & 0x1f).toBe(written);
  });

  it.each([
    [0, 0],
    [1, 0xabcd],
  ])('of a virtual function names its physical one where that paces it: DIT %i', (dit, pfsid) => {
    const rig = new FakeRig({ ecap: ECAP_PASID | bits([dit, 41]) });
    const options = { pasidBits: 8, ats: fakeAts(1), physicalSourceId: 0xabcd };
    const device = rig.add(SID, options);
    const domain = rig.paging(device);
    const seen: number[][] = [];
    rig.attach(device, domain);
    rig.attach(device, domain, 3);
    rig.vtd.onDescriptor = (words) => seen.push([...words]);
    domain.map(0n, 0x1002, 2, RW);
    domain.unmap(0n, 2);
    for (const [w0 = 0, w1 = 0] of [seen[1] ?? [], seen[3] ?? []]) {
      expect(((w0 >>> 12) & 0xf) | ((w1 >>> 20) << 4)).toBe(pfsid);
    }
    expect((seen[1]?.[1] ?? 0) & 0xffff).toBe(SID);
    expect((seen[3]?.[0] ?? 0) >>> 16).toBe(SID);
    expect((seen[3]?.[1] ?? 0) & 0xf_ffff).toBe(3);
  });
});

describe('a device that completes no invalidation', () => {
  function setUp(ecap: bigint) {
    const rig = new FakeRig({ ecap }, CachingVtd);
    const [ats, other] = [fakeAts(1), fakeAts(1)];
    const device = rig.add(SID, { ats });
    const neighbour = rig.add(SID + 8, { ats: other });
    const domain = rig.paging(device, DomainFlags.DIRTY_TRACKING * Number(ecap === ECAP_PASID));
    rig.attach(device, domain);
    rig.attach(neighbour, domain);
    domain.map(0n, 0x1002, 4, RW);
    return { rig, vtd: rig.vtd as CachingVtd, device, neighbour, domain, ats, other };
  }

  it.each([
    ['legacy', LEGACY_ATS],
    ['scalable', ECAP_PASID],
  ])('is warned of and gets no translations any more; the rest goes on: %s', (_mode, ecap) => {
    const { rig, vtd, device, neighbour, domain, ats, other } = setUp(ecap);
    for (const sourceId of [SID, SID + 8]) vtd.accessByCache(sourceId, 0n, false);
    const live = rig.ram.liveFrames;
    vtd.deadDevice = SID;
    domain.unmap(0n, 2);
    expect(rig.core.warnings).toHaveLength(1);
    expect(rig.core.warnings[0]).toMatch(/dev792 does not complete invalidations/);
    expect([ats.isOn, other.isOn]).toEqual([false, true]);
    expect((rig.context(SID)[0] ?? 0) & DTE).toBe(0);
    expect((rig.context(SID + 8)[0] ?? 0) & DTE).toBe(DTE);
    expect(vtd.asked).toContain(`context ${ecap === LEGACY_ATS ? 2 : 0} of 0x318`);
    // The others have forgotten it, and so has the unit.
    expect(vtd.accessByCache(SID + 8, 0n, false)).toMatch(/nothing/);
    expect(vtd.access(SID, 0n, false)).toMatch(/nothing/);
    expect(rig.ram.liveFrames).toBe(live);
    // It is not asked again, nor when it is attached elsewhere.
    expect(vtd.during(() => domain.unmap(0x1000n, 2)).join()).not.toContain('device 0x318 ');
    const next = rig.paging(device);
    expect(rig.replace(device, next)).toBe(0);
    rig.detach(device, next);
    expect(rig.attach(device, next)).toBe(0);
    expect([ats.isOn, (rig.context(SID)[0] ?? 0) & DTE]).toEqual([false, 0]);
    expect(vtd.asked.join()).not.toContain('device 0x318 ');
    rig.detach(device, next);
    rig.detach(neighbour, domain);
    expect([...next.attachments.tags.all, ...domain.attachments.tags.all]).toEqual([]);
    expect(rig.core.warnings).toHaveLength(1);
  });

  it('that the hardware does not name: the tables stay that it may still walk, with a warning', () => {
    const { rig, vtd, domain, ats } = setUp(ECAP_PASID);
    vtd.deadDevice = SID;
    vtd.tellsDevice = false;
    const live = rig.ram.liveFrames;
    domain.unmap(0n, 4);
    expect(rig.core.warnings[0]).toMatch(/its invalidation queue does not answer/);
    expect([ats.isOn, rig.ram.liveFrames]).toEqual([true, live]);
  });

  it('while its domain is replaced: it gets the other, without its cache', () => {
    const { rig, vtd, device } = setUp(LEGACY_ATS);
    const next = rig.paging(device);
    vtd.deadDevice = SID;
    expect(rig.replace(device, next)).toBe(0);
    expect((rig.context(SID)[0] ?? 0) & DTE).toBe(0);
    expect(rig.driver.infoOf(device)?.attached).toBe(next);
    expect(rig.core.warnings).toHaveLength(1);
  });
});

describe('what has a table is told before what was filled from it', () => {
  it.each([
    ['legacy', LEGACY_ATS],
    ['scalable', ECAP_PASID],
  ])('in any order of attaching and detaching: %s', (_mode, ecap) => {
    const rig = new FakeRig({ ecap, cap: CAP_ALL });
    const devices = [0, 8, 16].map((i) => rig.add(SID + i, { ats: fakeAts(1) }));
    const [first] = devices;
    if (!first) throw new Error('no device');
    const domain = rig.paging(first);
    const attached = new Set<number>();
    for (const i of [0, 1, 0, 2, 0, 1, 1, 0, 2, 2, 0, 1]) {
      const device = devices[i];
      if (!device) continue;
      if (attached.delete(i)) rig.detach(device, domain);
      else if (attached.add(i)) rig.attach(device, domain);
      domain.map(0n, 0x1002, 2, RW);
      const asked = rig.vtd.during(() => domain.unmap(0n, 2));
      expect(asked).toHaveLength(attached.size > 0 ? attached.size + 1 : 0);
      if (attached.size > 0) expect(asked[0]).toMatch(/iotlb/);
    }
  });
});
