// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { allocPagingDomain, allocSvaDomain, allocUserDomain } from './alloc.ts';
import { attach, replace } from './attach.ts';
import { Device, IommuDevice, NO_PASID } from './device.ts';
import { DomainType, isFaultCapable, type SvaDomain } from './domain.ts';
import { FakeDevice, FakeSvaDomain, FakeWorld } from './fake_driver.ts';
import type { FaultHandler } from './fault.ts';
import { AttachHandle } from './handle.ts';
import { claimDmaOwner } from './ownership.ts';

const handler: FaultHandler = { handle: () => 0 };
const mm = {} as SvaDomain['mm'];
let world: FakeWorld;

beforeEach(() => {
  world = new FakeWorld();
  return expectQuiet;
});

/** Nobody broke a rule, and no lock is left held. */
function expectQuiet(): void {
  expect(world.core.warnings).toEqual([]);
  world.sim.assertNothingHeld();
}

describe('domains and their creation', () => {
  it('A1: a simple driver gives a paging domain, and refuses every choice', () => {
    const { domainAllocPagingFlags: _, ...ops } = new FakeWorld().ops;
    world = new FakeWorld();
    const simple = new IommuDevice('simple', {
      ...ops,
      domainAllocPaging: () => world.makeDomain(),
    });
    const device = new FakeDevice('a');
    expect(world.core.probeDevice(device, simple)).toBe(0);
    expect(allocUserDomain(device, { flags: 0 })).toMatchObject({ type: DomainType.UNMANAGED });
    expect(allocUserDomain(device, { flags: 2 })).toBe(-Errno.EOPNOTSUPP);
    expect(allocUserDomain(device, { flags: 0, faultHandler: handler })).toBe(-Errno.EOPNOTSUPP);
    expect(allocSvaDomain(device, mm)).toBe(-Errno.EOPNOTSUPP);
  });

  it('A1: the user form passes the choices to the driver as they are', () => {
    const device = world.add('a');
    const request = { flags: 2, faultHandler: handler };
    world.domain(device, request);
    expect(world.requests.at(-1)).toBe(request);
  });

  it('A1: a nested domain needs a driver that nests, a parent of that driver, and data', () => {
    const device = world.add('a');
    const parent = world.domain(device);
    const userData = { type: 1, length: 0, copyIn: () => true, copyOut: () => true };
    expect(allocUserDomain(device, { flags: 0, parent, userData })).toBe(-Errno.EOPNOTSUPP);
    const nesting = new FakeWorld({ domainAllocNested: () => -Errno.ENOSPC });
    const other = nesting.add('b');
    expect(allocUserDomain(other, { flags: 0, parent, userData })).toBe(-Errno.EINVAL);
    const own = nesting.domain(other);
    expect(allocUserDomain(other, { flags: 0, parent: own, userData })).toBe(-Errno.ENOSPC);
    expect(allocUserDomain(other, { flags: 0, parent: own })).toBe(-Errno.EOPNOTSUPP);
  });

  it('A1: an SVA domain is whole at its creation', () => {
    world = new FakeWorld({ domainAllocSva: (_device, space) => new FakeSvaDomain(space) });
    const domain = allocSvaDomain(world.add('a'), mm);
    expect(domain).toMatchObject({ type: DomainType.SVA, owner: world.ops });
    expect((domain as SvaDomain).mm).toBe(mm);
  });

  it('A1: there is no domain for a device without an IOMMU', () => {
    const device = new Device('lonely');
    expect(allocPagingDomain(device)).toBe(-Errno.ENODEV);
    expect(allocUserDomain(device, { flags: 0 })).toBe(-Errno.ENODEV);
    expect(allocSvaDomain(device, mm)).toBe(-Errno.ENODEV);
  });

  it('A2: the fault handler of a domain is the one it was made with, and cannot be set again', () => {
    const domain = world.domain(world.add('a'), { flags: 0, faultHandler: handler });
    expect(domain.faultHandler).toBe(handler);
    expect(() => domain.seal(world.ops, { faultHandler: undefined })).toThrow('is sealed');
    expect(() => Object.assign(domain, { faultHandler: undefined })).toThrow(TypeError);
    expect(domain.faultHandler).toBe(handler);
  });

  it.each([NO_PASID, 5])(
    'A3: a fault-capable domain is refused where a device cannot fault (PASID %i)',
    (pasid) => {
      const device = world.add('a', { pasidBits: 6 });
      claimDmaOwner(device, world);
      const domain = world.domain(device, { flags: 0, faultHandler: handler });
      expect(attach(device, pasid, domain, new AttachHandle())).toBe(-Errno.ENODEV);
      const plain = world.domain(device);
      expect(attach(device, pasid, plain, new AttachHandle())).toBe(0);
      expect(replace(device, pasid, domain, new AttachHandle())).toBe(-Errno.ENODEV);
      expect(pasid === NO_PASID ? device.rid : device.byPasid.get(pasid)).toBe(plain);
    },
  );

  it('A3: one device of the group that cannot fault is enough', () => {
    const first = world.add('a', { group: 1, canFault: true });
    world.add('b', { group: 1 });
    claimDmaOwner(first, world);
    const domain = world.domain(first, { flags: 0, faultHandler: handler });
    expect(attach(first, NO_PASID, domain, new AttachHandle())).toBe(-Errno.ENODEV);
    expect(first.rid).toBe(world.blocked);
  });

  it('A4: a driver asks core whether a domain is fault-capable', () => {
    const device = world.add('a', { canFault: true });
    expect(isFaultCapable(world.domain(device))).toBe(false);
    expect(isFaultCapable(world.domain(device, { flags: 0, faultHandler: handler }))).toBe(true);
  });
});
