// SPDX-License-Identifier: Apache-2.0
/** Queues of page faults that user space answers (the fault half of eventq.c). */
import {
  type iommu_fault_alloc,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
  iommufd_page_response_code,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import { IdTable } from '../base/id_table.ts';
import { type FaultHandler, PageRequestFlags, PageResponseCode } from '../iommu/fault.ts';
import { attachHandleAt } from '../iommu/attach.ts';
import type { AttachHandle } from '../iommu/handle.ts';
import type { IopfGroup } from '../iommu/io_pgfault.ts';
import type { Task } from '../kernel/task.ts';
import { Mutex } from '../sim/lock.ts';
import { DeviceHandle } from './attach_handle.ts';
import { type Call, checkFlags, copyFromUser } from './call.ts';
import type { Context } from './context.ts';
import { EventQueue, queueEvents } from './eventq.ts';
import { hex } from './iova.ts';
import { FAULT_LOCK, locked } from './locks.ts';

const FAULT_BYTES = iommu_hwpt_pgfault.size;
const RESPONSE_BYTES = iommu_hwpt_page_response.size;
const LAST_COOKIE = 0xffff_ffff;
const { IOMMUFD_PAGE_RESP_SUCCESS, IOMMUFD_PAGE_RESP_INVALID } = iommufd_page_response_code;
/** What FAILURE would be on the descriptor, which Linux does not have there: with the emulation of C3 only. */
const PAGE_RESP_FAILURE = PageResponseCode.FAILURE;

/**
 * The page faults of the tables that were allocated with it (struct iommufd_fault). A group is read as a whole and answered by the
 * cookie it was read with; cookies are the lowest free numbers from 1.
 */
export class FaultQueue extends EventQueue implements FaultHandler {
  readonly type = 'FAULT';
  readonly fileName = 'anon_inode:[iommufd-pgfault]';
  readonly records = {
    read: iommu_hwpt_pgfault,
    repeats: true,
    write: iommu_hwpt_page_response,
  };
  /** Groups to be read. */
  private deliver: IopfGroup[] = [];
  /** Groups that were read, by cookie, and wait for an answer. 0 is taken at first: see `takeResponse`. */
  private readonly responses = new IdTable<IopfGroup>(0, LAST_COOKIE);
  /** One reader or writer at a time, and no automatic answer between. */
  private readonly mutex: Mutex;

  constructor(context: Context) {
    super(context);
    this.mutex = new Mutex(context.iommufd.sim, FAULT_LOCK);
    this.responses.reserve();
  }

  /** Always writable: an answer never waits. */
  get pollEvents(): number {
    return queueEvents(this.deliver.length > 0, true);
  }

  /** Groups to be read, and groups read that wait for an answer. For reports and leak checks. */
  get outstanding(): { readonly queued: number; readonly unanswered: number } {
    return { queued: this.deliver.length, unanswered: this.responses.size };
  }

  handle(group: IopfGroup): number {
    group.dequeue();
    this.deliver.push(group);
    this.changed();
    return 0;
  }

  /** C10: nobody need read it any more; what was read keeps its cookie until the late answer, which is nobody else's then. */
  answered(group: IopfGroup): void {
    if (group.cookie !== 0) return;
    this.deliver = this.deliver.filter((each) => each !== group);
    this.changed();
  }

  read(task: Task, address: bigint, count: number): number {
    if (count % FAULT_BYTES) {
      throw new ErrnoError('ESPIPE', `${count} bytes are not a multiple of ${FAULT_BYTES}`);
    }
    return locked(this.mutex, () => {
      let done = 0;
      for (;;) {
        const group = this.deliver.shift();
        if (!group) break;
        const why = this.deliverGroup(task, group, address + BigInt(done), count - done);
        if (!why) {
          done += group.requests.length * FAULT_BYTES;
          continue;
        }
        this.deliver.unshift(group);
        if (done === 0) throw why;
        break;
      }
      if (done > 0 && this.deliver.length === 0) this.changed();
      return done;
    });
  }

  /** Copies a group out and waits for its answer from then on; or why not, with nothing changed. */
  private deliverGroup(
    task: Task,
    group: IopfGroup,
    address: bigint,
    room: number,
  ): ErrnoError | undefined {
    const bytes = new Uint8Array(group.requests.length * FAULT_BYTES);
    if (bytes.length > room) {
      const need = `the next group of faults has ${bytes.length} bytes`;
      return new ErrnoError('EINVAL', `${need} and ${room} were asked for: read whole groups`);
    }
    if (this.context.iommufd.faults.point('alloc'))
      return new ErrnoError('ENOMEM', 'no memory for a cookie');
    const cookie = this.responses.reserve();
    this.compose(group, cookie, bytes);
    if (!task.mm.copyOut(address, bytes)) {
      this.responses.erase(cookie);
      return new ErrnoError(
        'EFAULT',
        `${bytes.length} bytes at ${hex(address)} can not be written`,
      );
    }
    group.cookie = cookie;
    this.responses.store(cookie, group);
    return undefined;
  }

  private compose(group: IopfGroup, cookie: number, bytes: Uint8Array): void {
    const { handle } = group;
    if (!(handle instanceof DeviceHandle)) throw new Error('a fault of an attachment of others');
    const view = new DataView(bytes.buffer);
    const deviceId = deviceIdOf(group, handle);
    for (const [index, request] of group.requests.entries()) {
      const fault = iommu_hwpt_pgfault.on(view, index * FAULT_BYTES);
      // The hardware's private data is nobody else's business (C9).
      fault.flags = request.flags & ~PageRequestFlags.PRIVATE_DATA;
      fault.dev_id = deviceId;
      fault.pasid = request.pasid;
      fault.grpid = request.grpid;
      fault.perm = request.perm;
      fault.addr = request.addr;
      fault.length = 0;
      fault.cookie = cookie;
    }
  }

  /** Takes answers one after another; the first bad one ends it, and is an error where it is the first. */
  write(task: Task, address: bigint, count: number): number {
    if (count % RESPONSE_BYTES) {
      throw new ErrnoError('ESPIPE', `${count} bytes are not a multiple of ${RESPONSE_BYTES}`);
    }
    let done = 0;
    try {
      for (; done < count; done += RESPONSE_BYTES) this.takeResponse(task, address + BigInt(done));
    } catch (error) {
      if (done === 0 || !(error instanceof ErrnoError)) throw error;
    }
    return done;
  }

  /** The group is nobody else's to answer from where its cookie is given up; the driver, which may let others run, is called without a lock. */
  private takeResponse(task: Task, address: bigint): void {
    const bytes = new Uint8Array(RESPONSE_BYTES);
    copyFromUser(task.mm, address, bytes);
    const { cookie, code } = iommu_hwpt_page_response.on(new DataView(bytes.buffer));
    const response = this.codeOf(code);
    // An answer for cookie 0 is refused as any unknown one; but while others are waited for, Linux's table lets go of the number,
    // which is a cookie from then on.
    const group = locked(this.mutex, () =>
      this.responses.size > 0 ? this.responses.erase(cookie) : undefined,
    );
    if (!group)
      throw new ErrnoError('EINVAL', `no fault that was read and waits has cookie ${cookie}`);
    if (!group.respond(response))
      throw new ErrnoError(
        'EINVAL',
        `the fault with cookie ${cookie} was answered when its time was out`,
      );
  }

  private codeOf(code: number): PageResponseCode {
    if (code === IOMMUFD_PAGE_RESP_SUCCESS || code === IOMMUFD_PAGE_RESP_INVALID) return code;
    const emulates = this.context.iommufd.core.vfPageRequests === 'emulate';
    if (emulates && code === PAGE_RESP_FAILURE) return code;
    const known = `SUCCESS (0) nor INVALID (1)${emulates ? ' nor FAILURE (2)' : ''}`;
    throw new ErrnoError('EINVAL', `response code ${code} is neither ${known}`);
  }

  /** C4, C5: an attachment has ended: all of its faults, read or not, are answered INVALID. */
  respondAutomatically(handle: AttachHandle): void {
    const ended = locked(this.mutex, () => {
      const dropped = this.deliver.filter((group) => group.handle === handle);
      this.deliver = this.deliver.filter((group) => group.handle !== handle);
      for (const [cookie, group] of this.responses.entries()) {
        if (group.handle !== handle) continue;
        this.responses.erase(cookie);
        // What its time-out has answered only waited for the late answer.
        if (!group.isAnswered) dropped.push(group);
      }
      return dropped;
    });
    if (ended.length > 0 && this.deliver.length === 0) this.changed();
    for (const group of ended) group.respond(PageResponseCode.INVALID);
  }

  /** No table refers to it any more, so every attachment has ended: what is left here would be a leak. */
  override destroy(): void {
    for (const group of this.deliver) group.respond(PageResponseCode.INVALID);
    for (const [, group] of this.responses.entries())
      if (!group.isAnswered) group.respond(PageResponseCode.INVALID);
    this.deliver = [];
  }
}

/**
 * C2: the object of the device that asked, attached itself or through another of its group. Where it is not bound any more: one through
 * which the group is attached, so that the id is never somebody else's.
 */
function deviceIdOf({ device }: IopfGroup, handle: DeviceHandle): number {
  const { bound, attachments } = handle.device.group;
  for (const each of bound) if (each.device === device) return each.id;
  const at = [...attachments.keys()].find(
    (pasid) => attachHandleAt(handle.device.group.group, pasid) === handle,
  );
  const attachment = at === undefined ? undefined : attachments.get(at);
  const [first = handle.device] = attachment?.devices ?? [];
  return attachment?.devices.has(handle.device) ? handle.device.id : first.id;
}

/** IOMMU_FAULT_QUEUE_ALLOC */
export function faultQueueAlloc(call: Call<Cmd<typeof iommu_fault_alloc>>): void {
  const { cmd, context } = call;
  checkFlags(cmd.flags, 0);
  const queue = new FaultQueue(context);
  context.objects.reserve(queue);
  call.newObject = queue;
  queue.install(call, (fd) => {
    cmd.out_fault_id = queue.id;
    cmd.out_fault_fd = fd;
    call.respond();
  });
}
