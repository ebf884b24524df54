// SPDX-License-Identifier: Apache-2.0
/** One step in the model: what it answers and what it changes. */
import {
  accessAt,
  checkJoin,
  checkRequest,
  closeAccess,
  copy,
  creating,
  pinning,
  replaceIoas,
} from './accesses.ts';
import {
  attaching,
  attachingPasid,
  detach,
  detachPasid,
  replacing,
  replacingPasid,
} from './attach.ts';
import { performDevice } from './apply_device.ts';
import type { By, Step } from './commands.ts';
import {
  changeProcess,
  checkMap,
  checkMapFlags,
  checkRefs,
  dropItem,
  isWriting,
  makeSource,
  mapSlices,
  slicesOf,
  unmap,
} from './maps.ts';
import { PAGE, refuse, Refused } from './memory.ts';
import { buryVdevice, dropVdevice, vdeviceAlloc, viommuAlloc } from './guests.ts';
import { answerFaults, faultQueueAlloc, readFaults, triggerFault } from './faults.ts';
import { checkCache, faultOf, invalidate, nestedAlloc } from './nested.ts';
import {
  Access,
  Device,
  type FaultQueue,
  Group,
  Hwpt,
  Mock,
  Nested,
  type Open,
  Vdevice,
  Viommu,
} from './objects.ts';
import { Ioas, LAST, meets, type Source } from './space.ts';
import type { World } from './world.ts';

/** How a step ends: `OK` or an errno, and what it answers. */
export interface Outcome {
  readonly code: string;
  readonly out: Readonly<Record<string, unknown>>;
}

const PAGE_N = BigInt(PAGE);
const DEVICE_FLAGS = 1 | 4;
const DIRTY = 2;
const FAULTS = 4;
const HWPT_FLAGS = 1 | DIRTY | FAULTS | 8;
const NO_DIRTY = 1;
const PASIDS = 4;
const FOR_PASIDS = 8;
const NESTS = 1;

/** Makes a resolved step. */
export function apply(world: World, step: Step): Outcome {
  try {
    return { code: 'OK', out: perform(world, step) ?? {} };
  } catch (error) {
    if (error instanceof Refused) return { code: error.code, out: {} };
    throw error;
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
      const device = new Device(
        new Group(),
        (step.flags & NO_DIRTY) !== 0,
        [],
        step.flags & PASIDS ? 2 ** 20 : 1,
      );
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
    case 'fault_queue_alloc':
      return faultQueueAlloc(world, step, () => respond(step));
    case 'trigger_fault':
      return triggerFault(world, step);
    case 'queue_read':
      return readFaults(queueAt(world, step.by, step.fd), step);
    case 'queue_write':
      return answerFaults(world, queueAt(world, step.by, step.fd), step);
    case 'viommu_alloc':
      return viommuAlloc(world, step, () => respond(step));
    case 'vdevice_alloc':
      return vdeviceAlloc(world, step, () => respond(step));
    case 'invalidate':
      return invalidate(world, step, () => respond(step));
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
    case 'access_create': {
      const { access, commit } = creating(world, step.ioas, step.flags);
      respond(step);
      commit();
      return { fd: world.install(step.by, access) };
    }
    case 'access_pin': {
      checkRequest(step.length, step.flags, 1);
      const access = accessAt(world, step.by, step.fd);
      if (!access.pins) refuse('EOPNOTSUPP');
      const { id, commit } = pinning(world, access, step);
      if (step.readOnly) {
        access.nextItem++; // the number is not used again
        refuse('EFAULT');
      }
      commit();
      return { item: id };
    }
    case 'access_unpin': {
      const access = accessAt(world, step.by, step.fd);
      dropItem(access, access.items.find(({ id }) => id === step.item) ?? refuse('ENOENT'));
      world.changes++;
      return;
    }
    case 'access_rw': {
      checkRequest(step.length, step.flags, 1 | 4);
      const access = accessAt(world, step.by, step.fd);
      const data = new Uint8Array(Number(step.length)).fill(step.flags & 1 ? step.fill : 0);
      copy(world, access, step, data);
      return step.flags & 1 ? {} : { data };
    }
    case 'access_replace':
      return replaceIoas(world, accessAt(world, step.by, step.fd), step.ioas);
    case 'close':
      return close(world, step.by, step.fd);
    case 'check_map':
      return checkMap(world, step.hwpt, step);
    case 'check_refs':
      return checkRefs(world, step);
    case 'dmabuf_get': {
      const count = Math.ceil(step.length / PAGE);
      if (count === 0 || count > 512) refuse('EINVAL');
      return {
        fd: world.install(step.by, {
          kind: 'dmabuf',
          pages: world.maker.make(count),
          revoked: false,
        }),
      };
    }
    case 'dmabuf_revoke': {
      const open = world.processes[step.by].fds.get(step.fd) ?? refuse('EBADF');
      if (open instanceof Access || open.kind !== 'dmabuf') return refuse('EINVAL');
      return world.revoke(open, step.revoked !== 0);
    }
    case 'memory_limit':
      return step.limit < 12 ? refuse('EINVAL') : undefined;
    case 'change_process':
      return changeProcess(world, step.by);
    case 'mmap': {
      const process = world.processes[step.by];
      process.mm.unmap(step.page, step.pages);
      const { offset, writable } = step;
      const file = step.file === undefined ? undefined : world.file(step.file);
      world.mapMemory(process, step.page, step.pages, {
        offset,
        writable,
        ...(file ? { file } : {}),
      });
      world.changes++;
      return;
    }
    case 'munmap':
      world.changes++;
      return world.processes[step.by].mm.unmap(step.page, step.pages);
    case 'mprotect':
      return world.processes[step.by].mm.protect(
        step.page,
        step.pages,
        step.readable,
        step.writable,
      );
    case 'end':
      return end(world, step.killed);
    case 'device_add': {
      const groups = world.groups;
      const old = groups[step.group];
      if (old?.hwpt?.dirty && step.noDirty) refuse('EINVAL');
      const group = old && old.members.length > 0 ? old : (groups[step.group] = new Group());
      const ranges = step.reserved.map(([start, last]) => ({ start, last }));
      world.devices.push(new Device(group, step.noDirty, ranges));
      return;
    }
    default:
      return performDevice(world, step);
  }
}

