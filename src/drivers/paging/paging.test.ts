// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { allocPagingDomain, allocUserDomain } from '../../iommu/alloc.ts';
import { attach, detach, replace } from '../../iommu/attach.ts';
import { IommuCore } from '../../iommu/core.ts';
import { Device, NO_PASID } from '../../iommu/device.ts';
import { IotlbGather, isPagingDomain, type PagingDomain, Prot } from '../../iommu/domain.ts';
import { AttachHandle } from '../../iommu/handle.ts';
import { claimDmaOwner, releaseDmaOwner } from '../../iommu/ownership.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { ResvType } from '../../iommu/reserved.ts';
import { Faults } from '../../sim/faults.ts';
import { Sim } from '../../sim/sim.ts';
import { TranslationCause } from '../../pci/translator.ts';
import { PagingIommu } from './paging_iommu.ts';

const IOVA = 0x12_3456_7000n;
const RW = Prot.READ | Prot.WRITE;
const OWNER = {};

let faults: Faults;
let core: IommuCore;
let iommu: PagingIommu;

beforeEach(() => {
  faults = new Faults();
  const sim = new Sim({ faults, checkLocks: true });
  core = new IommuCore({ sim });
  iommu = new PagingIommu(core, { name: 'iommu0' });
  return () => {
    expect(core.warnings).toEqual([]);
    sim.assertNothingHeld();
  };
});

function add(name: string, group?: string): Device {
  const device = new Device(name);
  expect(iommu.addDevice(device, group)).toBe(0);
  return device;
}

function domainFor(device: Device, flags = 0): PagingDomain {
  const domain = allocUserDomain(device, { flags });
  if (typeof domain === 'number' || !isPagingDomain(domain)) throw new Error('refused');
  return domain;
}

const at = (device: Device, iova: bigint, access: 'read' | 'write' = 'read') =>
  iommu.translate(device, NO_PASID, iova, access);

