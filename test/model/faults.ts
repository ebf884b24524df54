// SPDX-License-Identifier: Apache-2.0
/** Page faults in the model: requests wait for the last of their group, groups for a reader, and readers for cookies. */
import type { Outcome } from './outcome.ts';
import type { Step } from './commands.ts';
import { refuse } from './memory.ts';
import { type Device, type Handle, Nested, type Table } from './objects.ts';
import type { World } from './world.ts';

const PASID_VALID = 1;
const LAST_PAGE = 2;
const SUCCESS = 0;
const INVALID = 1;
const FAILURE = 2;
/** Bytes of what is read for a request, and of what is written for a group. */
const FAULT_BYTES = 40;
const RESPONSE_BYTES = 8;
/** The most that one read or write moves. */
export const MOST_BYTES = 0x7fff_f000;

export interface PageRequest {
  readonly flags: number;
  readonly pasid: number;
  readonly grpid: number;
  readonly perm: number;
  readonly addr: bigint;
}

/** Requests with one answer. */
export interface FaultGroup {
  readonly device: Device;
  readonly handle: Handle;
  readonly requests: readonly PageRequest[];
}

/** An answer on its way to a device. */
export interface Answer {
  readonly device: Device;
  readonly pasid: number;
  readonly grpid: number;
  readonly code: number;
}

/** A queue of faults; a user of it is its descriptor while that is open, and each of its tables. */
export class FaultQueue {
  readonly kind = 'FAULT';
  readonly id: number;
  isOpen = true;
  tables = 0;
  deliver: FaultGroup[] = [];
  readonly read = new Map<number, FaultGroup>();
  /** 0 is no cookie at first: an answer for it, while others are waited for, makes it one. */
  hasZero = false;

  constructor(id: number) {
    this.id = id;
  }

  get users(): number {
    return 1 + (this.isOpen ? 1 : 0) + this.tables;
  }

  nextCookie(): number {
    let cookie = this.hasZero ? 0 : 1;
    while (this.read.has(cookie)) cookie++;
    return cookie;
  }
}

const answer = (world: World, { device, requests }: FaultGroup, code: number): void => {
  const { pasid = 0, grpid = 0 } = requests.at(-1) ?? {};
  if (!device.isGone) world.answers.push({ device, pasid, grpid, code });
};

/** Everything is closed: who is owed an answer gets it, in whatever order. */
export function endAll(world: World): void {
  for (const { deliver, read } of world.of('FAULT'))
    for (const group of [...deliver, ...read.values()]) answer(world, group, INVALID);
}

/** An attachment has ended: its faults, read or not, are answered, and nobody else may. */
export function endHandle(world: World, table: Table, handle: Handle | undefined): void {
  const { fault } = table;
  if (!fault || !handle) return;
  const ended = fault.deliver.filter((group) => group.handle === handle);
  fault.deliver = fault.deliver.filter((group) => group.handle !== handle);
  for (const [cookie, group] of [...fault.read].toSorted(([a], [b]) => a - b)) {
    if (group.handle !== handle) continue;
    fault.read.delete(cookie);
    ended.push(group);
  }
  for (const group of ended) answer(world, group, INVALID);
}

/** Devices forget the requests of groups that are not complete when nothing that takes faults is attached any more. */
export function settlePartial({ group }: Device): void {
  for (const member of group.members) if (!member.faultsOn) member.partial = [];
}

/**
 * A device asks for a page. Who is attached decides who is told; requests with a PASID that nothing is attached to are the business of
 * a guest's table, which has PASIDs of its own.
 */
export function report(
  world: World,
  device: Device,
  request: PageRequest,
  failing: number | undefined,
): void {
  const { group } = device;
  const pasid = request.flags & PASID_VALID ? request.pasid : 0;
  let at = pasid;
  let table = pasid === 0 ? group.hwpt : group.pasids.get(pasid);
  if (!table && pasid !== 0 && group.hwpt instanceof Nested) {
    table = group.hwpt;
    at = 0;
  }
  const isLast = (request.flags & LAST_PAGE) !== 0;
  const handle = group.handles.get(at);
  const others = device.partial.filter(({ grpid }) => grpid === request.grpid);
  if (!table?.fault || !handle) {
    device.partial = device.partial.filter((each) => !others.includes(each));
    const nobody = { device, handle: { device, pasid }, requests: [request] };
    if (isLast) answer(world, nobody, INVALID);
    return refuse('EINVAL');
  }
  if (!isLast) {
    if (failing) refuse('ENOMEM');
    device.partial.push(request);
    return;
  }
  device.partial = device.partial.filter((each) => !others.includes(each));
  const complete = { device, handle, requests: [...others, request] };
  if (failing) answer(world, complete, FAILURE);
  else table.fault.deliver.push(complete);
}

