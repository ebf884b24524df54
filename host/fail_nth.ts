// SPDX-License-Identifier: Apache-2.0
/**
 * /proc/PID/task/TID/fail-nth: which fault point of a thread's calls fails next, counted down as they are passed. Answers are those of
 * fs/proc/base.c.
 */
import type { DeviceFile, IoctlResult } from '../src/kernel/file.ts';
import type { Task } from '../src/kernel/task.ts';
import type { CallHost } from './call_host.ts';
import { O_ACCMODE, O_CLOEXEC, O_RDWR } from './uapi.ts';

const ESRCH = 3;
const EMFILE = 24;
const EINVAL = 22;
const ENOTTY = 25;
const ERANGE = 34;
/** What Linux looks at of a number. */
const NUMBER_BYTES = 66;
const UINT_MAX = 0xffff_ffff;

/** An unsigned number as the kernel reads it from a user: decimal, 0x or 0 in front, a newline behind. `-errno` where it is none. */
export function parseUnsigned(text: string): number {
  const match = /^\+?(0x[\da-f]+|0[0-7]*|[1-9]\d*)\n?$/i.exec(text);
  const digits = match?.[1];
  if (digits === undefined) return -EINVAL;
  const octal = /^0\d/.test(digits);
  const value = octal ? Number.parseInt(digits, 8) : Number(digits);
  return value > UINT_MAX ? -ERANGE : value;
}

class FailNthFile implements DeviceFile {
  readonly name: string;
  recording = false;
  refusal = '';
  private readonly host: CallHost;
  private readonly tid: number;

  constructor(host: CallHost, tid: number) {
    this.host = host;
    this.tid = tid;
    this.name = `/proc/self/task/${tid}/fail-nth`;
  }

  ioctl(): IoctlResult {
    return { value: -ENOTTY, why: 'fail-nth is read and written', call: undefined };
  }

  pread(_task: Task, offset: bigint, into: Uint8Array): number {
    const owner = this.host.clients.verified(this.tid);
    if (owner === undefined) return this.refuse(ESRCH, `thread ${this.tid} is gone`);
    const text = new TextEncoder().encode(`${owner.failNth}\n`);
    if (offset >= BigInt(text.length)) return 0;
    const part = text.subarray(Number(offset), Number(offset) + into.length);
    into.set(part);
    return part.length;
  }

  pwrite(_task: Task, _offset: bigint, from: Uint8Array): number {
    const text = new TextDecoder('latin1').decode(from.subarray(0, NUMBER_BYTES));
    const value = parseUnsigned(text);
    if (value < 0) return this.refuse(-value, `${JSON.stringify(text)} is no number of 32 bits`);
    const owner = this.host.clients.verified(this.tid);
    if (owner === undefined) return this.refuse(ESRCH, `thread ${this.tid} is gone`);
    owner.failNth = value;
    owner.asked = value;
    return from.length;
  }

  release(): void {
    // It belongs to nobody.
  }

  private refuse(errno: number, why: string): number {
    this.refusal = why;
    return -errno;
  }
}

/** Answers an open of a fail-nth file; false where nobody serves it. */
export function openFailNth(host: CallHost, pid: number | undefined, flags: number): boolean {
  const { notification: call, clients, openFiles, injection, observer } = host;
  const task = injection.isServed ? clients.verified(call.tid) : undefined;
  const owner = task === undefined ? undefined : clients.verified(pid ?? call.tid);
  if (task === undefined || owner === undefined) return false;
  const file = new FailNthFile(host, owner.tid);
  const access = flags & O_ACCMODE;
  const prepared = openFiles.prepare('fail-nth', access === O_ACCMODE ? O_RDWR : flags);
  if (typeof prepared === 'number') {
    call.reply(-EMFILE);
    return true;
  }
  prepared.commit(file, undefined);
  const result = call.answerWithFd(prepared.fd, task.files.freeNumber(), flags & O_CLOEXEC);
  observer.opened?.(task.pid, file.name, result, file, '');
  if (result < 0) call.reply(result);
  prepared.handOver();
  return true;
}
