// SPDX-License-Identifier: Apache-2.0
/** Queues of page faults in the model: a fault is queued, read under a cookie, and answered once. */
import type { Outcome } from './apply.ts';
import type { Step } from './commands.ts';
import { refuse } from './memory.ts';
import { type Fault, FaultFile, FaultQueue, type Group, Nested, type Table } from './objects.ts';
import type { World } from './world.ts';

const RECORD_BYTES = 40;
const ANSWER_BYTES = 8;
const INVALID = 1;
/** A record has a PASID; it is the last of its group, as all of the test driver's are. */
const PASID_VALID = 1;
const LAST_PAGE = 2;

export function faultQueueAlloc(
  world: World,
  step: Step & { op: 'fault_queue_alloc' },
  respond: () => void,
): Outcome['out'] {
  const queue = new FaultQueue(world.freeId());
  respond();
  world.objects.set(queue.id, queue);
  return { id: queue.id, fd: world.install(step.by, new FaultFile(queue)) };
}

/** A device faults. Of a PASID that has no table, the guest's table of requests without one is asked. */
export function triggerFault(world: World, step: Step & { op: 'trigger_fault' }): void {
  const device = world.get(step.device, 'DEVICE');
  const { group } = device;
  const { pasid, grpid } = step;
  let slot = pasid;
  let table = slot === 0 ? group.hwpt : group.pasids.get(slot);
  if (!table && pasid !== 0 && group.hwpt instanceof Nested) {
    slot = 0;
    table = group.hwpt;
  }
  const attachedAs = group.attachedAs.get(slot) ?? 0;
  if (table?.fault) table.fault.queued.push({ ...step, group, slot, from: device, attachedAs });
  else world.answers.push(`${grpid} ${INVALID}`);
}

/** The id that a fault shows when it is read: of the device itself, or of the one through which its group was attached. */
function nameOf({ from, attachedAs }: Fault): number {
  return from.isAttached || from.group.pasids.size > 0 ? from.id : attachedAs;
}

/** Whole groups only, as many as fit. */
export function readFaults(queue: FaultQueue, step: Step & { op: 'queue_read' }): Outcome['out'] {
  if (step.count % RECORD_BYTES !== 0) refuse('ESPIPE');
  const records: string[] = [];
  for (let room = step.count; queue.queued.length > 0; room -= RECORD_BYTES) {
    const fault = queue.queued[0];
    const bad = room < RECORD_BYTES ? 'EINVAL' : 'EFAULT';
    if (!fault || room < RECORD_BYTES || step.readOnly) {
      if (records.length === 0) refuse(bad);
      break;
    }
    queue.queued.shift();
    const cookie = queue.freeCookie();
    queue.unanswered.set(cookie, fault);
    const { pasid, grpid, perm, address } = fault;
    const flags = LAST_PAGE | (pasid === 0 ? 0 : PASID_VALID);
    records.push([flags, nameOf(fault), pasid, grpid, perm, address, 0, cookie].join(' '));
  }
  return { bytes: records.length * RECORD_BYTES, records: records.join('; ') };
}

/** One answer after another; the first bad one ends it. */
export function answerFaults(
  world: World,
  queue: FaultQueue,
  step: Step & { op: 'queue_write' },
): Outcome['out'] {
  if (step.extra !== 0) refuse('ESPIPE');
  let bytes = 0;
  for (const [cookie, code] of step.answers) {
    const bad = step.unmapped ? 'EFAULT' : answer(world, queue, cookie, code);
    if (bad === undefined) bytes += ANSWER_BYTES;
    else if (bytes === 0) refuse(bad);
    else break;
  }
  return { bytes };
}

function answer(world: World, queue: FaultQueue, cookie: number, code: number): string | undefined {
  if (code > INVALID) return 'EINVAL';
  const fault = queue.unanswered.get(cookie);
  // Cookie 0 is nobody's at first; an answer for it, while others are waited for, makes it a cookie like others.
  if (cookie === 0 && queue.unanswered.size > 0) queue.givesZero = true;
  if (!fault) return 'EINVAL';
  queue.unanswered.delete(cookie);
  world.answers.push(`${fault.grpid} ${code}`);
  return undefined;
}

/** An attachment has ended: its faults are answered, read or not. */
export function endFaults(world: World, table: Table, group: Group, slot: number): void {
  const queue = table.fault;
  if (!queue) return;
  const isOver = (fault: { group: Group; slot: number }): boolean =>
    fault.group === group && fault.slot === slot;
  for (const { grpid } of queue.queued.filter(isOver)) world.answers.push(`${grpid} ${INVALID}`);
  queue.queued = queue.queued.filter((fault) => !isOver(fault));
  for (const [cookie, fault] of queue.unanswered) {
    if (!isOver(fault)) continue;
    queue.unanswered.delete(cookie);
    world.answers.push(`${fault.grpid} ${INVALID}`);
  }
}
