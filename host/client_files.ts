// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, readlinkSync } from 'node:fs';
import { ErrnoError } from '../src/base/errno.ts';
import type { DeviceFile, EventFd, FileTable, OpenFile, Waits } from '../src/kernel/file.ts';
import type { ClientTask, TaskHost } from './client_task.ts';
import { HeldEventFd } from './held_event_fd.ts';
import type { HostFile, Prepared } from './open_files.ts';
import { O_CLOEXEC, O_PATH, O_RDWR, S_IFMT, S_IFREG } from './uapi.ts';

const EBADF = 9;
const ESRCH = 3;
const EPERM = 1;
const EMFILE = 24;

/** What `identify` found: one of our files, some other open file, or nothing. */
export type Identified = HostFile | 'other' | 'closed' | 'task gone' | 'not permitted';

/** The descriptors of one client task, asked of Linux at each call: neither dup nor close nor SCM_RIGHTS can deceive it. */
export class ClientFiles implements FileTable {
  private readonly host: TaskHost;
  private readonly task: ClientTask;
  /** What numbers of our range were found to be, under `generation` of the cache. */
  private readonly known = new Map<number, HostFile>();
  private generation = 0;
  private readonly reserved = new Map<number, Prepared>();

  constructor(host: TaskHost, task: ClientTask) {
    this.host = host;
    this.task = task;
  }

  /** Which of our files `fd` is: known from before, or found out by taking a descriptor of it for a moment (1-2 us). */
  identify(fd: number): Identified {
    const known = this.remembered(fd);
    if (known !== undefined) return known;
    const found = this.findOut(fd);
    if (typeof found === 'object') this.remember(fd, found);
    return found;
  }

  /** What is known of a number, where that still holds. */
  private remembered(fd: number): HostFile | undefined {
    if (!this.isLasting(fd)) return undefined;
    const known = this.known.get(fd);
    return known === undefined || known.released ? undefined : known;
  }

  private remember(fd: number, file: HostFile): void {
    if (this.isLasting(fd)) this.known.set(fd, file);
  }

  /** Whether something may be known of this number now; what does not hold any more is forgotten. */
  private isLasting(fd: number): boolean {
    const { cache, range } = this.host;
    if (fd < range.low || fd >= range.high || !cache.usable) return false;
    if (this.generation !== cache.generation) {
      this.known.clear();
      this.generation = cache.generation;
    }
    return true;
  }

  private findOut(fd: number): Identified {
    const borrowed = this.borrow(fd);
    if (borrowed < 0) {
      if (borrowed === -EBADF) return 'closed';
      return borrowed === -ESRCH ? 'task gone' : 'not permitted';
    }
    const file = this.ours(borrowed);
    this.host.libc.close(borrowed);
    return file ?? 'other';
  }

  /**
   * A descriptor in our own process of what `fd` is in the client; `-errno` where there is none. The caller closes it.
   * Where pidfd_getfd is not permitted it is only good for looking at: O_PATH.
   */
  borrow(fd: number): number {
    const { libc, arch, permissions } = this.host;
    if (!permissions.getfd) return this.look(fd);
    const got = libc.call3(arch.calls.pidfd_getfd, this.task.pidfd, fd, 0);
    return got < 0 ? -libc.errno() : got;
  }

  private look(fd: number): number {
    if (this.host.clients.verified(this.task.tid) !== this.task) return -ESRCH;
    try {
      return openSync(`/proc/${this.task.tid}/fd/${fd}`, O_PATH | O_CLOEXEC);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      return code === 'ENOENT' ? -EBADF : -EPERM;
    }
  }

  get(fd: number): OpenFile | undefined {
    const known = this.remembered(fd);
    if (known !== undefined) return { kind: 'device', file: known.file };
    const borrowed = this.borrow(fd);
    if (borrowed === -EPERM) return { kind: 'other' };
    if (borrowed < 0) return undefined;
    try {
      const ours = this.ours(borrowed);
      if (ours !== undefined) {
        this.remember(fd, ours);
        return { kind: 'device', file: ours.file };
      }
      const { arena, arch, scratch, fileMemories } = this.host;
      const mode = arena.view.getUint32(scratch + arch.stat.mode, true);
      // Files without a place in any file system have no type either: their name tells what they are.
      if ((mode & S_IFMT) === 0 && nameOf(borrowed) === 'anon_inode:[eventfd]') {
        return { kind: 'eventfd', hold: () => this.hold(fd) };
      }
      if ((mode & S_IFMT) !== S_IFREG || fileMemories.kindOf(borrowed) === 'other') {
        return { kind: 'other' };
      }
      const device = arena.u64[scratch >>> 3] as bigint;
      const inode = arena.u64[(scratch >>> 3) + 1] as bigint;
      return { kind: 'memory', memory: fileMemories.ofDescriptor(borrowed, device, inode) };
    } finally {
      closeSync(borrowed);
    }
  }

