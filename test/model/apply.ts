// SPDX-License-Identifier: Apache-2.0
/** One step in the model: what it answers and what it changes. */
import { checkJoin } from './accesses.ts';
import {
  attaching,
  attachingPasid,
  detach,
  detachPasid,
  replacing,
  replacingPasid,
} from './attach.ts';
import { performClient } from './apply_client.ts';
import { performDevice } from './apply_device.ts';
import type { By, Step } from './commands.ts';
import { markDirty, readDirty, trackDirty } from './dirty.ts';
import { checkMapFlags, isWriting, makeSource, mapSlices, slicesOf, unmap } from './maps.ts';
import { PAGE, refuse, Refused } from './memory.ts';
import type { Outcome } from './outcome.ts';
import {
  FaultQueue,
  queueAlloc,
  readFaults,
  report,
  triggerFault,
  writeAnswers,
} from './faults.ts';
import {
  buryVdevice,
  checkDeviceCache,
  dropVdevice,
  mapShared,
  unmapShared,
  vdeviceAlloc,
  viommuAlloc,
} from './guests.ts';
import { EventQueue, eventQueueAlloc, readEvents, triggerEvent } from './events.ts';
import { dropHwQueue, HwQueue, hwQueueAlloc } from './hw_queues.ts';
import { checkCache, invalidate, nestedAlloc } from './nested.ts';
import { Access, Device, Group, Hwpt, Mock, Nested, Vdevice, Viommu } from './objects.ts';
import { performVfio } from './vfio.ts';
import { Ioas, LAST, meets, type Source } from './space.ts';
import type { World } from './world.ts';

const PAGE_N = BigInt(PAGE);
const DEVICE_FLAGS = 1 | 4;
const DIRTY = 2;
const FAULTS = 4;
const HWPT_FLAGS = 1 | DIRTY | FAULTS | 8;
const NO_DIRTY = 1;
const PASIDS = 4;
const FOR_PASIDS = 8;
const NESTS = 1;
/** What poll answers: readable (POLLIN and POLLRDNORM) or not, and writable. */
const OUT = 4;
const IN = 0x41;

/** Makes a resolved step. */
export function apply(world: World, step: Step): Outcome {
  try {
    return { code: 'OK', out: (step.forked ? inChild(world, step) : perform(world, step)) ?? {} };
  } catch (error) {
    if (error instanceof Refused) return { code: error.code, out: error.out };
    throw error;
  }
}

/** The call of a child, which exits. */
function inChild(world: World, step: Step): Outcome['out'] | void {
  const by = 'by' in step ? step.by : 0;
  const parent = world.processes[by];
  const mm = parent.mm.fork();
  world.processes[by] = { ...parent, mm };
  try {
    return perform(world, step);
  } finally {
    world.processes[by] = parent;
    mm.end(false);
  }
}

/** The answer can not be written: what is not undone stays done. */
function respond(step: Step): void {
  if (step.readOnly) refuse('EFAULT');
}

