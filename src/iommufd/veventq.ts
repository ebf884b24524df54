// SPDX-License-Identifier: Apache-2.0
/** Queues of events for a guest (the vEVENTQ half of eventq.c). */
import {
  IOMMU_VEVENTQ_FLAG_LOST_EVENTS,
  IOMMU_VEVENTQ_TYPE_DEFAULT,
  type iommu_veventq_alloc,
  iommufd_vevent_header,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { withCleanup } from '../base/cleanup.ts';
import { Errno, ErrnoError } from '../base/errno.ts';
import type { Task } from '../kernel/task.ts';
import { type Call, checkFlags, checkReserved } from './call.ts';
import { EventQueue, queueEvents } from './eventq.ts';
import { hex } from './iova.ts';
import { writing } from './locks.ts';
import { Viommu } from './viommu.ts';

const HEADER_BYTES = iommufd_vevent_header.size;
/** Beyond what any hardware has. */
const MOST_DEPTH = 2 ** 19;
const SEQUENCE_MASK = 0x7fff_ffff;

/** An event; without data it only says that there were others, for which there was no room. */
interface Vevent {
  readonly sequence: number;
  readonly data: Uint8Array | undefined;
}

/**
 * Events of one kind for the guest of a virtual IOMMU (struct iommufd_veventq). All events are numbered, lost ones too: a mark at the
 * end of the queue says that some were, and the next event takes the mark's place, so that only the gap in the numbers is left.
 */
export class VeventQueue extends EventQueue {
  readonly type = 'VEVENTQ';
  readonly fileName = 'anon_inode:[iommufd-viommu-event]';
  readonly records = { read: iommufd_vevent_header, repeats: false };
  /** The UAPI's enum iommu_veventq_type. */
  readonly kind: number;
  readonly viommu: Viommu;
  /** Events that there is room for; a mark takes none. */
  readonly depth: number;
  private deliver: Vevent[] = [];
  private events = 0;
  private sequence = 0;

  /** Takes a user of the virtual IOMMU, whose `veventqsLock` is held for writing. */
  constructor(viommu: Viommu, kind: number, depth: number) {
    super(viommu.context);
    this.viommu = viommu;
    this.kind = kind;
    this.depth = depth;
    viommu.users++;
    viommu.veventqs.push(this);
  }

  get pollEvents(): number {
    return queueEvents(this.deliver.length > 0, false);
  }

  /** Adds an event; 0 also where there is no room, which leaves a mark. -ENOMEM leaves one too. */
  report(data: Uint8Array): number {
    const noMemory = this.context.iommufd.faults.point('alloc');
    const isLost = noMemory || this.events === this.depth;
    if (this.deliver.at(-1)?.data === undefined) this.deliver.pop();
    this.deliver.push({ sequence: this.sequence, data: isLost ? undefined : data.slice() });
    if (!isLost) this.events++;
    this.sequence = (this.sequence + 1) & SEQUENCE_MASK;
    this.changed();
    return noMemory ? -Errno.ENOMEM : 0;
  }

  read(task: Task, address: bigint, count: number): number {
    if (count < HEADER_BYTES) {
      throw new ErrnoError('EINVAL', `${count} bytes do not hold a header of ${HEADER_BYTES}`);
    }
    let done = 0;
    for (let event = this.deliver[0]; event; event = this.deliver[0]) {
      // Linux copies the mark before it looks at anything else.
      if (!event.data && this.context.iommufd.faults.point('alloc')) {
        if (done === 0) throw new ErrnoError('ENOMEM', 'no memory to read the mark of lost events');
        break;
      }
      const room = count - done;
      if (room < HEADER_BYTES) break;
      const bytes = encode(event);
      const why = refuse(task, address + BigInt(done), bytes, room);
      if (why) {
        if (done === 0) throw why;
        break;
      }
      this.deliver.shift();
      if (event.data) this.events--;
      done += bytes.length;
    }
    if (this.deliver.length === 0) this.changed();
    return done;
  }

  write(): number {
    throw new ErrnoError('EINVAL', 'a queue of events is for reading only');
  }

  /** Undoes the constructor; `veventqsLock` is held for writing. */
  letGo(): void {
    const { viommu } = this;
    this.deliver = [];
    viommu.users--;
    viommu.veventqs.splice(viommu.veventqs.indexOf(this), 1);
  }

  override destroy(): void {
    writing(this.viommu.veventqsLock, () => this.letGo());
  }
}

function encode({ sequence, data }: Vevent): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + (data?.length ?? 0));
  const header = iommufd_vevent_header.on(new DataView(bytes.buffer));
  header.flags = data ? 0 : IOMMU_VEVENTQ_FLAG_LOST_EVENTS;
  header.sequence = sequence;
  if (data) bytes.set(data, HEADER_BYTES);
  return bytes;
}

/** Copies an event out whole; or why it can not be. */
function refuse(
  task: Task,
  address: bigint,
  bytes: Uint8Array,
  room: number,
): ErrnoError | undefined {
  if (bytes.length > room) {
    return new ErrnoError('EINVAL', `${room} bytes do not hold an event of ${bytes.length}`);
  }
  if (task.mm.copyOut(address, bytes)) return undefined;
  return new ErrnoError('EFAULT', `${bytes.length} bytes at ${hex(address)} can not be written`);
}

/** IOMMU_VEVENTQ_ALLOC */
export function veventqAlloc(call: Call<Cmd<typeof iommu_veventq_alloc>>): void {
  const { cmd, context } = call;
  checkFlags(cmd.flags, 0);
  checkReserved(cmd.__reserved);
  const { type: kind, veventq_depth: depth } = cmd;
  if (kind === IOMMU_VEVENTQ_TYPE_DEFAULT)
    throw new ErrnoError('EOPNOTSUPP', 'a queue of events has no default type: state one');
  if (depth === 0 || depth > MOST_DEPTH)
    throw new ErrnoError('EINVAL', `depth ${depth} is not in 1..${MOST_DEPTH}`);
  context.withObject(cmd.viommu_id, Viommu, 'a virtual IOMMU', (viommu) => {
    writing(viommu.veventqsLock, () => {
      if (viommu.veventqOf(kind)) {
        const what = `a queue of type 0x${kind.toString(16)}`;
        throw new ErrnoError('EEXIST', `VIOMMU ${viommu.id} has ${what}`);
      }
      withCleanup((cleanup) => {
        const queue = new VeventQueue(viommu, kind, depth);
        cleanup.defer(() => queue.letGo());
        context.objects.reserve(queue);
        cleanup.defer(() => context.objects.abort(queue));
        queue.install(call, (fd) => {
          cmd.out_veventq_id = queue.id;
          cmd.out_veventq_fd = fd;
          call.respond();
        });
        context.objects.finalize(queue);
      });
    });
  });
}
