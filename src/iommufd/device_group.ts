// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import type { Device } from '../iommu/device.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { Faults } from '../sim/faults.ts';
import { Mutex } from '../sim/lock.ts';
import type { IommufdDevice } from './device.ts';
import type { HwPagetable } from './hw_pagetable.ts';
import { IGROUP_LOCK } from './locks.ts';

/** What is attached at one PASID of a group: one table, by one or several of its devices (struct iommufd_attach). */
export interface Attachment {
  hwpt: HwPagetable;
  readonly devices: Set<IommufdDevice>;
}

/**
 * What one context keeps of a group (struct iommufd_group): attachments by PASID, and where the group's software MSI window
 * begins. It lives while the context has a device of the group bound.
 */
export class DeviceGroup {
  readonly group: IommuGroup;
  readonly attachments = new Map<number, Attachment>();
  /** Its devices that are bound, attached or not (B2). */
  readonly bound = new Set<IommufdDevice>();
  /** Start of the window for software MSI; undefined while no device has told. Set once a group (B6). */
  softwareMsiStart: bigint | undefined = undefined;
  references = 1;
  /** Guards the attachments. */
  readonly mutex: Mutex;

  constructor(group: IommuGroup) {
    this.group = group;
    this.mutex = new Mutex(group.core.sim, IGROUP_LOCK);
  }
}

/** The groups of one context. */
export class DeviceGroups {
  private readonly groups = new Map<IommuGroup, DeviceGroup>();
  private readonly faults: Faults;

  constructor(faults: Faults) {
    this.faults = faults;
  }

  get(device: Device): DeviceGroup {
    if (!device.group) throw new ErrnoError('ENODEV', `${device.name} is in no group`);
    const known = this.groups.get(device.group);
    if (known) {
      known.references++;
      return known;
    }
    if (this.faults.point('alloc')) throw new ErrnoError('ENOMEM', 'no memory for the group');
    const made = new DeviceGroup(device.group);
    this.groups.set(device.group, made);
    return made;
  }

  put(group: DeviceGroup): void {
    if (--group.references > 0) return;
    if (group.attachments.size)
      throw new Error(`group ${group.group.id} is let go of with attachments left`);
    this.groups.delete(group.group);
  }
}