function destroy(world: World, id: number): void {
  const object = world.objects.get(id) ?? refuse('ENOENT');
  if (object.users !== 1) refuse('EBUSY');
  if (object instanceof Mock) {
    detach(world, object.device);
    for (const pasid of object.device.group.pasids.keys()) detachPasid(world, object.device, pasid);
    buryVdevice(world, object.device);
    world.objects.delete(object.device.id);
  }
  if (object instanceof Hwpt) world.removeHwpt(object);
  if (object instanceof Nested || object instanceof Viommu) object.parent.nested--;
  if ((object instanceof Hwpt || object instanceof Nested) && object.fault) object.fault.tables--;
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
  if (dirty && device.noDirty) refuse('EOPNOTSUPP');
  if (step.flags & FAULTS && step.flags & NESTS) refuse('EOPNOTSUPP');
  if (step.table !== undefined && step.table > 1) refuse('EOPNOTSUPP');
  const hwpt = new Hwpt(world.freeId(), space, {
    automatic: false,
    dirty,
    huge: step.table === 1,
    pasid: (step.flags & FOR_PASIDS) !== 0,
    nests: (step.flags & NESTS) !== 0,
  });
  const join = world.joining(space, hwpt);
  const fault = faultOf(world, step);
  respond(step);
  hwpt.fault = fault;
  if (fault) fault.tables++;
  join();
  return { hwpt: hwpt.id };
}

function close(world: World, by: By, fd: number): void {
  const { fds } = world.processes[by];
  const open = fds.get(fd);
  const isOurs = open instanceof Access || open?.kind === 'dmabuf' || open?.kind === 'queue';
  if (!isOurs) refuse('SKIP');
  fds.delete(fd);
  if (open) closeOpen(world, open);
}

function closeOpen(world: World, open: Open): void {
  if (open instanceof Access) closeAccess(world, open);
  else if (open.kind === 'queue') open.queue.isOpen = false;
}

function queueAt(world: World, by: By, fd: number): FaultQueue {
  const open = world.processes[by].fds.get(fd);
  return open && !(open instanceof Access) && open.kind === 'queue' ? open.queue : refuse('SKIP');
}

/** A process that ends in good order closes its files first, one that is killed loses its memory first. */
function end(world: World, killed: boolean): void {
  const { fds, mm } = world.processes[1];
  world.changes++;
  if (killed) mm.end(true);
  for (const open of fds.values()) closeOpen(world, open);
  if (!killed) mm.end(false);
  world.processes[1] = world.newProcess(1);
}
