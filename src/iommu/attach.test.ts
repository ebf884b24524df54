// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { attach, attachDevice, attachHandleAt, detach, replace } from './attach.ts';
import { NO_PASID } from './device.ts';
import { DomainType, type PagingDomain } from './domain.ts';
import { type FakeDevice, FakeWorld } from './fake_driver.ts';
import type { FaultHandler } from './fault.ts';
import { AttachHandle } from './handle.ts';
import { claimDmaOwner, isDmaOwnerClaimed, releaseDmaOwner } from './ownership.ts';

const handler: FaultHandler = { handle: () => 0 };
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

describe('attach, detach and replace', () => {
  let first: FakeDevice;
  let second: FakeDevice;
  let old: PagingDomain;
  let oldHandle: AttachHandle;

  beforeEach(() => {
    first = world.add('a', { group: 1, pasidBits: 6, canFault: true });
    second = world.add('b', { group: 1, pasidBits: 6, canFault: true });
    claimDmaOwner(first, world);
    old = world.domain(first);
    oldHandle = new AttachHandle();
    attachOld();
  });

  function attachOld(): void {
    expect(attach(first, NO_PASID, old, oldHandle)).toBe(0);
  }

  /** Everything that a failed call must leave alone. */
  const state = (): unknown => {
    const { group } = first;
    return {
      rids: [first.rid, second.rid],
      pasids: [[...first.byPasid], [...second.byPasid]],
      slots: [...(group?.pasids ?? [])].map(([pasid, slot]) => [
        pasid,
        slot,
        group?.domainAt(pasid),
      ]),
      domain: group?.domain,
      owner: [group?.owner, group?.ownerCount],
    };
  };

  it.each([
    ['without PASID', NO_PASID, false],
    ['without PASID, fault-capable', NO_PASID, true],
    ['with a PASID', 5, false],
    ['with a PASID, fault-capable', 5, true],
  ])('B1: one entry attaches, replaces and detaches %s', (_what, pasid, faults) => {
    detach(first, NO_PASID, old);
    const request = { flags: 0, ...(faults ? { faultHandler: handler } : {}) };
    const [one, two] = [world.domain(first, request), world.domain(first, request)];
    const inForce = (): unknown => (pasid === NO_PASID ? first.rid : first.byPasid.get(pasid));
    const [h1, h2] = [new AttachHandle(), new AttachHandle()];
    const group = first.group;
    if (!group) throw new Error('no group');
    expect(attach(first, pasid, one, h1)).toBe(0);
    expect([inForce(), attachHandleAt(group, pasid), h1.domain]).toEqual([one, h1, one]);
    expect(replace(first, pasid, two, h2)).toBe(0);
    expect([inForce(), attachHandleAt(group, pasid), h2.domain]).toEqual([two, h2, two]);
    detach(first, pasid, two);
    expect(attachHandleAt(group, pasid)).toBe(-Errno.ENOENT);
    expect(inForce()).toBe(pasid === NO_PASID ? world.blocked : undefined);
  });

  it('B1: the handle is found by PASID and by type of domain', () => {
    const { group } = first;
    if (!group) throw new Error('no group');
    expect(attachHandleAt(group, NO_PASID, DomainType.UNMANAGED)).toBe(oldHandle);
    expect(attachHandleAt(group, NO_PASID, DomainType.NESTED)).toBe(-Errno.EBUSY);
    expect(attachHandleAt(group, 3)).toBe(-Errno.ENOENT);
  });

  it('B2: attach, replace and detach act on every device of the group', () => {
    expect([first.rid, second.rid]).toEqual([old, old]);
    const next = world.domain(first);
    replace(second, NO_PASID, next, new AttachHandle());
    expect([first.rid, second.rid]).toEqual([next, next]);
    detach(first, NO_PASID, next);
    expect([first.rid, second.rid]).toEqual([world.blocked, world.blocked]);
  });

  it('B2: a device that joins gets the domain of its group', () => {
    expect(world.add('c', { group: 1 }).rid).toBe(old);
  });

  it('B2: a lone user inside the kernel attaches without a handle, but not to a group of several', () => {
    const lone = world.add('lone');
    claimDmaOwner(lone, world);
    expect(attachDevice(lone, world.domain(lone))).toBe(0);
    detach(first, NO_PASID, old);
    expect(attachDevice(first, world.domain(first))).toBe(-Errno.EINVAL);
  });

  it.each([
    ['the first device', 0],
    ['the second device', 1],
  ])('B3: a replace that %s refuses leaves all as it was', (_who, which) => {
    const before = state();
    const culprit = which === 0 ? first : second;
    culprit.refuseAt = 1;
    culprit.errno = Errno.ENOSPC;
    expect(replace(first, NO_PASID, world.domain(first), new AttachHandle())).toBe(-Errno.ENOSPC);
    expect(state()).toEqual(before);
  });

  it('B3: a PASID replace that the second device refuses leaves all as it was', () => {
    const domain = world.domain(first);
    attach(first, 5, domain, new AttachHandle());
    const before = state();
    second.refuseAt = 1;
    expect(replace(first, 5, world.domain(first), new AttachHandle())).toBe(-Errno.ENODEV);
    expect(state()).toEqual(before);
  });

  it('B3: a PASID attach that the second device refuses leaves none on the first', () => {
    const before = state();
    second.refuseAt = 1;
    expect(attach(first, 5, world.domain(first), new AttachHandle())).toBe(-Errno.ENODEV);
    expect(state()).toEqual(before);
  });

  it('B3: an attach that fails half way leaves the group blocked', () => {
    detach(first, NO_PASID, old);
    const before = state();
    second.refuseAt = 1;
    expect(attach(first, NO_PASID, old, new AttachHandle())).toBe(-Errno.ENODEV);
    expect(state()).toEqual(before);
    expect(second.rid).toBe(world.blocked);
  });

  it.each([NO_PASID, 5])('B3: no memory for the slot of PASID %i leaves all as it was', (pasid) => {
    detach(first, NO_PASID, old);
    const before = state();
    world.sim.faults.plan({ nth: 1 });
    expect(attach(first, pasid, old, new AttachHandle())).toBe(-Errno.ENOMEM);
    world.sim.faults.clear();
    expect(state()).toEqual(before);
  });

  it('B3: a driver that refuses the way back is reported', () => {
    first.refuseAt = 2; // takes the new domain, refuses the old one
    second.refuseAt = 1;
    expect(replace(first, NO_PASID, world.domain(first), new AttachHandle())).toBe(-Errno.ENODEV);
    expect(world.core.warnings.splice(0)).toEqual([
      expect.stringContaining('refused the domain it had'),
    ]);
    expect(first.rid).toBe(world.blocked); // never a domain that may be freed
  });

  it.each([NO_PASID, 5])(
    'B4: a replace where nothing is attached (PASID %i) is refused',
    (pasid) => {
      detach(first, NO_PASID, old);
      const before = state();
      expect(replace(first, pasid, world.domain(first), new AttachHandle())).toBe(-Errno.EINVAL);
      expect(state()).toEqual(before);
    },
  );

  it('B4: a replace with the handle in force is refused', () => {
    expect(replace(first, NO_PASID, world.domain(first), oldHandle)).toBe(-Errno.EINVAL);
    expect(oldHandle.domain).toBe(old);
  });

  it('a second attach is EBUSY, even where what is attached is the blocked domain', () => {
    detach(first, NO_PASID, old);
    expect(attach(first, NO_PASID, world.blocked, new AttachHandle())).toBe(0);
    expect(attach(first, NO_PASID, old, new AttachHandle())).toBe(-Errno.EBUSY);
  });

  it('a second attach is EBUSY, also at a PASID', () => {
    expect(attach(second, NO_PASID, world.domain(first), new AttachHandle())).toBe(-Errno.EBUSY);
    attach(first, 5, old, new AttachHandle());
    expect(attach(second, 5, old, new AttachHandle())).toBe(-Errno.EBUSY);
  });

  it('a domain of another driver is EINVAL', () => {
    const other = new FakeWorld();
    const foreign = other.domain(other.add('x'));
    expect(replace(first, NO_PASID, foreign, new AttachHandle())).toBe(-Errno.EINVAL);
    expect(attach(first, 5, foreign, new AttachHandle())).toBe(-Errno.EINVAL);
    detach(first, NO_PASID, old);
    expect(attach(first, NO_PASID, foreign, new AttachHandle())).toBe(-Errno.EINVAL);
  });

  it('a PASID beyond what a device can use is EINVAL', () => {
    expect(attach(first, 64, old, new AttachHandle())).toBe(-Errno.EINVAL);
    expect(attach(first, 63, old, new AttachHandle())).toBe(0);
  });

  it('a device without PASIDs takes no part in them', () => {
    const third = world.add('c', { group: 1 });
    expect(attach(first, 5, old, new AttachHandle())).toBe(0);
    expect([first, second, third].map((device) => device.byPasid.size)).toEqual([1, 1, 0]);
  });

  it('B8: detaching without a PASID leaves the PASIDs attached', () => {
    const handle = new AttachHandle();
    attach(first, 5, old, handle);
    detach(first, NO_PASID, old);
    const { group } = first;
    expect(first.byPasid.get(5)).toBe(old);
    expect(group && attachHandleAt(group, 5)).toBe(handle);
    expect(first.rid).toBe(world.blocked);
  });

  it('B9: a release with PASIDs left is reported with their numbers, and the group stays owned', () => {
    attach(first, 5, old, new AttachHandle());
    attach(first, 7, old, new AttachHandle());
    detach(first, NO_PASID, old);
    releaseDmaOwner(first);
    expect(world.core.warnings.splice(0)).toEqual([expect.stringContaining('PASID 5, 7')]);
    expect(world.core.ownershipViolations).toBe(1);
    expect(first.group?.owner).toBe(world);
    expect(claimDmaOwner(first, 'another')).toBe(-Errno.EPERM);
    detach(first, 5, old);
    detach(first, 7, old);
    releaseDmaOwner(first);
    expect(first.group && isDmaOwnerClaimed(first.group)).toBe(false);
  });

  it('B10: groups have PASID tables of their own, even in one domain', () => {
    const other = world.add('other', { pasidBits: 6 });
    claimDmaOwner(other, world);
    attach(other, NO_PASID, old, new AttachHandle());
    attach(first, 5, old, new AttachHandle());
    expect(other.byPasid.size).toBe(0);
    expect(other.group?.pasids.has(5)).toBe(false);
    expect(attach(other, 5, old, new AttachHandle())).toBe(0);
  });

  it('B10: each device of a group has a PASID in its own table, and loses it there', () => {
    attach(first, 5, old, new AttachHandle());
    expect([first.byPasid.get(5), second.byPasid.get(5)]).toEqual([old, old]);
    const other = world.add('other', { pasidBits: 6 });
    claimDmaOwner(other, world);
    attach(other, 5, old, new AttachHandle());
    detach(first, 5, old);
    expect([first, second, other].map(({ byPasid }) => byPasid.has(5))).toEqual([
      false,
      false,
      true,
    ]);
  });
});
