// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { attachDevice } from './attach.ts';
import { IommuDevice } from './device.ts';
import { DomainType, type PagingDomain } from './domain.ts';
import { FakeDevice, FakeWorld } from './fake_driver.ts';
import {
  claimDmaOwner,
  claimGroupDmaOwner,
  releaseDmaOwner,
  releaseGroupDmaOwner,
} from './ownership.ts';
import { type ResvRegion, ResvType } from './reserved.ts';

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

describe('DMA ownership', () => {
  it('blocks while it is claimed, and gives the default domain back', () => {
    const device = world.add('a');
    const byDefault = device.rid;
    expect(byDefault?.type).toBe(DomainType.DMA);
    expect(claimDmaOwner(device, 'me')).toBe(0);
    expect(device.rid).toBe(world.blocked);
    releaseDmaOwner(device);
    expect(device.rid).toBe(byDefault);
  });

  it('B2: is shared by devices of a group with the same owner, and refused to another', () => {
    const [first, second] = [world.add('a', { group: 1 }), world.add('b', { group: 1 })];
    expect(claimDmaOwner(first, 'me')).toBe(0);
    expect(claimDmaOwner(second, 'you')).toBe(-Errno.EPERM);
    expect(claimDmaOwner(second, 'me')).toBe(0);
    releaseDmaOwner(first);
    expect(second.rid).toBe(world.blocked);
    releaseDmaOwner(second);
    expect(second.rid?.type).toBe(DomainType.DMA);
  });

  it('of a group as a whole is claimed once, even by the same owner', () => {
    const { group } = world.add('a');
    if (!group) throw new Error('no group');
    expect(claimGroupDmaOwner(group, 'me')).toBe(0);
    expect(claimGroupDmaOwner(group, 'me')).toBe(-Errno.EPERM);
    releaseGroupDmaOwner(group);
    expect(claimGroupDmaOwner(group, 'you')).toBe(0);
  });

  it('is refused while a driver of the kernel has a domain of its own', () => {
    const device = world.add('a');
    expect(attachDevice(device, world.domain(device))).toBe(0);
    expect(claimDmaOwner(device, 'me')).toBe(-Errno.EBUSY);
  });

  it('is refused for a device that must never be blocked', () => {
    const direct: ResvRegion = { start: 0x1000n, last: 0x2fffn, prot: 3, type: ResvType.DIRECT };
    const device = world.add('a', { resvRegions: [direct] });
    expect(claimDmaOwner(device, 'me')).toBe(-Errno.EINVAL);
    expect(device.rid?.type).toBe(DomainType.DMA);
    expect(device.group?.ownerCount).toBe(0);
  });

  it('without a blocked domain of the driver blocks with an empty table, which goes with the group', () => {
    const { blockedDomain: _, ...ops } = world.ops;
    const device = new FakeDevice('a');
    world.core.probeDevice(device, new IommuDevice('old', ops));
    claimDmaOwner(device, 'me');
    expect(device.rid).toMatchObject({ type: DomainType.UNMANAGED });
    expect((device.rid as PagingDomain).iovaToPhys(0n)).toBe(-1n);
    releaseDmaOwner(device);
    world.core.releaseDevice(device);
    expect(world.ram.liveFrames).toBe(0);
  });

  it('released without an owner is reported', () => {
    releaseDmaOwner(world.add('a'));
    expect(world.core.warnings.splice(0)).toEqual([expect.stringContaining('has no owner')]);
  });
});

describe('devices that come and go', () => {
  it('leave nothing behind', () => {
    const [first, second] = [world.add('a', { group: 1 }), world.add('b', { group: 1 })];
    expect(second.group).toBe(first.group);
    world.core.releaseDevice(first);
    expect(world.core.groups.size).toBe(1);
    world.core.releaseDevice(second);
    expect([world.core.groups.isEmpty(), world.ram.liveFrames]).toEqual([true, 0]);
    expect(second.group).toBeUndefined();
  });

  it('that fail to appear change nothing', () => {
    const device = new FakeDevice('a');
    device.refuseAt = 1;
    expect(world.core.probeDevice(device, world.iommu)).toBe(-Errno.ENODEV);
    expect([world.core.groups.isEmpty(), world.ram.liveFrames]).toEqual([true, 0]);
    expect([device.group, device.iommu]).toEqual([undefined, undefined]);
    expect(world.core.probeDevice(device, world.iommu)).toBe(0);
  });

  it('have as many PASIDs as they and the IOMMU share', () => {
    expect(world.add('a').maxPasids).toBe(0);
    expect(world.add('b', { pasidBits: 0 }).maxPasids).toBe(1);
    expect(world.add('c', { pasidBits: 20 }).maxPasids).toBe(64);
  });
});
