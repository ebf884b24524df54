// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { CacheTags } from './cache_tags.ts';
import type { DeviceInfo } from './device_info.ts';
import type { DevicePasid } from './device_pasid.ts';
import type { Translation } from './translation.ts';
import type { Unit } from './unit.ts';

/** What a device, or one of its PASIDs, can be attached to: any domain but the blocked one. */
export interface Attachable {
  /** 0, or why this domain and this device's unit do not fit. */
  accepts(at: DevicePasid): number;
  /** Takes what an attachment needs: 0, -ENOMEM or -ENOSPC (no domain id is left), and nothing has been taken. */
  acquire(at: DevicePasid): number;
  release(at: DevicePasid): void;
  /** What the table entry has to say; or a negative errno. */
  translationOn(at: DevicePasid): Translation | number;
  /** The device's page requests in it go to a handler, so that they have to be on (C1). */
  takesFaultsOf(info: DeviceInfo): boolean;
}

/**
 * Puts a domain in force for a device, or with undefined blocks it, instead of what was attached. 0, or a negative errno with everything
 * as before. What leads to the new domain's caches is known before the hardware can fill them, and to the old one's until they are empty.
 * Page requests are on before the new domain can have any, and off when none of the old one's is left anywhere (C1, C4, C5).
 */
export function attachDomain(at: DevicePasid, next: Attachable | undefined): number {
  const { info, attached: before } = at;
  const translation = next ? acquire(at, next) : undefined;
  if (typeof translation === 'number') return translation;
  const takesFaults = next?.takesFaultsOf(info) ?? false;
  let rc = takesFaults ? info.enableFaults() : 0;
  if (rc === 0) {
    // Blocking takes back what a user had: it does not fail.
    rc = at.slot.set(translation, next === undefined);
    if (rc !== 0 && takesFaults) info.disableFaults();
  }
  if (rc !== 0) {
    next?.release(at);
    return rc;
  }
  at.attached = next;
  info.updateAts();
  if (before) info.drainFaults(at.pasid);
  if (before?.takesFaultsOf(info)) info.disableFaults();
  before?.release(at);
  return 0;
}

/** The same for one PASID of a device; or -EOPNOTSUPP (device or unit has none), -ENODEV (none of the driver's). Blocking does not fail. */
export function attachPasidDomain(
  info: DeviceInfo | undefined,
  pasid: number,
  next: Attachable | undefined,
): number {
  if (!info) return -Errno.ENODEV;
  const at = next ? info.at(pasid) : (info.pasids.get(pasid) ?? 0);
  if (typeof at === 'number') return at;
  const rc = attachDomain(at, next);
  info.forget(at);
  return rc;
}

function acquire(at: DevicePasid, next: Attachable): Translation | number {
  const refused = next.accepts(at);
  if (refused !== 0) return refused;
  const rc = next.acquire(at);
  if (rc !== 0) return rc;
  const translation = next.translationOn(at);
  if (typeof translation === 'number') next.release(at);
  return translation;
}

interface DomainId {
  readonly did: number;
  users: number;
}

/** Where a domain is attached: its id on each unit, the devices and their PASIDs, and where it is cached. */
export class Attachments {
  readonly tags: CacheTags;
  /** With how often: the same device can be on its way from this domain to itself. */
  readonly devices = new Map<DevicePasid, number>();
  readonly #dids = new Map<Unit, DomainId>();
  /** Of the domain that this one is nested on. */
  readonly #parentTags: CacheTags | undefined;

  /** The one id that it has everywhere, and shares. */
  readonly #sharedDid: number | undefined;

  constructor(isByPasid: boolean, parentTags?: CacheTags, sharedDid?: number) {
    this.tags = new CacheTags(isByPasid);
    this.#parentTags = parentTags;
    this.#sharedDid = sharedDid;
  }

  /** Its id on a unit that it is attached through. */
  didOn(unit: Unit): number {
    if (this.#sharedDid !== undefined) return this.#sharedDid;
    const found = this.#dids.get(unit);
    if (!found)
      throw new Error(`a domain that is not attached through ${unit.name} has no id there`);
    return found.did;
  }

  acquire(at: DevicePasid): number {
    const { unit } = at.info;
    let rc = this.#takeDid(unit);
    if (rc !== 0) return rc;
    const did = this.didOn(unit);
    rc = this.tags.assign(at, did);
    if (rc === 0 && this.#parentTags) {
      rc = this.#parentTags.assign(at, did, true);
      if (rc !== 0) this.tags.unassign(at, did);
    }
    if (rc !== 0) {
      this.#dropDid(unit);
      return rc;
    }
    this.devices.set(at, (this.devices.get(at) ?? 0) + 1);
    return 0;
  }

  release(at: DevicePasid): void {
    const { unit } = at.info;
    const did = this.didOn(unit);
    this.tags.unassign(at, did);
    this.#parentTags?.unassign(at, did, true);
    const left = (this.devices.get(at) ?? 0) - 1;
    if (left > 0) this.devices.set(at, left);
    else this.devices.delete(at);
    this.#dropDid(unit);
  }

  #takeDid(unit: Unit): number {
    if (this.#sharedDid !== undefined) return 0;
    const known = this.#dids.get(unit);
    if (known) {
      known.users++;
      return 0;
    }
    if (unit.allocFails()) return -Errno.ENOMEM;
    const did = unit.dids.take();
    if (did < 0) return -Errno.ENOSPC;
    this.#dids.set(unit, { did, users: 1 });
    return 0;
  }

  #dropDid(unit: Unit): void {
    const known = this.#dids.get(unit);
    if (!known || --known.users > 0) return;
    this.#dids.delete(unit);
    unit.dids.give(known.did);
  }
}
