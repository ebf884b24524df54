// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { allocPagingDomain } from './alloc.ts';
import type { Device } from './device.ts';
import type { IommuGroup } from './group.ts';

/*
 * DMA ownership: a group is either the kernel's (its default domain is in force) or one user's (blocked until the user
 * attaches something). An owner is any value, compared by identity.
 */

/**
 * Claims the group of a device; devices of one group can be claimed by the same owner, and each claim is given back by one
 * `releaseDmaOwner`. 0, or -EPERM (another owner), -EBUSY (in use by a driver of the kernel), -ENODEV, -EINVAL (a device of the
 * group must not be blocked), -ENOMEM.
 */
export function claimDmaOwner(device: Device, owner: unknown): number {
  const { group } = device;
  if (!group) return -Errno.ENODEV;
  return group.core.locked(group, () => {
    if (group.ownerCount === 0) return take(group, owner);
    if (group.owner !== owner) return -Errno.EPERM;
    group.ownerCount++;
    return 0;
  });
}

/** Claims a group as a whole, once (VFIO's group interface): -EPERM where it has an owner, even the same. */
export function claimGroupDmaOwner(group: IommuGroup, owner: unknown): number {
  return group.core.locked(group, () =>
    group.ownerCount === 0 ? take(group, owner) : -Errno.EPERM,
  );
}

export function releaseDmaOwner(device: Device): void {
  const { group } = device;
  if (!group) return;
  group.core.locked(group, () => {
    if (group.ownerCount > 1) group.ownerCount--;
    else release(group);
  });
}

export function releaseGroupDmaOwner(group: IommuGroup): void {
  group.core.locked(group, () => release(group));
}

/** For reports; the answer is old as soon as it is given. */
export const isDmaOwnerClaimed = (group: IommuGroup): boolean => group.ownerCount > 0;

function take(group: IommuGroup, owner: unknown): number {
  if (owner === undefined) return -Errno.EINVAL;
  if (group.domain !== group.defaultDomain || group.pasids.size > 0) return -Errno.EBUSY;
  const rc = makeBlockingDomain(group);
  if (rc !== 0) return rc;
  const blocked = group.blockingDomain ? group.setDomain(group.blockingDomain) : -Errno.ENODEV;
  if (blocked !== 0) return blocked;
  group.owner = owner;
  group.ownerCount = 1;
  return 0;
}

/** B9: with PASIDs left, the group stays owned: giving it to a driver of the kernel would give away their memory. */
function release(group: IommuGroup): void {
  if (group.ownerCount === 0) {
    group.core.warn(`group ${group.id}: released, but it has no owner`);
    return;
  }
  if (group.pasids.size > 0) {
    group.core.ownershipViolations++;
    const left = [...group.pasids.keys()].join(', ');
    group.core.warn(
      `group ${group.id}: released with PASID ${left} still attached; it stays owned`,
    );
    return;
  }
  group.ownerCount = 0;
  group.owner = undefined;
  group.setCoreDomain();
}

/** The driver's own, or an empty page table where it has none. */
function makeBlockingDomain(group: IommuGroup): number {
  if (group.blockingDomain) return 0;
  const device = group.devices[0];
  if (!device?.iommu) return -Errno.ENODEV;
  const own = device.iommu.ops.blockedDomain;
  const domain = own ?? allocPagingDomain(device);
  if (typeof domain === 'number') return domain;
  group.blockingDomain = domain;
  return 0;
}
