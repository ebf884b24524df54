// SPDX-License-Identifier: Apache-2.0
/** Draws the steps of page faults and queues. */
import type { By } from './commands.ts';
import { Draw } from './draw.ts';
import { EventQueue } from './events.ts';
import { FaultQueue, MOST_BYTES } from './faults.ts';
import type { Device } from './objects.ts';
import type { QueueStep } from './perform_queue.ts';

const FAULT_BYTES = 40;
const ANSWER_BYTES = 8;
/** Room for whatever is read. */
const PLENTY = 100_000;

export class DrawQueue extends Draw {
  /** A queue for the faults of a new table, mostly one that is there. */
  protected faultQueue(): number {
    return this.ref();
  }

  /** Mostly a device to which something is attached that takes faults. */
  private faulting(): { ref: number; device: Device | undefined } {
    const devices = this.world.of('DEVICE');
    const device = this.chance(8) ? undefined : this.pick(devices.filter((each) => each.faultsOn));
    return { ref: device ? devices.indexOf(device) : this.ref(), device };
  }

  /** An open queue, the process that has it, and its reference. */
  private queue(): { by: By; fd: number; queue: FaultQueue | EventQueue | undefined } {
    const all = ([0, 1] as const).flatMap((by) => {
      const open = [...this.world.processes[by].fds].flatMap(([fd, queue]) =>
        queue instanceof FaultQueue || queue instanceof EventQueue ? [{ fd, queue }] : [],
      );
      return open
        .toSorted((a, b) => a.fd - b.fd)
        .map(({ queue }, index) => ({ by, fd: index, queue }));
    });
    const busy = all.filter(({ queue }) => isBusy(queue));
    const found = this.pick(busy.length > 0 && !this.chance(6) ? busy : all);
    return found ?? { by: this.by(), fd: this.ref(), queue: undefined };
  }

  protected makeQueue(op: QueueStep['op']): QueueStep {
    switch (op) {
      case 'fault_alloc':
        return { op, by: this.by(), flags: this.chance(20) ? 1 : 0 };
      case 'trigger_iopf':
      case 'page_request': {
        const { ref, device } = this.faulting();
        const own = this.pick([...(device?.group.handles.keys() ?? [])]);
        const pasid = own === undefined || this.chance(5) ? this.below(4) : own;
        const request = {
          device: ref,
          pasid,
          grpid: this.below(4),
          perm: this.pick([1, 2, 3, 15, 2 ** 32 - 1]) ?? 1,
          addr: this.iova(),
        };
        if (op === 'trigger_iopf') return { op, ...request };
        const flags = (pasid === 0 ? 0 : 1) | (this.chance(3) ? 2 : 0);
        return { op, ...request, flags };
      }
      case 'queue_read': {
        const { by, fd, queue } = this.queue();
        const count = this.pick([0, 1, 1, 2, 3, 5, 16]) ?? 1;
        const events = this.chance(3) ? 12 * count : 8 * count + this.below(5);
        const records = queue instanceof EventQueue ? events : count * FAULT_BYTES;
        const bytes = this.chance(15) ? (this.pick([1, 39, 60, MOST_BYTES]) ?? 1) : records;
        return {
          op,
          by,
          fd,
          bytes,
          room: this.room(queue instanceof EventQueue ? 12 : FAULT_BYTES),
        };
      }
      case 'queue_write': {
        const { by, fd, queue } = this.queue();
        const cookies = queue instanceof FaultQueue ? [...queue.read.keys()] : [];
        const one = (): [number, number] => {
          const cookie = this.chance(12) ? undefined : this.pick(cookies);
          const code = this.chance(12) ? (this.pick([2, 3, 2 ** 32 - 1]) ?? 2) : this.below(2);
          return [cookie ?? this.pick([0, 0, 1, 2, 99, 2 ** 32 - 1]) ?? 0, code];
        };
        const answers = Array.from({ length: this.pick([0, 1, 1, 1, 2, 3]) ?? 1 }, one);
        const odd = this.chance(20) ? 1 + this.below(7) : 0;
        const bytes = answers.length * ANSWER_BYTES + odd;
        return { op, by, fd, answers, bytes, room: this.room(ANSWER_BYTES) };
      }
      case 'queue_poll': {
        const { by, fd } = this.queue();
        return { op, by, fd };
      }
    }
  }

  /** Seldom less memory than is asked for: none of it, or that of a record or two, or of a part of one. */
  private room(record: number): number {
    if (!this.chance(12)) return PLENTY;
    return this.pick([0, 1, record, record + 1, 2 * record]) ?? 0;
  }
}

const isBusy = (queue: FaultQueue | EventQueue): boolean =>
  queue.deliver.length > 0 || (queue instanceof FaultQueue && queue.read.size > 0);
