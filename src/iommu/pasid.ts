// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { type Device, NO_PASID } from './device.ts';
import { type Domain, isFaultCapable } from './domain.ts';
import type { IommuGroup } from './group.ts';
import type { AttachHandle } from './handle.ts';
import type { IommuOps } from './ops.ts';

/*
 * PASIDs of a group. A device without PASIDs takes no part: it can send no request with one. The callers are attach.ts and
 * SVA.
 */

/** See `attach` in attach.ts. */
export function attachPasid(
  device: Device,
  pasid: number,
  domain: Domain,
  handle: AttachHandle,
): number {
  const { group } = device;
  const ops = device.iommu?.ops;
  if (!group || !ops) return -Errno.ENODEV;
  if (!domain.setDevPasid || !ops.blockedDomain?.setDevPasid) return -Errno.EOPNOTSUPP;
  if (!isCompatible(ops, domain) || pasid === NO_PASID) return -Errno.EINVAL;
  return group.core.locked(group, () => {
    if (users(group).some((user) => pasid >= user.maxPasids)) return -Errno.EINVAL;
    if (group.pasids.has(pasid)) return -Errno.EBUSY;
    if (group.core.allocFails()) return -Errno.ENOMEM;
    const rc = setGroupPasid(group, pasid, domain, undefined);
    if (rc === 0) store(group, pasid, domain, handle);
    return rc;
  });
}

/** See `replace` in attach.ts. */
export function replacePasid(
  device: Device,
  pasid: number,
  domain: Domain,
  handle: AttachHandle,
): number {
  const { group } = device;
  const ops = device.iommu?.ops;
  if (!group || !ops) return -Errno.ENODEV;
  if (!domain.setDevPasid) return -Errno.EOPNOTSUPP;
  if (!isCompatible(ops, domain) || pasid === NO_PASID) return -Errno.EINVAL;
  return group.core.locked(group, () => {
    const current = group.pasids.get(pasid);
    if (!current || current === handle) return -Errno.EINVAL;
    const old = group.domainAt(pasid);
    const rc = old === domain ? 0 : setGroupPasid(group, pasid, domain, old);
    if (rc === 0) store(group, pasid, domain, handle);
    return rc;
  });
}

/** See `detach` in attach.ts. */
export function detachPasid(device: Device, pasid: number, domain: Domain): void {
  const { group } = device;
  if (!group) return;
  group.core.locked(group, () => {
    for (const user of users(group)) removePasid(user, pasid, domain);
    group.pasids.delete(pasid);
    group.onChange?.(pasid);
  });
}

const users = (group: IommuGroup): Device[] =>
  group.devices.filter((device) => device.maxPasids > 0);

const isCompatible = (ops: IommuOps, domain: Domain): boolean =>
  domain.owner === ops || domain === ops.blockedDomain || domain === ops.identityDomain;

function store(group: IommuGroup, pasid: number, domain: Domain, handle: AttachHandle): void {
  handle.domain = domain;
  group.pasids.set(pasid, handle);
  group.onChange?.(pasid);
}

/** All devices or none (B3): those done before a refusal go back to the old domain, or to none where there was none. */
function setGroupPasid(
  group: IommuGroup,
  pasid: number,
  domain: Domain,
  old: Domain | undefined,
): number {
  const done: Device[] = [];
  for (const device of users(group)) {
    const rc = setOne(device, pasid, domain, old);
    if (rc === 0) {
      done.push(device);
      continue;
    }
    for (const undo of done) {
      const back = old?.setDevPasid?.(undo, pasid, domain) ?? -Errno.EOPNOTSUPP;
      if (back === 0) continue;
      if (old)
        group.core.warn(
          `${undo.name}: its driver refused PASID ${pasid}'s domain of before (${back})`,
        );
      removePasid(undo, pasid, domain);
    }
    return rc;
  }
  return 0;
}

function setOne(device: Device, pasid: number, domain: Domain, old: Domain | undefined): number {
  const canFault = device.iommu?.ops.canFault?.(device) ?? false;
  if (isFaultCapable(domain) && !canFault) return -Errno.ENODEV; // A3
  if (isFaultCapable(domain) && device.faultHandlers.has(pasid)) return -Errno.EBUSY; // C12
  return domain.setDevPasid?.(device, pasid, old) ?? -Errno.EOPNOTSUPP;
}

function removePasid(device: Device, pasid: number, domain: Domain): void {
  const rc = device.iommu?.ops.blockedDomain?.setDevPasid?.(device, pasid, domain) ?? 0;
  if (rc !== 0) {
    device.group?.core.warn(`${device.name}: its driver refused to block PASID ${pasid} (${rc})`);
  }
}