function perform(world: World, step: Step): Outcome['out'] | void {
  switch (step.op) {
    case 'ioas_alloc': {
      respond(step);
      const id = world.freeId();
      world.objects.set(id, new Ioas(id));
      return { id };
    }
    case 'destroy':
      return destroy(world, step.id);
    case 'map': {
      checkMapFlags(step.flags, step.iova, step.length);
      const space = world.get(step.ioas, 'IOAS');
      if (step.va + step.length > LAST) refuse('EOVERFLOW');
      const { mm } = world.processes[step.by];
      const from = { kind: 'user', mm, page: Number(step.va / PAGE_N) } as const;
      const source = makeSource(world, step.by, from, step.length, isWriting(step.flags));
      const slice = { source, startByte: Number(step.va % PAGE_N), length: step.length };
      const iova = mapSlices(world, space, [slice], step);
      respond(step);
      return { iova };
    }
    case 'map_file':
      return mapFile(world, step);
    case 'copy': {
      checkMapFlags(step.flags, step.length, step.from, step.iova);
      const slices = slicesOf(world.get(step.source, 'IOAS'), step.from, step.length);
      const iova = mapSlices(world, world.get(step.ioas, 'IOAS'), slices, step);
      respond(step);
      return { iova };
    }
    case 'unmap': {
      const space = world.get(step.ioas, 'IOAS');
      const everything = step.iova === 0n && step.length === LAST;
      if (!everything && (step.iova === LAST || step.length === LAST)) refuse('EOVERFLOW');
      if (step.length === 0n) refuse('EINVAL');
      const last = everything ? LAST : step.iova + step.length - 1n;
      if (last > LAST) refuse('EOVERFLOW');
      const { bytes, code } = unmap(world, space, { start: step.iova, last });
      if (code !== 'OK') refuse(code);
      if (!everything && bytes === 0n) refuse('ENOENT');
      respond(step);
      return { length: bytes };
    }
    case 'allow': {
      const space = world.get(step.ioas, 'IOAS');
      const ranges = step.ranges.map(([start, last]) => ({ start, last }));
      for (const [index, range] of ranges.entries()) {
        if (range.start >= range.last) refuse('EINVAL');
        if (ranges.slice(0, index).some((other) => meets(other, range))) refuse('EINVAL');
      }
      if (ranges.some((range) => space.reserved.some((reserved) => meets(reserved, range))))
        refuse('EADDRINUSE');
      space.allowed = ranges;
      return;
    }
    case 'ranges': {
      const space = world.get(step.ioas, 'IOAS');
      respond(step);
      const ranges = space.ranges();
      if (ranges.length > step.room) refuse('EMSGSIZE');
      const text = ranges.map(({ start, last }) => `${start}-${last}`).join(' ');
      return { count: ranges.length, alignment: space.alignment, ranges: text };
    }
    case 'huge_pages': {
      const space = world.get(step.ioas, 'IOAS');
      if (step.value === undefined) {
        respond(step);
        return { value: space.noLargePages ? 0n : 1n };
      }
      setLargePages(space, step.value);
      return respond(step);
    }
    case 'rlimit_mode':
      if (step.value === undefined) {
        respond(step);
        return { value: world.mode === 'mm' ? 1n : 0n };
      }
      if (world.objects.size > 0) refuse('EBUSY');
      if (step.value > 1n) refuse('EINVAL');
      world.mode = step.value === 1n ? 'mm' : 'user';
      return respond(step);
    case 'mock': {
      if (step.flags & ~DEVICE_FLAGS) refuse('EINVAL');
      const [mockId = 0, deviceId = 0, hwptId = 0] = world.freeIds(3);
      const device = new Device(new Group(), {
        noDirty: (step.flags & NO_DIRTY) !== 0,
        pasids: step.flags & PASIDS ? 2 ** 20 : 1,
      });
      if (step.pt === deviceId) refuse('EINVAL'); // the device is bound, and has this id, before it is attached
      const { hwpt, commit } = attaching(world, device, step.pt, hwptId);
      respond(step);
      device.id = deviceId;
      world.objects.set(mockId, new Mock(mockId, device));
      world.objects.set(deviceId, device);
      commit();
      return { stdev: mockId, idev: deviceId, hwpt: hwpt.id };
    }
    case 'mock_replace': {
      const { hwpt, commit } = replacing(world, world.get(step.mock, 'SELFTEST').device, step.pt);
      commit();
      respond(step);
      return { hwpt: hwpt.id };
    }
    case 'pasid_attach':
    case 'pasid_replace': {
      const { device } = world.get(step.mock, 'SELFTEST');
      const change = step.op === 'pasid_attach' ? attachingPasid : replacingPasid;
      const { hwpt, commit } = change(world, device, step.pasid, step.pt);
      if (step.op === 'pasid_attach') respond(step); // else it stays done
      commit();
      respond(step);
      return { hwpt: hwpt.id };
    }
    case 'pasid_detach':
      return detachPasid(world, world.get(step.mock, 'SELFTEST').device, step.pasid);
    case 'pasid_check': {
      const { group } = world.get(step.mock, 'SELFTEST').device;
      if (step.pt !== 0 && !world.objects.has(step.pt)) refuse('ENOENT');
      const hwpt = step.pasid === 0 ? group.hwpt : group.pasids.get(step.pasid);
      if ((hwpt?.id ?? 0) !== step.pt) refuse('EINVAL');
      return;
    }
    case 'hwpt_alloc':
      return hwptAlloc(world, step);
    case 'nested_alloc':
      return nestedAlloc(world, step, () => respond(step));
    case 'viommu_alloc':
      return viommuAlloc(world, step, () => respond(step));
    case 'veventq_alloc':
      return eventQueueAlloc(world, step);
    case 'trigger_vevent':
      return triggerEvent(world, step);
    case 'hw_queue_alloc':
      return hwQueueAlloc(world, step);
    case 'check_cache':
      return checkDeviceCache(world, step);
    case 'shared_map':
      return mapShared(world, step);
    case 'shared_unmap':
      return unmapShared(world, step);
    case 'vdevice_alloc':
      return vdeviceAlloc(world, step, () => respond(step));
    case 'invalidate':
    case 'invalidate_devices':
      return invalidate(world, step);
    case 'check_iotlb':
      return checkCache(world, step);
    case 'add_reserved': {
      if (step.length === 0n) refuse('EINVAL');
      const range = { start: step.start, last: step.start + step.length - 1n };
      if (range.last > LAST) refuse('EOVERFLOW');
      const space = world.get(step.ioas, 'IOAS');
      space.checkReserve(range);
      space.reserved.push({ ...range, owner: undefined });
      return;
    }
    case 'dirty_track':
      return trackDirty(world, step);
    case 'dirty_mark':
      return markDirty(world, step);
    case 'dirty_read':
      return readDirty(world, step);
    case 'vfio_ioas':
    case 'vfio_api':
    case 'vfio_extension':
    case 'vfio_set':
    case 'vfio_info':
    case 'vfio_map':
    case 'vfio_unmap':
      return performVfio(world, step);
    case 'fault_alloc':
      return queueAlloc(world, step);
    case 'trigger_iopf':
      return triggerFault(world, step);
    case 'page_request':
      return report(world, world.get(step.device, 'DEVICE'), step, step.failing);
    case 'queue_read':
      return readQueue(world, step);
    case 'queue_write':
      return writeQueue(world, step);
    case 'queue_poll': {
      const queue = queueAt(world, step);
      const readable = queue.deliver.length > 0 ? IN : 0;
      return { events: readable | (queue instanceof FaultQueue ? OUT : 0) };
    }
    case 'device_add': {
      const groups = world.groups;
      const old = groups[step.group];
      if (old?.hwpt?.dirty && step.noDirty) refuse('EINVAL');
      const group = old && old.members.length > 0 ? old : (groups[step.group] = new Group());
      const ranges = step.reserved.map(([start, last]) => ({ start, last }));
      const { noDirty, sharesFaults } = step;
      const pasids = step.pasids ? 2 ** 20 : 1;
      world.devices.push(new Device(group, { noDirty, reserved: ranges, sharesFaults, pasids }));
      return;
    }
    case 'device_remove':
    case 'device_bind':
    case 'device_unbind':
    case 'device_attach':
    case 'device_replace':
    case 'device_detach':
      return performDevice(world, step);
    default:
      return performClient(world, step, () => respond(step));
  }
}