  private hold(fd: number): EventFd {
    const { libc, arena, arch, watches, permissions, signalled, heard } = this.host;
    if (!permissions.getfd) {
      throw new ErrnoError(
        'EPERM',
        `eventfd ${fd} cannot be taken over, because pidfd_getfd is not permitted here: allow it, in a container with --cap-add=SYS_PTRACE`,
      );
    }
    const held = this.borrow(fd);
    if (held < 0) throw new ErrnoError(held === -EMFILE ? 'EMFILE' : 'EBADF', `eventfd ${fd}`);
    const { pid } = this.task;
    return new HeldEventFd({ libc, arena, arch, watches }, held, {
      signalled: () => signalled(pid, fd),
      heard: () => heard(pid, fd),
    });
  }

  reserve(waits?: Waits): number {
    const prepared = this.host.openFiles.prepare('iommulator', O_RDWR, waits);
    if (typeof prepared === 'number') {
      throw new ErrnoError(
        'EMFILE',
        `the supervisor could not make a descriptor (errno ${-prepared}); its own limit is RLIMIT_NOFILE`,
      );
    }
    const inRange = this.freeNumber();
    const fd = inRange ?? this.lowestFree();
    if (fd === undefined) {
      prepared.handOver();
      throw new ErrnoError('EMFILE', 'the process has no free descriptor number');
    }
    this.reserved.set(fd, prepared);
    return fd;
  }

  install(fd: number, file: DeviceFile, options: { readonly cloexec: boolean }): void {
    const prepared = this.reserved.get(fd);
    if (prepared === undefined) throw new Error(`descriptor ${fd} was not reserved`);
    this.reserved.delete(fd);
    prepared.commit(file, undefined);
    const result = this.host.notification.addFd(prepared.fd, fd, options.cloexec ? O_CLOEXEC : 0);
    if (result < 0) {
      // The client was killed in this call: closing our descriptor is the last close, and releases the file.
      this.host.warn(this.task.pid, `descriptor ${fd} was not delivered (errno ${-result})`);
    }
    prepared.handOver();
  }

  cancel(fd: number): void {
    this.reserved.get(fd)?.handOver();
    this.reserved.delete(fd);
  }

  /**
   * A number of our range that is free in the client, at least `atLeast`; undefined where none is. From the top
   * downwards, so that a program's own descriptors, which grow from the bottom, do not meet ours.
   */
  freeNumber(atLeast = 0): number | undefined {
    const { low, high } = this.host.range;
    const owner = this.task.process;
    const start = Math.min(owner.nextFd ?? high - 1, high - 1);
    const floor = Math.max(low, atLeast);
    for (const [from, to] of [
      [start, floor],
      [high - 1, start + 1],
    ] as const) {
      for (let fd = from; fd >= to; fd -= 1) {
        const free = this.isFree(fd);
        if (free === undefined) return undefined;
        if (free) {
          owner.nextFd = fd - 1 >= low ? fd - 1 : high - 1;
          return fd;
        }
      }
    }
    return undefined;
  }

  private lowestFree(): number | undefined {
    const limit = this.task.process.descriptorLimit();
    for (let fd = 0; fd < limit; fd += 1) {
      const free = this.isFree(fd);
      if (free !== false) return free === true ? fd : undefined;
    }
    return undefined;
  }

  /** Whether the client has nothing open there; undefined where that cannot be known. */
  private isFree(fd: number): boolean | undefined {
    if (this.reserved.has(fd)) return false;
    const borrowed = this.borrow(fd);
    if (borrowed >= 0) this.host.libc.close(borrowed);
    if (borrowed >= 0 || borrowed === -EBADF) return borrowed < 0;
    // A client that was killed in this call takes any number: nothing will be delivered.
    return this.host.notification.valid() ? undefined : true;
  }

  /** The file of ours that a descriptor in our own process is; leaves its `struct stat` in the scratch area. */
  private ours(borrowed: number): HostFile | undefined {
    const { libc, arena, arch, scratch, openFiles } = this.host;
    if (libc.call2(arch.calls.fstat, borrowed, arena.base + scratch) !== 0) return undefined;
    return openFiles.find(arena.readWord(scratch), arena.readWord(scratch + 8));
  }
}

/** What a descriptor of ours shows in /proc. */
function nameOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}
