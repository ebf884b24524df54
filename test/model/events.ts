// SPDX-License-Identifier: Apache-2.0
/** Queues of events for a guest in the model: every event has a number, also those for which there was no room. */
import type { Step } from './commands.ts';
import { MOST_BYTES } from './faults.ts';
import { refuse } from './memory.ts';
import type { Viommu } from './objects.ts';
import type { Outcome } from './outcome.ts';
import type { World } from './world.ts';

const MOST_DEPTH = 2 ** 19;
const SELFTEST = 0xbeef_beef;
const LOST = 1;
const HEADER_BYTES = 8;
const DATA_BYTES = 4;

interface Event {
  readonly sequence: number;
  /** What the guest calls the device; undefined: the mark that events were lost. */
  readonly virtualId: number | undefined;
}

export class EventQueue {
  readonly kind = 'VEVENTQ';
  readonly id: number;
  readonly viommu: Viommu;
  readonly type: number;
  readonly depth: number;
  isOpen = true;
  deliver: Event[] = [];
  sequence = 0;

  constructor(id: number, viommu: Viommu, type: number, depth: number) {
    this.id = id;
    this.viommu = viommu;
    this.type = type;
    this.depth = depth;
  }

  get users(): number {
    return 1 + (this.isOpen ? 1 : 0);
  }

  get events(): number {
    return this.deliver.filter(({ virtualId }) => virtualId !== undefined).length;
  }
}

export function eventQueueAlloc(
  world: World,
  step: Step & { op: 'veventq_alloc' },
): Outcome['out'] {
  if (step.type === 0) refuse('EOPNOTSUPP');
  if (step.depth === 0 || step.depth > MOST_DEPTH) refuse('EINVAL');
  const viommu = world.get(step.viommu, 'VIOMMU');
  if (viommu.eventQueues.some(({ type }) => type === step.type)) refuse('EEXIST');
  if (step.readOnly) refuse('EFAULT');
  const queue = new EventQueue(world.freeId(), viommu, step.type, step.depth);
  viommu.eventQueues.push(queue);
  world.objects.set(queue.id, queue);
  return { queue: queue.id, fd: world.install(step.by, queue) };
}

/** A device of a guest has something to say, under the name that it had when it was attached. */
export function triggerEvent(world: World, step: Step & { op: 'trigger_vevent' }): void {
  const { viommu, virtualId } = world.get(step.device, 'DEVICE');
  if (!viommu || virtualId === 0n) return refuse('ENOENT');
  const queue = viommu.eventQueues.find(({ type }) => type === SELFTEST);
  if (!queue) return refuse('EOPNOTSUPP');
  const isLost = step.failing !== undefined || queue.events === queue.depth;
  if (queue.deliver.at(-1)?.virtualId === undefined) queue.deliver.pop();
  const id = isLost ? undefined : Number(BigInt.asUintN(32, virtualId));
  queue.deliver.push({ sequence: queue.sequence, virtualId: id });
  queue.sequence = (queue.sequence + 1) % 2 ** 31;
  if (step.failing) refuse('ENOMEM');
}

export function readEvents(queue: EventQueue, step: Step & { op: 'queue_read' }): Outcome['out'] {
  const count = Math.min(step.bytes, MOST_BYTES);
  if (count < HEADER_BYTES) refuse('EINVAL');
  let done = 0;
  const records: string[] = [];
  for (let event = queue.deliver[0]; event; event = queue.deliver[0]) {
    const { sequence, virtualId } = event;
    const size = HEADER_BYTES + (virtualId === undefined ? 0 : DATA_BYTES);
    let bad = 'OK';
    if (done + size > step.room) bad = 'EFAULT';
    if (size > count - done) bad = 'EINVAL';
    // Reading the mark takes memory.
    if (virtualId === undefined && step.failing !== undefined) bad = 'ENOMEM';
    else if (count - done < HEADER_BYTES) break;
    if (bad !== 'OK') {
      if (done === 0) refuse(bad);
      break;
    }
    queue.deliver.shift();
    records.push([virtualId === undefined ? LOST : 0, sequence, virtualId ?? '-'].join(' '));
    done += size;
  }
  return { bytes: done, records: records.join(', ') };
}