export function triggerFault(world: World, step: Step & { op: 'trigger_iopf' }): void {
  const device = world.get(step.device, 'DEVICE');
  const flags = step.pasid === 0 ? LAST_PAGE : LAST_PAGE | PASID_VALID;
  try {
    report(world, device, { ...step, flags }, step.failing);
  } catch {
    // What becomes of it does not show.
  }
}

export function queueAlloc(world: World, step: Step & { op: 'fault_alloc' }): Outcome['out'] {
  if (step.flags !== 0) refuse('EOPNOTSUPP');
  const queue = new FaultQueue(world.freeId());
  if (step.readOnly) refuse('EFAULT');
  world.objects.set(queue.id, queue);
  return { fault: queue.id, fd: world.install(step.by, queue) };
}

/** The object that a fault leads back to: the device, or where it is not bound any more, one that its group is attached through. */
function deviceIdOf({ device, handle }: FaultGroup): number {
  const { group } = device;
  if (device.id !== 0) return device.id;
  const attached = [
    ...(handle.pasid === 0 ? group.attached : (group.pasidDevices.get(handle.pasid) ?? [])),
  ];
  const other = attached.includes(handle.device) ? handle.device : attached[0];
  return other?.id ?? 0;
}

/** Bytes that a read or write has to do with; throws what Linux says before the queue is asked. */
function countOf({ bytes }: { bytes: number }, multiple: number): number {
  const count = Math.min(bytes, MOST_BYTES);
  if (count % multiple !== 0) refuse('ESPIPE');
  return count;
}

export function readFaults(queue: FaultQueue, step: Step & { op: 'queue_read' }): Outcome['out'] {
  const count = countOf(step, FAULT_BYTES);
  let done = 0;
  const stop = (code: string): void => {
    if (done === 0) refuse(code);
  };
  const lines: string[] = [];
  for (let nth = 1; queue.deliver[0]; nth++) {
    const group = queue.deliver[0];
    const size = group.requests.length * FAULT_BYTES;
    let code = 'OK';
    if (done + size > step.room) code = 'EFAULT';
    if (nth === step.failing) code = 'ENOMEM';
    if (size > count - done) code = 'EINVAL';
    if (code !== 'OK') {
      stop(code);
      break;
    }
    const cookie = queue.nextCookie();
    const id = deviceIdOf(group);
    for (const { flags, pasid, grpid, perm, addr } of group.requests)
      lines.push([flags, id, pasid, grpid, perm, addr, 0, cookie].join(' '));
    queue.deliver.shift();
    queue.read.set(cookie, group);
    done += size;
  }
  return { bytes: done, records: lines.join(', ') };
}

export function writeAnswers(
  world: World,
  queue: FaultQueue,
  step: Step & { op: 'queue_write' },
): Outcome['out'] {
  const count = countOf(step, RESPONSE_BYTES);
  for (let done = 0; done < count; done += RESPONSE_BYTES) {
    const [cookie, code] = step.answers[done / RESPONSE_BYTES] ?? [0, SUCCESS];
    let bad = 'OK';
    if (done + RESPONSE_BYTES > step.room) bad = 'EFAULT';
    else if (code !== SUCCESS && code !== INVALID) bad = 'EINVAL';
    else {
      if (cookie === 0 && queue.read.size > 0) queue.hasZero = true;
      const group = queue.read.get(cookie);
      if (!group) bad = 'EINVAL';
      else {
        queue.read.delete(cookie);
        answer(world, group, code);
      }
    }
    if (bad !== 'OK') return done === 0 ? refuse(bad) : { bytes: done };
  }
  return { bytes: count };
}
