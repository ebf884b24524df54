// SPDX-License-Identifier: Apache-2.0
/** Attaching devices to tables: the group acts as one, reserved regions stay each device's own (device.c). */
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { attach, attachHandleAt, detach, replace } from '../iommu/attach.ts';
import { NO_PASID } from '../iommu/device.ts';
import type { AttachHandle } from '../iommu/handle.ts';
import { ResvType } from '../iommu/reserved.ts';
import { DeviceHandle } from './attach_handle.ts';
import { check } from './check.ts';
import type { IommufdDevice } from './device.ts';
import type { DeviceGroup } from './device_group.ts';
import type { HwPagetable, HwptPaging } from './hw_pagetable.ts';
import type { IoPagetable } from './io_pagetable.ts';
import { locked } from './locks.ts';

/** Keeps the reserved regions of one device out of an address space (B5); all or nothing. */
function enforceReserved(
  table: IoPagetable,
  device: IommufdDevice,
  group: DeviceGroup | undefined,
): void {
  const regions = device.device.group?.core.resvRegions(device.device) ?? [];
  withCleanup((cleanup) => {
    cleanup.defer(() => table.unreserve(device.device));
    let [hardware, software] = [0, 0];
    for (const { type, start, last } of regions) {
      if (type === ResvType.DIRECT_RELAXABLE) continue;
      if (group && type === ResvType.MSI) hardware++;
      if (group && type === ResvType.SW_MSI) {
        group.softwareMsiStart = start;
        software++;
      }
      table.reserve(start, last, device.device);
    }
    if (software > 1 || (software && hardware)) {
      throw new ErrnoError(
        'EINVAL',
        `the driver of ${device.device.name} reports impossible MSI regions`,
      );
    }
  });
}

/** Whether a table can serve beside what is attached at other PASIDs. */
function checkPasidCompatible(hwpt: HwPagetable, device: IommufdDevice, pasid: number): void {
  const { attachments } = device.group;
  if (pasid === NO_PASID) {
    if (hwpt.pasidCompatible || [...attachments.keys()].every((other) => other === NO_PASID))
      return;
    throw new ErrnoError(
      'EINVAL',
      'PASIDs are attached, and the table was made without IOMMU_HWPT_ALLOC_PASID',
    );
  }
  const own = attachments.get(NO_PASID)?.hwpt;
  if (hwpt.pasidCompatible && (!own || own.pasidCompatible)) return;
  const which = hwpt.pasidCompatible ? "the device's own table" : 'the table';
  throw new ErrnoError('EINVAL', `${which} was made without IOMMU_HWPT_ALLOC_PASID`);
}

/**
 * C3: PRI belongs to the physical function, so a failure that ends one virtual function's faults would end those of all. Linux refuses
 * faults on a virtual function for as long as nothing coordinates them, and so do we, unless the machine emulates what is not shared.
 */
function checkFaultsAllowed(hwpt: HwPagetable, { device }: IommufdDevice): void {
  if (!hwpt.fault || !device.sharesPageRequests) return;
  if (device.group?.core.vfPageRequests === 'emulate') return;
  const why = 'shares page requests with its physical function';
  throw new ErrnoError('EINVAL', `${device.name} ${why}: no fault-capable table can be attached`);
}

/** The attachment in force at a PASID of the group. */
function handleOf({ group }: DeviceGroup, pasid: number): AttachHandle | undefined {
  const handle = attachHandleAt(group, pasid);
  return typeof handle === 'number' ? undefined : handle;
}

/** C4, C5: an attachment has ended, and its faults with it, read or not: they are answered before anybody asks. */
function endFaults(hwpt: HwPagetable, ended: AttachHandle | undefined): void {
  if (ended) hwpt.fault?.respondAutomatically(ended);
}

/** The table whose address space must respect the device's reserved regions: requests with a PASID have none. */
const reservingTable = (hwpt: HwPagetable, pasid: number): HwptPaging | undefined =>
  pasid === NO_PASID ? hwpt.paging : undefined;

