// SPDX-License-Identifier: Apache-2.0
/** Who is attached to what, in the model: attach, detach and replace of the devices of groups. */
import { endFaults } from './faults.ts';
import { refuse } from './memory.ts';
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
function checkDriver(device: Device, hwpt: Table): void {
  if (hwpt.dirty && device.group.members.some(({ noDirty }) => noDirty)) refuse('EINVAL');
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

function attachPasidTo(device: Device, pasid: number, hwpt: Table): Change {
  const { group } = device;
  if (group.pasids.has(pasid)) refuse('EBUSY');
  checkPasid(device, pasid, hwpt);
  const commit = (): void => {
    group.pasids.set(pasid, hwpt);
    group.attachedAs.set(pasid, device.id);
    hwpt.attached++;
  };
  return { hwpt, commit };
}

function replacePasidBy(world: World, device: Device, pasid: number, hwpt: Table): Change {
  const { group } = device;
  const old = group.pasids.get(pasid) ?? refuse('EINVAL');
  if (old === hwpt) return { hwpt, commit: () => undefined };
  checkPasid(device, pasid, hwpt);
  const commit = (): void => {
    endFaults(world, old, group, pasid);
    group.pasids.set(pasid, hwpt);
    group.attachedAs.set(pasid, device.id);
    hwpt.attached++;
    old.attached--;
  };
  return { hwpt, commit };
}

function checkPasid({ group, pasids }: Device, pasid: number, hwpt: Table): void {
  if (!hwpt.pasidCompatible || (group.hwpt && !group.hwpt.pasidCompatible)) refuse('EINVAL');
  if (pasid >= pasids) refuse('EINVAL');
}

function attachTo(device: Device, hwpt: Table): Change {
  const { group } = device;
  if (device.isAttached) refuse('EBUSY');
  if (group.hwpt && group.hwpt !== hwpt) refuse('EINVAL');
  checkReserved([device], hwpt.space);
  if (!group.hwpt) {
    checkBesidePasids(device, hwpt);
    checkDriver(device, hwpt);
  }
  const commit = (): void => {
    reserve(device, hwpt.space);
    if (!group.hwpt) group.attachedAs.set(0, device.id);
    group.hwpt = hwpt;
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
  checkBesidePasids(device, hwpt);
  checkDriver(device, hwpt);
  const commit = (): void => {
    endFaults(world, old, group, 0);
    group.attachedAs.set(0, device.id);
    for (const each of group.attached) {
      if (moves) {
        old.space.unreserve(each);
        reserve(each, hwpt.space);
      }
      old.attached--;
      hwpt.attached++;
    }
    group.hwpt = hwpt;
    if (old instanceof Hwpt && old.automatic && old.attached === 0) world.removeHwpt(old);
  };
  return { hwpt, commit };
}

/**
 * What attaching a device to an address space or a table comes to; throws. Of an address space the first automatic table that
 * takes the device is used, else a new one is made, under `id` where that is given.
 */
export function attaching(world: World, device: Device, target: number, id = 0): Change {
  return changing(world, target, id, (hwpt) => attachTo(device, hwpt), true);
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
  return changing(world, target, 0, (hwpt) => attachPasidTo(device, pasid, hwpt), true);
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
  const hwpt = device.group.pasids.get(pasid);
  if (!hwpt) return;
  endFaults(world, hwpt, device.group, pasid);
  device.group.pasids.delete(pasid);
  hwpt.attached--;
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
    endFaults(world, hwpt, group, 0);
    group.hwpt = undefined;
  }
  hwpt.space.unreserve(device);
  if (hwpt instanceof Hwpt && hwpt.automatic && hwpt.attached === 0) world.removeHwpt(hwpt);
}