function queueAt(world: World, { by, fd }: { by: By; fd: number }): FaultQueue | EventQueue {
  const open = world.processes[by].fds.get(fd);
  return open instanceof FaultQueue || open instanceof EventQueue ? open : refuse('SKIP');
}

function readQueue(world: World, step: Step & { op: 'queue_read' }): Outcome['out'] {
  const queue = queueAt(world, step);
  return queue instanceof EventQueue ? readEvents(queue, step) : readFaults(queue, step);
}

function writeQueue(world: World, step: Step & { op: 'queue_write' }): Outcome['out'] {
  const queue = queueAt(world, step);
  return queue instanceof EventQueue ? refuse('EINVAL') : writeAnswers(world, queue, step);
}

function destroy(world: World, id: number): void {
  const object = world.objects.get(id) ?? refuse('ENOENT');
  if (object.users !== 1) refuse('EBUSY');
  if (object instanceof Mock) {
    detach(world, object.device);
    for (const pasid of object.device.ownPasids) detachPasid(world, object.device, pasid);
    buryVdevice(world, object.device);
    world.objects.delete(object.device.id);
  }
  if (object instanceof Hwpt) world.removeHwpt(object);
  if ((object instanceof Hwpt || object instanceof Nested) && object.fault) object.fault.tables--;
  if (object instanceof Nested) (object.viommu ?? object.parent).nested--;
  if (object instanceof Viommu) object.parent.nested--;
  if (object instanceof EventQueue)
    object.viommu.eventQueues.splice(object.viommu.eventQueues.indexOf(object), 1);
  if (object instanceof HwQueue) dropHwQueue(world, object);
  if (object instanceof Vdevice) dropVdevice(object);
  if (object instanceof Ioas) unmap(world, object, { start: 0n, last: LAST });
  world.objects.delete(id);
}

