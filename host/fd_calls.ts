// SPDX-License-Identifier: Apache-2.0
/**
 * System calls on descriptors in our range of numbers. The file behind a number is looked up each time: what is not ours goes on to Linux.
 * The answers are those of a character device whose driver has neither seek nor fsync; `data_calls.ts` has read and write.
 */
import type { OldSyscallName, SyscallName } from './arch.ts';
import type { CallHost, Handlers } from './call_host.ts';
import type { ClientTask } from './client_task.ts';
import type { HostFile } from './open_files.ts';
import { beforePagesGo, releasePages } from './release_pages.ts';
import {
  ENODEV,
  F_DUPFD,
  F_DUPFD_CLOEXEC,
  F_GETFL,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_TYPE,
  O_ACCMODE,
  O_CLOEXEC,
  O_RDWR,
  O_WRONLY,
  PROT_EXEC,
  PROT_WRITE,
} from './uapi.ts';

const EBADF = 9;
const EINVAL = 22;
const EACCES = 13;
const ESPIPE = 29;
const EMFILE = 24;
const PAGE = 4096n;
/** No mapping is as long as this, or longer. */
const ADDRESSES = 1n << 47n;

export function fdCalls(host: CallHost): Handlers {
  const { notification: call, arch, observer } = host;
  const handlers: Handlers = [];

  const identify = (fd: number): { task: ClientTask; file: HostFile } | undefined => {
    const task = host.clients.verified(call.tid);
    const file = task?.files.identify(fd);
    return task !== undefined && typeof file === 'object' ? { task, file } : undefined;
  };
  /** The call on one of our files: a result, or undefined to let Linux do it. */
  const on = (
    name: SyscallName | OldSyscallName,
    fdIndex: number,
    answer: (file: HostFile, task: ClientTask) => number | undefined,
  ): void => {
    const nr = (arch.calls as Readonly<Partial<Record<string, number>>>)[name];
    if (nr === undefined) return;
    handlers[nr] = () => {
      const fd = call.int(fdIndex);
      const found = identify(fd);
      const result = found === undefined ? undefined : answer(found.file, found.task);
      if (result === undefined) return void call.resume();
      observer.other?.(call.tid, `${name}(${fd}<${found?.file.file.name}>) = ${result}`);
      call.reply(result);
    };
  };

  on('lseek', 0, () => -ESPIPE);
  on('fsync', 0, () => -EINVAL);
  on('fdatasync', 0, () => -EINVAL);
  on('ftruncate', 0, () => -EINVAL);
  on('fallocate', 0, (file) => (file.access === 0 ? -EBADF : -ENODEV));
  on('mmap', 4, (file, task) => {
    const flags = call.uint(3);
    const bytes = (call.big(1) + PAGE - 1n) & ~(PAGE - 1n);
    const offset = call.big(5);
    // What Linux refuses before it looks at the file.
    if (flags & MAP_ANONYMOUS || bytes === 0n || bytes >= ADDRESSES || offset % PAGE !== 0n)
      return undefined;
    if (file.file.mmap === undefined) return -ENODEV;
    const shared = (flags & MAP_TYPE) !== MAP_PRIVATE;
    const protection = call.uint(2);
    if (shared && protection & PROT_WRITE && file.access !== O_RDWR) return -EACCES;
    if (file.access === O_WRONLY) return -EACCES;
    const executable = (protection & PROT_EXEC) !== 0;
    const result = file.file.mmap(task, { offset, length: bytes, shared, executable });
    if (result < 0) return result;
    if (flags & MAP_FIXED) beforePagesGo(host, (mm) => releasePages(mm, call.big(0), bytes));
    return undefined;
  });

  /** Makes a duplicate with a number of our choice, so that it stays in the range where calls on it are seen. */
  const duplicate = (
    name: SyscallName | OldSyscallName,
    plan: () => { atLeast: number; exact: number | undefined; cloexec: number } | undefined,
  ): void => {
    const nr = (arch.calls as Readonly<Partial<Record<string, number>>>)[name];
    if (nr === undefined) return;
    handlers[nr] = () => {
      const wanted = plan();
      const found = wanted === undefined ? undefined : identify(call.int(0));
      if (wanted === undefined || found === undefined) return void call.resume();
      const { task, file } = found;
      if (!host.permissions.getfd) return void call.resume();
      const number = wanted.exact ?? task.files.freeNumber(wanted.atLeast);
      if (number === undefined && wanted.atLeast > 0) return void call.reply(-EMFILE);
      const borrowed = task.files.borrow(call.int(0));
      if (borrowed < 0) return void call.reply(borrowed);
      const result = call.answerWithFd(borrowed, number, wanted.cloexec);
      host.libc.close(borrowed);
      observer.other?.(call.tid, `${name}(${call.int(0)}<${file.file.name}>) = ${result}`);
      if (result < 0) call.reply(result);
    };
  };
  const inRange = (fd: number): boolean => fd >= host.range.low && fd < host.range.high;
  /** dup2 and dup3 to a number outside the range: it still works for ioctl; what Linux does on it is a memfd's business. */
  const onto = (flags: number) => {
    const [from, to] = [call.int(0), call.int(1)];
    if (inRange(to)) host.cache.changes(call.tid);
    if (inRange(from) && inRange(to) && to !== from)
      return { atLeast: 0, exact: to, cloexec: flags & O_CLOEXEC };
    if (inRange(from) && to !== from && identify(from) !== undefined) {
      observer.other?.(
        call.tid,
        `a duplicate of ${from} gets number ${to}: only ioctl works on it as on a device`,
      );
    }
    return undefined;
  };
  duplicate('dup', () => ({ atLeast: 0, exact: undefined, cloexec: 0 }));
  duplicate('dup2', () => onto(0));
  // dup3 refuses equal numbers and unknown flags; Linux does that itself.
  duplicate('dup3', () => (call.uint(2) & ~O_CLOEXEC ? undefined : onto(call.uint(2))));
  duplicate('fcntl', () => {
    const command = call.int(1);
    if (command !== F_DUPFD && command !== F_DUPFD_CLOEXEC) return undefined;
    // A minimum above the range cannot be kept inside it.
    if (call.int(2) < 0 || call.int(2) >= host.range.high) return undefined;
    return {
      atLeast: call.int(2),
      exact: undefined,
      cloexec: command === F_DUPFD_CLOEXEC ? O_CLOEXEC : 0,
    };
  });
  const ownFcntl = handlers[arch.calls.fcntl];
  handlers[arch.calls.fcntl] = () => {
    if (call.int(1) === F_GETFL) return statusFlags();
    ownFcntl?.();
  };
  /** The end of a pipe that stands for a queue may be open for less than the queue is. */
  const statusFlags = (): void => {
    const found = identify(call.int(0));
    if (found?.file.waits === undefined || !host.permissions.getfd) return void call.resume();
    const borrowed = found.task.files.borrow(call.int(0));
    if (borrowed < 0) return void call.reply(borrowed);
    const flags = host.libc.fcntl(borrowed, F_GETFL, 0);
    host.libc.close(borrowed);
    call.reply((flags & ~O_ACCMODE) | found.file.access);
  };
  /** Calls that only have to be known of. */
  for (const name of ['close', 'close_range'] as const) {
    handlers[arch.calls[name]] = () => {
      host.cache.changes(call.tid);
      call.resume();
    };
  }
  return handlers;
}
