// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { lockClass, Mutex } from '../sim/lock.ts';
import type { IommuCore } from './core.ts';
import { type Device, NO_PASID } from './device.ts';
import { type Domain, DomainType } from './domain.ts';
import { AttachHandle } from './handle.ts';
import { mergeResvRegions, type ResvRegion } from './reserved.ts';

/** Taken under iommufd's locks (`igroup->lock`), before any lock of a driver. */
export const GROUP_LOCK = lockClass('iommu_group.mutex', 500);

/** How a domain is put in force for a group. */
export interface SetDomainOptions {
  /** There is no way back: every device is tried, and one that refuses is blocked if it can be. */
  readonly mustSucceed?: boolean;
}

/**
 * Devices that the IOMMU cannot tell apart, or that could reach each other behind its back: they share the domain of
 * their requests without PASID, and they have one owner. Each PASID has a slot of its own in the group (B10: of each of its
 * devices; a group never shares its table with another). Counterpart of `struct iommu_group`.
 */
export class IommuGroup {
  readonly id: number;
  readonly core: IommuCore;
  readonly mutex: Mutex;
  readonly devices: Device[] = [];
  /** The domain in force; undefined only before the first device is ready. */
  domain: Domain | undefined = undefined;
  /** In force while nobody owns the group. */
  defaultDomain: Domain | undefined = undefined;
  /** In force while it is owned and nothing is attached. */
  blockingDomain: Domain | undefined = undefined;
  /** Who may attach: any value, compared by identity; undefined exactly while `ownerCount` is 0. */
  owner: unknown = undefined;
  ownerCount = 0;
  /** Told when another domain is in force: nothing of the one before is used any more. `pasid` 0: of requests without one. */
  onChange: ((pasid: number) => void) | undefined = undefined;
  /** What is attached at each PASID; at 0 (no PASID) only where it was attached with a handle. */
  readonly pasids = new Map<number, AttachHandle | Domain>();

  constructor(id: number, core: IommuCore) {
    this.id = id;
    this.core = core;
    this.mutex = new Mutex(core.sim, GROUP_LOCK);
  }

  /** The domain at a PASID slot. */
  domainAt(pasid: number): Domain | undefined {
    const entry = this.pasids.get(pasid);
    return entry instanceof AttachHandle ? entry.domain : entry;
  }

  /** All devices agree that their interrupts cannot be forged (B6). */
  hasIsolatedMsi(): boolean {
    return this.devices.every((device) => device.isolatedMsi);
  }

  /** What sysfs shows for the group; the regions that bind are those of each device (B5). */
  resvRegions(): ResvRegion[] {
    return mergeResvRegions(this.devices.flatMap((device) => this.core.resvRegions(device)));
  }

  /**
   * Puts a domain in force for all devices. 0, or the errno of the first that refused, after those before it have been put
   * back (B3). The lock of the group is held. Counterpart of `__iommu_group_set_domain_internal()`.
   */
  setDomain(domain: Domain, options: SetDomainOptions = {}): number {
    if (this.domain === domain) return 0;
    let result = 0;
    for (const [index, device] of this.devices.entries()) {
      const rc = this.setDeviceDomain(device, domain, this.domain, options);
      if (rc === 0) continue;
      result = rc;
      if (options.mustSucceed) continue;
      this.revert(index, domain);
      return rc;
    }
    this.domain = domain;
    this.onChange?.(NO_PASID);
    return result;
  }

  /** One device's part of `setDomain`, also for a device that joins a group in use. */
  setDeviceDomain(
    device: Device,
    domain: Domain,
    old: Domain | undefined,
    options: SetDomainOptions = {},
  ): number {
    const blocks = domain.type === DomainType.BLOCKED || domain === this.blockingDomain;
    if (device.requireDirect && blocks) return -Errno.EINVAL;
    const rc = domain.attachDev(device, old);
    if (rc !== 0 && options.mustSucceed && this.blockingDomain && this.blockingDomain !== domain) {
      this.blockingDomain.attachDev(device, old);
    }
    return rc;
  }

  /** Back to the domain that belongs to the state of ownership; it cannot fail, a driver that refuses is reported. */
  setCoreDomain(): void {
    const domain = this.owner === undefined ? this.defaultDomain : this.blockingDomain;
    if (!domain) return;
    const rc = this.setDomain(domain, { mustSucceed: true });
    if (rc !== 0)
      this.core.warn(`group ${this.id}: its driver refused the core's own domain (${rc})`);
  }

  private revert(count: number, refused: Domain): void {
    const { domain } = this;
    if (!domain) return;
    for (const device of this.devices.slice(0, count)) {
      const rc = this.setDeviceDomain(device, domain, refused, { mustSucceed: true });
      if (rc !== 0) {
        this.core.warn(`${device.name}: its driver refused the domain it had before (${rc})`);
      }
    }
  }
}
