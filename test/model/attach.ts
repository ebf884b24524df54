// SPDX-License-Identifier: Apache-2.0
/** Who is attached to what, in the model: attach, detach and replace of the devices of groups. */
import { refuse } from './memory.ts';
import { endHandle, settlePartial } from './faults.ts';
import { type Device, Hwpt, Nested, type Table } from './objects.ts';
import { codeOf } from './maps.ts';
import { Ioas } from './space.ts';
import type { World } from './world.ts';

/** The table of an attach or a replace, and what it takes to make it so. */
interface Change {
  readonly hwpt: Table;
  commit(): void;
}

const fresh = (world: World, space: Ioas, id: number): Hwpt =>
  new Hwpt(id || world.freeId(), space, {
    automatic: true,
    dirty: false,
    huge: false,
    pasid: false,
    nests: false,
  });

/** The driver knows no dirty tracking for a device: it refuses such a domain for the whole group. */
function checkDriver({ group }: Device, hwpt: Table): void {
  for (const { noDirty, vdevice } of group.members) {
    if (hwpt.dirty && noDirty) refuse('EINVAL');
    if (hwpt instanceof Nested && hwpt.viommu && vdevice?.viommu !== hwpt.viommu) refuse('ENOENT');
  }
}

/** Devices learn which virtual IOMMU they are in, and what the guest calls them, when it changes; not when that name does. */
function enter({ group }: Device, table: Table | undefined): void {
  const viommu = table instanceof Nested ? table.viommu : undefined;
  for (const member of group.members) {
    if (member.viommu === viommu) continue;
    member.viommu = viommu;
    member.virtualId = viommu ? (member.vdevice?.virtualId ?? 0n) : 0n;
  }
}

/**
 * A driver that refuses has changed the devices before the one that it refuses for, and changes them back: their faults were off for a
 * moment where the new table has none, and requests of groups that are not complete are forgotten.
 */
function dropPartial({ group }: Device, hwpt: Table): void {
  const refusing = hwpt.dirty ? group.members.findIndex(({ noDirty }) => noDirty) : 0;
  if (hwpt.fault) return;
  for (const member of group.members.slice(0, Math.max(0, refusing))) member.partial = [];
}

function checkReserved(devices: Iterable<Device>, space: Ioas): void {
  for (const { reserved } of devices) for (const range of reserved) space.checkReserve(range);
}

function reserve(device: Device, space: Ioas): void {
  for (const range of device.reserved) space.reserved.push({ ...range, owner: device });
}

/** Beside PASIDs, requests without one need a table that was made for it, and the other way round. */
function checkBesidePasids({ group }: Device, hwpt: Table): void {
  if (group.pasids.size > 0 && !hwpt.pasidCompatible) refuse('EINVAL');
}

/** Faults are a virtual function's only by leave of its physical one: the device that asks is the one that counts. */
function checkFaults(device: Device, hwpt: Table): void {
  if (hwpt.fault && device.sharesFaults) refuse('EINVAL');
}

/** A new attachment is in force; what the one before was asked, and has not answered, is answered now. */
function begin(world: World, device: Device, pasid: number, old?: Table): void {
  const { group } = device;
  const before = group.handles.get(pasid);
  group.handles.set(pasid, { device, pasid });
  if (pasid === 0) enter(device, group.hwpt);
  settlePartial(device);
  if (old) endHandle(world, old, before);
}

function finish(world: World, device: Device, pasid: number, old: Table): void {
  const before = device.group.handles.get(pasid);
  device.group.handles.delete(pasid);
  if (pasid === 0) enter(device, undefined);
  settlePartial(device);
  endHandle(world, old, before);
}

function attachPasidTo(world: World, device: Device, pasid: number, hwpt: Table): Change {
  const { group } = device;
  const devices = group.pasidDevices.get(pasid) ?? new Set();
  if (devices.has(device)) refuse('EBUSY');
  const present = group.pasids.get(pasid);
  if (present && present !== hwpt) refuse('EINVAL');
  if (!present) {
    checkFaults(device, hwpt);
    checkPasid(device, pasid, hwpt);
  }
  const commit = (): void => {
    if (!present) {
      group.pasids.set(pasid, hwpt);
      group.pasidDevices.set(pasid, devices);
      begin(world, device, pasid);
    }
    devices.add(device);
    hwpt.attached++;
  };
  return { hwpt, commit };
}

function replacePasidBy(world: World, device: Device, pasid: number, hwpt: Table): Change {
  const { group } = device;
  const old = group.pasids.get(pasid);
  const devices = group.pasidDevices.get(pasid);
  if (!old || !devices?.has(device)) return refuse('EINVAL');
  if (old === hwpt) return { hwpt, commit: () => undefined };
  checkFaults(device, hwpt);
  checkPasid(device, pasid, hwpt);
  const commit = (): void => {
    group.pasids.set(pasid, hwpt);
    begin(world, device, pasid, old);
    hwpt.attached += devices.size;
    old.attached -= devices.size;
  };
  return { hwpt, commit };
}

