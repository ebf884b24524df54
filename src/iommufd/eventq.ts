// SPDX-License-Identifier: Apache-2.0
/** Queues that clients read through a descriptor of their own: faults and events of virtual IOMMUs (eventq.c). */
import { Errno, ErrnoError } from '../base/errno.ts';
import { withCleanup } from '../base/cleanup.ts';
import { type DeviceFile, type IoctlResult, Poll, type QueueRecords } from '../kernel/file.ts';
import type { Task } from '../kernel/task.ts';
import { ADDRESSES_END } from '../memory/mm.ts';
import type { Call } from './call.ts';
import type { Context } from './context.ts';
import { hex } from './iova.ts';
import { IommufdObject } from './objects.ts';

/** Linux's MAX_RW_COUNT: the most that one call moves, in bytes. */
const MOST_BYTES = 0x7fff_f000;

/** An object with a queue; its descriptor is a user of it, so it can not be destroyed before that is closed. */
export abstract class EventQueue extends IommufdObject {
  readonly context: Context;
  private file: EventQueueFile | undefined = undefined;

  constructor(context: Context) {
    super();
    this.context = context;
  }

  /** What /proc/PID/fd shows. */
  abstract readonly fileName: string;
  /** What is read and written. */
  abstract readonly records: QueueRecords;
  /** What poll answers. */
  abstract readonly pollEvents: number;

  /** read(2) into the client's memory: the bytes moved. Nothing to read is 0. @throws ErrnoError where nothing was moved */
  abstract read(task: Task, address: bigint, count: number): number;

  /** write(2): the bytes taken. @throws ErrnoError where none were, EINVAL where the queue takes no writes */
  abstract write(task: Task, address: bigint, count: number): number;

  /** For subclasses: poll may answer something else now. */
  protected changed(): void {
    this.file?.pollChanged?.();
  }

  /**
   * Ends an allocation: `answer` puts the descriptor's number into the structure and writes that back, then the descriptor appears in
   * the client. @throws EMFILE, and what `answer` throws; the object is the caller's to abort
   */
  install(call: Call<unknown>, answer: (fd: number) => void): void {
    const { files } = call.task;
    withCleanup((cleanup) => {
      const fd = files.reserve({ writable: (this.pollEvents & Poll.OUT) !== 0 });
      cleanup.defer(() => files.cancel(fd));
      answer(fd);
      this.file = new EventQueueFile(this);
      this.users++;
      this.context.get();
      files.install(fd, this.file, { cloexec: true });
    });
  }

  /** For the descriptor, at its last close. */
  closed(): void {
    this.file = undefined;
    this.users--;
    this.context.put();
  }
}

/** The descriptor of a queue. */
export class EventQueueFile implements DeviceFile {
  readonly queue: EventQueue;
  recording = false;
  refusal = '';
  pollChanged: (() => void) | undefined = undefined;

  constructor(queue: EventQueue) {
    this.queue = queue;
  }

  get name(): string {
    return this.queue.fileName;
  }

  get records(): QueueRecords {
    return this.queue.records;
  }

  ioctl(): IoctlResult {
    return { value: -Errno.ENOTTY, why: 'a queue has no ioctls of its own', call: undefined };
  }

  read(task: Task, address: bigint, count: number): number {
    return this.transfer(address, count, (bytes) => this.queue.read(task, address, bytes));
  }

  write(task: Task, address: bigint, count: number): number {
    return this.transfer(address, count, (bytes) => this.queue.write(task, address, bytes));
  }

  poll(): number {
    return this.queue.pollEvents;
  }

  release(): void {
    this.queue.closed();
  }

  /** What Linux checks for any file, then the queue; here an errno becomes a result. */
  private transfer(address: bigint, count: number, body: (count: number) => number): number {
    try {
      if (address + BigInt(count) > ADDRESSES_END)
        throw new ErrnoError('EFAULT', `${count} bytes at ${hex(address)} are no client's memory`);
      return body(Math.min(count, MOST_BYTES));
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      this.refusal = error.message;
      return -error.errno;
    }
  }
}

/** What poll answers for a queue. */
export const queueEvents = (readable: boolean, writable: boolean): number =>
  (readable ? Poll.IN | Poll.RDNORM : 0) | (writable ? Poll.OUT : 0);