describe('an IOMMU that only maps', () => {
  it('translates 48 bits of address in pages from 4 KiB on', () => {
    const domain = domainFor(add('a'));
    expect(domain.apertureLast).toBe(2n ** 48n - 1n);
    expect(domain.pgsizeBitmap & 0xffffn).toBe(0xf000n);
  });

  it('gives the frame, the byte in it and what follows contiguously', () => {
    const device = add('a');
    const domain = domainFor(device);
    claimDmaOwner(device, OWNER);
    expect(attach(device, NO_PASID, domain, new AttachHandle())).toBe(0);
    domain.map(IOVA, 0x500, 4, RW);
    expect(at(device, IOVA + 5n)).toMatchObject({ frame: 0x500, offset: 5 });
    expect(at(device, IOVA + 0x1801n, 'write')).toMatchObject({
      frame: 0x503,
      offset: 1,
      bytes: 2047,
    });
  });

  it('refuses with the cause and the address', () => {
    const device = add('a');
    const domain = domainFor(device);
    claimDmaOwner(device, OWNER);
    attach(device, NO_PASID, domain, new AttachHandle());
    domain.map(IOVA, 0x500, 2, Prot.READ);
    domain.map(IOVA + 0x1000n, 0x500, 2, Prot.WRITE);
    const cause = (iova: bigint, access?: 'read' | 'write') => at(device, iova, access);
    const expected = (what: string, iova: bigint) => ({ cause: what, at: iova });
    expect(cause(IOVA, 'write')).toEqual(expected(TranslationCause.NOT_WRITABLE, IOVA));
    const second = IOVA + 0x1000n;
    expect(cause(second)).toEqual(expected(TranslationCause.NOT_READABLE, second));
    expect(cause(IOVA - 1n)).toEqual(expected(TranslationCause.NOT_MAPPED, IOVA - 1n));
    const high = 2n ** 48n;
    expect(cause(high)).toEqual(expected(TranslationCause.BEYOND_APERTURE, high));
    expect(iommu.translate(device, 3, IOVA, 'read')).toMatchObject({
      cause: TranslationCause.BLOCKED,
    });
  });

  it('follows attach, replace and detach of the group, and blocks what it does not know', () => {
    const [first, second] = [add('a', 'g'), add('b', 'g')];
    expect(second.group).toBe(first.group);
    const [one, other] = [domainFor(first), domainFor(first)];
    one.map(IOVA, 0x100, 2, RW);
    other.map(IOVA, 0x200, 2, RW);
    expect(at(first, IOVA)).toMatchObject({ cause: TranslationCause.NOT_MAPPED }); // the kernel's own
    claimDmaOwner(first, OWNER);
    expect(at(second, IOVA)).toMatchObject({ cause: TranslationCause.BLOCKED });
    attach(first, NO_PASID, one, new AttachHandle());
    expect([at(first, IOVA), at(second, IOVA)]).toMatchObject([{ frame: 0x100 }, { frame: 0x100 }]);
    replace(first, NO_PASID, other, new AttachHandle());
    expect([at(first, IOVA), at(second, IOVA)]).toMatchObject([{ frame: 0x200 }, { frame: 0x200 }]);
    detach(first, NO_PASID, other);
    expect(at(second, IOVA)).toMatchObject({ cause: TranslationCause.BLOCKED });
    releaseDmaOwner(first);
    expect(at(new Device('x'), IOVA)).toMatchObject({ cause: TranslationCause.BLOCKED });
  });

  it('reserves the window of interrupt messages of x86', () => {
    expect(core.resvRegions(add('a'))).toMatchObject([
      { start: 0xfee0_0000n, last: 0xfeef_ffffn, type: ResvType.MSI },
    ]);
  });

  it('tracks what is written while it is asked to, for a domain made for that', () => {
    const device = add('a');
    const plain = domainFor(device);
    expect(plain.dirty).toBeUndefined();
    const domain = domainFor(device, DomainFlags.DIRTY_TRACKING);
    claimDmaOwner(device, OWNER);
    attach(device, NO_PASID, domain, new AttachHandle());
    domain.map(IOVA, 0x500, 4, RW);
    const dirty = (): number => {
      let count = 0;
      domain.dirty?.readAndClear(IOVA, 4, 0, new IotlbGather(), () => count++);
      return count;
    };
    at(device, IOVA, 'write');
    expect(dirty()).toBe(0);
    domain.dirty?.setTracking(true);
    at(device, IOVA, 'read');
    expect(dirty()).toBe(0);
    at(device, IOVA, 'write');
    expect(dirty()).toBe(1);
    expect(dirty()).toBe(0);
  });

  it.each([DomainFlags.NEST_PARENT, 1 << 20])('has no domain of flags %i', (flags) => {
    expect(allocUserDomain(add('a'), { flags })).toBe(-95);
  });

  it('takes only devices that are behind it', () => {
    expect(core.probeDevice(new Device('x'), iommu.iommu)).toBe(-19);
    const other = new PagingIommu(core, { name: 'iommu1' });
    const device = add('a');
    const foreign = new Device('y');
    other.addDevice(foreign);
    const domain = allocPagingDomain(device);
    if (typeof domain === 'number') throw new Error('refused');
    expect(domain.attachDev(foreign, undefined)).toBe(-19);
  });

  it('leaves nothing behind when devices go, and nothing where one cannot come', () => {
    const before = iommu.ram.liveFrames;
    const device = add('a');
    expect(iommu.ram.liveFrames).toBeGreaterThan(before);
    iommu.removeDevice(device);
    expect(iommu.ram.liveFrames).toBe(before);
    faults.plan({ nth: 1 });
    expect(iommu.addDevice(new Device('b'))).toBe(-12);
    faults.clear();
    expect(iommu.ram.liveFrames).toBe(before);
    expect([...core.groups.entries()]).toEqual([]);
  });
});

describe('PASIDs', () => {
  function withPasids(name: string): Device {
    const device = new Device(name, { pasidBits: 4 });
    expect(iommu.addDevice(device)).toBe(0);
    expect(claimDmaOwner(device, OWNER)).toBe(0);
    return device;
  }
  const through = (device: Device, pasid: number) => iommu.translate(device, pasid, IOVA, 'read');

  it('B10: belong to one device, also where others are in the same domain', () => {
    const [a, b] = [withPasids('a'), withPasids('b')];
    const domain = domainFor(a, DomainFlags.PASID);
    const own = domainFor(a, DomainFlags.PASID);
    domain.map(IOVA, 0x500, 2, RW);
    own.map(IOVA, 0x700, 2, RW);
    for (const each of [a, b]) attach(each, NO_PASID, domain, new AttachHandle());
    expect(attach(a, 5, own, new AttachHandle())).toBe(0);
    expect(through(a, 5)).toMatchObject({ frame: 0x700 });
    expect(through(b, 5)).toMatchObject({ cause: TranslationCause.BLOCKED });
    expect(attach(b, 5, domain, new AttachHandle())).toBe(0);
    expect(through(a, 5)).toMatchObject({ frame: 0x700 });
    detach(b, 5, domain);
    expect(through(a, 5)).toMatchObject({ frame: 0x700 });
  });

  it('B8: live on when the RID is detached', () => {
    const a = withPasids('a');
    const domain = domainFor(a, DomainFlags.PASID);
    domain.map(IOVA, 0x500, 2, RW);
    attach(a, NO_PASID, domain, new AttachHandle());
    attach(a, 5, domain, new AttachHandle());
    detach(a, NO_PASID, domain);
    expect(through(a, NO_PASID)).toMatchObject({ cause: TranslationCause.BLOCKED });
    expect(through(a, 5)).toMatchObject({ frame: 0x500 });
  });
});