/** All devices of the group must have the PASID. */
function checkPasid({ group }: Device, pasid: number, hwpt: Table): void {
  if (!hwpt.pasidCompatible || (group.hwpt && !group.hwpt.pasidCompatible)) refuse('EINVAL');
  if (group.members.some(({ pasids }) => pasid >= pasids)) refuse('EINVAL');
}

function attachTo(world: World, device: Device, hwpt: Table): Change {
  const { group } = device;
  if (device.isAttached) refuse('EBUSY');
  if (group.hwpt && group.hwpt !== hwpt) refuse('EINVAL');
  checkReserved([device], hwpt.space);
  if (!group.hwpt) {
    checkFaults(device, hwpt);
    checkBesidePasids(device, hwpt);
    checkDriver(device, hwpt);
  }
  const commit = (): void => {
    reserve(device, hwpt.space);
    const isFirst = group.hwpt === undefined;
    group.hwpt = hwpt;
    if (isFirst) begin(world, device, 0);
    group.attached.add(device);
    hwpt.attached++;
  };
  return { hwpt, commit };
}

function replaceBy(world: World, device: Device, hwpt: Table): Change {
  const { group } = device;
  const old = group.hwpt;
  if (!old || !device.isAttached) return refuse('EINVAL');
  if (old === hwpt) return { hwpt, commit: () => undefined };
  const moves = old.space !== hwpt.space;
  if (moves) checkReserved(group.attached, hwpt.space);
  checkFaults(device, hwpt);
  checkBesidePasids(device, hwpt);
  dropPartial(device, hwpt);
  checkDriver(device, hwpt);
  const commit = (): void => {
    for (const each of group.attached) {
      if (moves) {
        old.space.unreserve(each);
        reserve(each, hwpt.space);
      }
      old.attached--;
      hwpt.attached++;
    }
    group.hwpt = hwpt;
    begin(world, device, 0, old);
    if (old instanceof Hwpt && old.automatic && old.attached === 0) world.removeHwpt(old);
  };
  return { hwpt, commit };
}

/**
 * What attaching a device to an address space or a table comes to; throws. Of an address space the first automatic table that
 * takes the device is used, else a new one is made, under `id` where that is given.
 */
export function attaching(world: World, device: Device, target: number, id = 0): Change {
  return changing(world, target, id, (hwpt) => attachTo(world, device, hwpt), true);
}

export function replacing(world: World, device: Device, target: number): Change {
  return changing(world, target, 0, (hwpt) => replaceBy(world, device, hwpt), false);
}

/** The same at a PASID; 0 is none. */
export function attachingPasid(
  world: World,
  device: Device,
  pasid: number,
  target: number,
): Change {
  if (pasid === 0) return attaching(world, device, target);
  return changing(world, target, 0, (hwpt) => attachPasidTo(world, device, pasid, hwpt), true);
}

export function replacingPasid(
  world: World,
  device: Device,
  pasid: number,
  target: number,
): Change {
  if (pasid === 0) return replacing(world, device, target);
  return changing(world, target, 0, (hwpt) => replacePasidBy(world, device, pasid, hwpt), false);
}

export function detachPasid(world: World, device: Device, pasid: number): void {
  if (pasid === 0) return detach(world, device);
  const { pasids, pasidDevices } = device.group;
  const hwpt = pasids.get(pasid);
  if (!hwpt || !pasidDevices.get(pasid)?.delete(device)) return;
  hwpt.attached--;
  if (pasidDevices.get(pasid)?.size !== 0) return;
  pasids.delete(pasid);
  pasidDevices.delete(pasid);
  finish(world, device, pasid, hwpt);
}

function changing(
  world: World,
  target: number,
  id: number,
  change: (hwpt: Table) => Change,
  attachFirst: boolean,
): Change {
  const object = world.objects.get(target) ?? refuse('ENOENT');
  if (object instanceof Hwpt || object instanceof Nested) return change(object);
  if (!(object instanceof Ioas)) return refuse('EINVAL');
  for (const hwpt of object.hwpts) {
    if (!hwpt.automatic) continue;
    let made: Change | undefined = undefined;
    const code = codeOf(() => (made = change(hwpt)));
    if (code === 'OK' && made) return made;
    if (code !== 'EINVAL') refuse(code);
  }
  const hwpt = fresh(world, object, id);
  // A new table is attached before it is filled, and filled before it replaces: this decides which errno comes first.
  const attached = attachFirst ? change(hwpt) : undefined;
  const join = world.joining(object, hwpt);
  const changed = attached ?? change(hwpt);
  const commit = (): void => {
    join();
    changed.commit();
  };
  return { hwpt, commit };
}

export function detach(world: World, device: Device): void {
  const { group } = device;
  const { hwpt } = group;
  if (!hwpt || !device.isAttached) return;
  group.attached.delete(device);
  hwpt.attached--;
  if (group.attached.size === 0) {
    group.hwpt = undefined;
    finish(world, device, 0, hwpt);
  }
  hwpt.space.unreserve(device);
  if (hwpt instanceof Hwpt && hwpt.automatic && hwpt.attached === 0) world.removeHwpt(hwpt);
}