/** Attaches a device at a PASID (B1: with all branches inside); the first of its group attaches the group. */
export function attachHwpt(hwpt: HwPagetable, device: IommufdDevice, pasid: number): void {
  return locked(device.group.mutex, () => attachHwptLocked(hwpt, device, pasid));
}

function attachHwptLocked(hwpt: HwPagetable, device: IommufdDevice, pasid: number): void {
  const { group } = device;
  const { name } = device.device;
  const present = group.attachments.get(pasid);
  if (present?.devices.has(device)) throw new ErrnoError('EBUSY', `${name} is attached already`);
  if (present && present.hwpt !== hwpt) {
    throw new ErrnoError(
      'EINVAL',
      `the group of ${name} is attached to hardware page table ${present.hwpt.id}`,
    );
  }
  withCleanup((cleanup) => {
    const paging = reservingTable(hwpt, pasid);
    if (paging) {
      enforceReserved(paging.ioas.table, device, group);
      cleanup.defer(() => paging.ioas.table.unreserve(device.device));
    }
    if (!present) {
      checkFaultsAllowed(hwpt, device);
      checkPasidCompatible(hwpt, device, pasid);
      const result = attach(device.device, pasid, hwpt.domain, new DeviceHandle(device));
      check(result, `the driver refused to attach ${name}`);
      group.attachments.set(pasid, { hwpt, devices: new Set() });
    }
    group.attachments.get(pasid)?.devices.add(device);
    hwpt.users++;
  });
}

/** Detaches a device; the last of its group detaches the group. The caller puts the table's reference. */
export function detachHwpt(device: IommufdDevice, pasid: number): HwPagetable | undefined {
  return locked(device.group.mutex, () => detachHwptLocked(device, pasid));
}

function detachHwptLocked(device: IommufdDevice, pasid: number): HwPagetable | undefined {
  const { group } = device;
  const attachment = group.attachments.get(pasid);
  // Another device of the group may be attached there: it stays.
  if (!attachment?.devices.delete(device)) return undefined;
  const { hwpt, devices } = attachment;
  if (devices.size === 0) {
    const ended = handleOf(group, pasid);
    detach(device.device, pasid, hwpt.domain);
    endFaults(hwpt, ended);
    group.attachments.delete(pasid);
  }
  reservingTable(hwpt, pasid)?.ioas.table.unreserve(device.device);
  return hwpt;
}

/**
 * Exchanges the table of a device's group, all or nothing (B3); every attached device follows.
 * @returns the old table with one reference for the caller to put, or undefined where it is the same
 */
export function replaceHwpt(
  hwpt: HwPagetable,
  device: IommufdDevice,
  pasid: number,
): HwPagetable | undefined {
  return locked(device.group.mutex, () => replaceHwptLocked(hwpt, device, pasid));
}

function replaceHwptLocked(
  hwpt: HwPagetable,
  device: IommufdDevice,
  pasid: number,
): HwPagetable | undefined {
  const { group } = device;
  const attachment = group.attachments.get(pasid);
  if (!attachment?.devices.has(device)) {
    throw new ErrnoError(
      'EINVAL',
      `${device.device.name} is not attached: there is nothing to replace`,
    );
  }
  const old = attachment.hwpt;
  if (old === hwpt) return undefined;
  const to = reservingTable(hwpt, pasid);
  const from = reservingTable(old, pasid);
  const moves = to?.ioas !== from?.ioas;
  const ended = handleOf(group, pasid);
  withCleanup((cleanup) => {
    if (to && moves) {
      for (const each of attachment.devices) {
        enforceReserved(to.ioas.table, each, undefined);
        cleanup.defer(() => to.ioas.table.unreserve(each.device));
      }
    }
    checkFaultsAllowed(hwpt, device);
    checkPasidCompatible(hwpt, device, pasid);
    const result = replace(device.device, pasid, hwpt.domain, new DeviceHandle(device));
    check(result, `the driver refused to replace the table of ${device.device.name}`);
  });
  endFaults(old, ended);
  if (from && moves) for (const each of attachment.devices) from.ioas.table.unreserve(each.device);
  attachment.hwpt = hwpt;
  hwpt.users += attachment.devices.size;
  old.users -= attachment.devices.size - 1;
  return old;
}