function mapFile(world: World, step: Step & { op: 'map_file' }): Outcome['out'] {
  checkMapFlags(step.flags, step.iova, step.length);
  const space = world.get(step.ioas, 'IOAS');
  const { start, length } = step;
  if (length === 0n) refuse('EINVAL');
  if (start + length - 1n > LAST) refuse('EOVERFLOW');
  const open = world.processes[step.by].fds.get(step.fd) ?? refuse('EBADF');
  const page = Number(start / PAGE_N);
  let from: Source['from'] = { kind: 'file', file: undefined, page };
  if (!(open instanceof Access)) {
    if (open.kind === 'file') from = { kind: 'file', file: open, page };
    if (open.kind === 'dmabuf') {
      if (start + length > BigInt(open.pages.length * PAGE)) refuse('EINVAL');
      if (open.revoked) refuse('ENODEV');
      from = { kind: 'dmabuf', buffer: open, page };
    }
  }
  const startByte = Number(start % PAGE_N);
  const source = makeSource(world, step.by, from, length, isWriting(step.flags));
  const iova = mapSlices(world, space, [{ source, startByte, length }], step);
  respond(step);
  return { iova };
}

function setLargePages(space: Ioas, value: bigint): void {
  if (value > 1n) refuse('EINVAL');
  const enabled = value === 1n;
  if (enabled !== space.noLargePages) return;
  if (!enabled) {
    if (space.filled && space.areas.length > 0) refuse('EINVAL');
    checkJoin(space, true);
  }
  space.noLargePages = !enabled;
}

function hwptAlloc(world: World, step: Step & { op: 'hwpt_alloc' }): Outcome['out'] {
  const device = world.get(step.device, 'DEVICE');
  const space = world.objects.get(step.pt);
  if (!(space instanceof Ioas)) return refuse('EINVAL');
  if (step.flags & ~HWPT_FLAGS) refuse('EOPNOTSUPP');
  const dirty = (step.flags & DIRTY) !== 0;
  const wantsFaults = (step.flags & FAULTS) !== 0;
  if (wantsFaults && step.flags & NESTS) refuse('EOPNOTSUPP');
  if (dirty && device.noDirty) refuse('EOPNOTSUPP');
  if (step.table !== undefined && step.table > 1) refuse('EOPNOTSUPP');
  const fault = wantsFaults ? world.objects.get(step.fault) : undefined;
  const hwpt = new Hwpt(world.freeId(), space, {
    fault: fault instanceof FaultQueue ? fault : undefined,
    automatic: false,
    dirty,
    huge: step.table === 1,
    pasid: (step.flags & FOR_PASIDS) !== 0,
    nests: (step.flags & NESTS) !== 0,
  });
  const join = world.joining(space, hwpt);
  if (wantsFaults && !hwpt.fault) refuse('ENOENT');
  respond(step);
  join();
  if (hwpt.fault) hwpt.fault.tables++;
  return { hwpt: hwpt.id };
}
