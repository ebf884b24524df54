// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { NO_PASID } from '../../iommu/device.ts';
import { type CacheKind, type CacheTag, CacheTags } from './cache_tags.ts';
import type { DeviceInfo } from './device_info.ts';
import type { Translation } from './translation.ts';
import type { Unit } from './unit.ts';

/** What a device can be attached to: any domain but the blocked one. */
export interface Attachable {
  /** 0, or why this domain and this device's unit do not fit. */
  accepts(info: DeviceInfo): number;
  /** Takes what an attachment needs: 0, -ENOMEM or -ENOSPC (no domain id is left), and nothing has been taken. */
  acquire(info: DeviceInfo): number;
  release(info: DeviceInfo): void;
  /** What the device's entry has to say; or a negative errno. */
  translationOn(info: DeviceInfo): Translation | number;
}

/**
 * Puts a domain in force for a device, or with undefined blocks it, instead of what was attached. 0, or a negative errno with everything
 * as before. What leads to the new domain's caches is known before the hardware can fill them, and to the old one's until they are empty.
 */
export function attachDomain(info: DeviceInfo, next: Attachable | undefined): number {
  const translation = next ? acquire(info, next) : undefined;
  if (typeof translation === 'number') return translation;
  // Blocking takes back what a user had: it does not fail.
  const rc = info.slot.set(translation, next === undefined);
  if (rc !== 0) {
    next?.release(info);
    return rc;
  }
  const before = info.attached;
  info.attached = next;
  before?.release(info);
  return 0;
}

function acquire(info: DeviceInfo, next: Attachable): Translation | number {
  const refused = next.accepts(info);
  if (refused !== 0) return refused;
  const rc = next.acquire(info);
  if (rc !== 0) return rc;
  const translation = next.translationOn(info);
  if (typeof translation === 'number') next.release(info);
  return translation;
}

interface DomainId {
  readonly did: number;
  users: number;
}

/** Where a domain is attached: its id on each unit, the devices, and where it is cached. */
export class Attachments {
  readonly tags: CacheTags;
  /** Devices, with how often: the same device can be on its way from this domain to itself. */
  readonly devices = new Map<DeviceInfo, number>();
  readonly #dids = new Map<Unit, DomainId>();
  /** Of the domain that this one is nested on. */
  readonly #parentTags: CacheTags | undefined;

  constructor(isByPasid: boolean, parentTags?: CacheTags) {
    this.tags = new CacheTags(isByPasid);
    this.#parentTags = parentTags;
  }

  /** Its id on a unit that it is attached through. */
  didOn(unit: Unit): number {
    const found = this.#dids.get(unit);
    if (!found)
      throw new Error(`a domain that is not attached through ${unit.name} has no id there`);
    return found.did;
  }

  acquire(info: DeviceInfo): number {
    const { unit } = info;
    const known = this.#dids.get(unit);
    if (known) known.users++;
    else {
      if (unit.allocFails()) return -Errno.ENOMEM;
      const did = unit.dids.take();
      if (did < 0) return -Errno.ENOSPC;
      this.#dids.set(unit, { did, users: 1 });
    }
    const assigned: [CacheTags, Omit<CacheTag, 'users'>][] = [];
    for (const [tags, tag] of this.#tagsOf(info)) {
      const rc = tags.assign(tag);
      if (rc === 0) {
        assigned.push([tags, tag]);
        continue;
      }
      for (const [done, was] of assigned) done.unassign(was);
      this.#dropDid(unit);
      return rc;
    }
    this.devices.set(info, (this.devices.get(info) ?? 0) + 1);
    return 0;
  }

  release(info: DeviceInfo): void {
    for (const [tags, tag] of this.#tagsOf(info)) tags.unassign(tag);
    const left = (this.devices.get(info) ?? 0) - 1;
    if (left > 0) this.devices.set(info, left);
    else this.devices.delete(info);
    this.#dropDid(info.unit);
  }

  *#tagsOf(info: DeviceInfo): Generator<[CacheTags, Omit<CacheTag, 'users'>]> {
    const { unit, ats } = info;
    const did = this.didOn(unit);
    const tag = (kind: CacheKind, device?: DeviceInfo): Omit<CacheTag, 'users'> => {
      return { kind, unit, did, pasid: NO_PASID, device };
    };
    yield [this.tags, tag('iotlb')];
    if (ats) yield [this.tags, tag('device', info)];
    if (!this.#parentTags) return;
    yield [this.#parentTags, tag('nesting iotlb')];
    if (ats) yield [this.#parentTags, tag('nesting device', info)];
  }

  #dropDid(unit: Unit): void {
    const known = this.#dids.get(unit);
    if (!known || --known.users > 0) return;
    this.#dids.delete(unit);
    unit.dids.give(known.did);
  }
}
