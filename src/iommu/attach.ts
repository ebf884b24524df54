// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { type Device, NO_PASID } from './device.ts';
import { type Domain, isFaultCapable } from './domain.ts';
import type { IommuGroup } from './group.ts';
import { AttachHandle } from './handle.ts';
import { attachPasid, detachPasid, replacePasid } from './pasid.ts';

/*
 * Attach, detach and replace for callers that do not branch (B1): one entry for requests with and without a PASID, for
 * domains with and without page faults. Without a PASID they act on the whole group of the device (B2). For tasks
 * there is steps.ts.
 */

/**
 * Attaches a domain to a device's group (`pasid` 0) or to a PASID of it, with a fresh handle. 0, or -EBUSY (something is
 * attached there), -EINVAL (domain of another driver, PASID out of range), -ENODEV (no IOMMU; a fault-capable domain and a
 * device that cannot fault, A3), -EOPNOTSUPP (the driver has no PASIDs), -ENOMEM, or what the driver answers. On failure
 * nothing has changed.
 */
export function attach(
  device: Device,
  pasid: number,
  domain: Domain,
  handle: AttachHandle,
): number {
  const { group } = device;
  if (!group) return -Errno.ENODEV;
  if (pasid !== NO_PASID) return attachPasid(device, pasid, domain, handle);
  return group.core.locked(group, () => {
    if (group.pasids.has(NO_PASID)) return -Errno.EBUSY;
    if (group.core.allocFails()) return -Errno.ENOMEM;
    const rc = attachGroupLocked(group, domain);
    if (rc === 0) store(group, domain, handle);
    return rc;
  });
}

/**
 * The same without a handle, for users inside the kernel that need no page faults. -EINVAL where the group has other devices,
 * which their drivers use.
 */
export function attachDevice(device: Device, domain: Domain): number {
  const { group } = device;
  if (!group) return -Errno.ENODEV;
  return group.core.locked(group, () =>
    group.devices.length === 1 ? attachGroupLocked(group, domain) : -Errno.EINVAL,
  );
}

/**
 * Takes away what is attached: the group falls back to the blocked domain (owned) or to its default domain. Detaching
 * without a PASID leaves the PASIDs alone (B8).
 */
export function detach(device: Device, pasid: number, domain: Domain): void {
  const { group } = device;
  if (!group) return;
  if (pasid !== NO_PASID) return detachPasid(device, pasid, domain);
  group.core.locked(group, () => {
    group.setCoreDomain();
    group.pasids.delete(NO_PASID);
  });
}

/**
 * Exchanges the domain without a moment of none, where the driver can. All or nothing (B3): on failure every device of the group
 * is in the old domain and the old handle is in force. Replacing where nothing is attached is -EINVAL (B4), and so is the handle
 * in force: a path without locks may be using it.
 */
export function replace(
  device: Device,
  pasid: number,
  domain: Domain,
  handle: AttachHandle,
): number {
  const { group } = device;
  if (!group) return -Errno.ENODEV;
  if (pasid !== NO_PASID) return replacePasid(device, pasid, domain, handle);
  return group.core.locked(group, () => {
    const current = group.pasids.get(NO_PASID);
    if (!current || current === handle) return -Errno.EINVAL;
    const refused = checkDomain(group, domain);
    if (refused !== 0) return refused;
    const rc = group.setDomain(domain);
    if (rc === 0) store(group, domain, handle);
    return rc;
  });
}

/**
 * The handle in force at a PASID (0: none) of a group: -ENOENT where there is none, -EBUSY where its domain is not of the
 * wanted type. Valid until the next detach or replace.
 */
export function attachHandleAt(
  group: IommuGroup,
  pasid: number,
  type?: Domain['type'],
): AttachHandle | number {
  const entry = group.pasids.get(pasid);
  if (!(entry instanceof AttachHandle)) return -Errno.ENOENT;
  if (type !== undefined && entry.domain?.type !== type) return -Errno.EBUSY;
  return entry;
}

/** 0, or why a domain can be attached to no device of a group, before its driver is asked. */
function checkDomain(group: IommuGroup, domain: Domain): number {
  const ops = group.devices[0]?.iommu?.ops;
  if (!ops) return -Errno.EINVAL;
  if (domain.owner !== ops && domain !== ops.blockedDomain && domain !== ops.identityDomain) {
    return -Errno.EINVAL;
  }
  if (!isFaultCapable(domain)) return 0;
  if (!group.devices.every((device) => ops.canFault?.(device) ?? false)) return -Errno.ENODEV;
  // C12: the id has one handler.
  return group.devices.some((device) => device.faultHandlers.has(NO_PASID)) ? -Errno.EBUSY : 0;
}

function attachGroupLocked(group: IommuGroup, domain: Domain): number {
  const { domain: current } = group;
  if (current && current !== group.defaultDomain && current !== group.blockingDomain) {
    return -Errno.EBUSY;
  }
  const refused = checkDomain(group, domain);
  return refused === 0 ? group.setDomain(domain) : refused;
}

function store(group: IommuGroup, domain: Domain, handle: AttachHandle): void {
  handle.domain = domain;
  group.pasids.set(NO_PASID, handle);
}
