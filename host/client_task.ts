// SPDX-License-Identifier: Apache-2.0
import type { User } from '../src/memory/accounting.ts';
import type { Task } from '../src/kernel/task.ts';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import { ClientFiles } from './client_files.ts';
import type { ClientProcess } from './client_process.ts';
import type { Clients } from './clients.ts';
import type { EventFdWatches } from './event_fd_watches.ts';
import type { FileMemories } from './file_memories.ts';
import type { FdRange } from './filter.ts';
import type { IdentityCache } from './identity_cache.ts';
import { readStatus } from './proc_read.ts';
import type { Libc } from './libc.ts';
import type { Notification } from './notification.ts';
import type { OpenFiles } from './open_files.ts';
import type { Permissions } from './permissions.ts';
import type { ProcessMm } from './process_mm.ts';
import { PIDFD_GET_INFO, PIDFD_INFO_CREDS } from './uapi.ts';

/** What a task needs of the supervisor. */
export interface TaskHost {
  readonly libc: Libc;
  readonly arena: Arena;
  readonly arch: Arch;
  readonly notification: Notification;
  readonly openFiles: OpenFiles;
  readonly fileMemories: FileMemories;
  readonly range: FdRange;
  /** Scratch of at least 256 bytes: `struct stat`, rlimits, capability sets. */
  readonly scratch: number;
  readonly permissions: Permissions;
  /** Capabilities that we lack ourselves count as held by every client. */
  readonly asRoot: boolean;
  readonly cache: IdentityCache;
  readonly clients: Clients;
  readonly warn: (pid: number, text: string) => void;
  /** Eventfds of clients that the engine waits for. */
  readonly watches: EventFdWatches;
  /** An eventfd that a client had handed over is signalled. */
  readonly signalled: (pid: number, fd: number) => void;
  /** The client has signalled one that the engine waits for. */
  readonly heard: (pid: number, fd: number) => void;
}

const NOBODY = 65534;
const ESRCH = 3;
/** Of `struct pidfd_info` as it was first. */
const INFO_BYTES = 64;
/** Whether Linux has PIDFD_GET_INFO. */
let hasInfo = true;
const CAPABILITY_VERSION_3 = 0x20080522;

/** Which capabilities are in effect for us, as far as they were asked for. */
const ownCapabilities = new Map<number, boolean>();

/** A thread of a client. Facts are asked of Linux each time, since the client can change all of them. */
export class ClientTask implements Task {
  /** The thread's id, as strace shows it; for a single-threaded program the process id. */
  readonly tid: number;
  /** Of this thread (or of its process, before Linux 6.9). */
  readonly pidfd: number;
  readonly process: ClientProcess;
  readonly files: ClientFiles;
  /** Fault points that this thread passes until one fails; 0: none does. */
  failNth = 0;
  /** What `failNth` was set to. */
  asked = 0;
  private readonly host: TaskHost;

  constructor(host: TaskHost, tid: number, owner: ClientProcess, pidfd: number) {
    this.host = host;
    this.tid = tid;
    this.pidfd = pidfd;
    this.process = owner;
    this.files = new ClientFiles(host, this);
  }

  get pid(): number {
    return this.tid;
  }

  get mm(): ProcessMm {
    const mm = this.host.clients.mmOf(this.process);
    this.host.clients.enterCall(mm, this.tid);
    return mm;
  }

  get user(): User {
    return this.host.clients.user(this.realUid() ?? this.ids().real);
  }

  /** Asked of the pidfd, a tenth of what the text of /proc takes; undefined where Linux (before 6.13) or the task has no answer. */
  private realUid(): number | undefined {
    if (!hasInfo) return undefined;
    const { libc, arena, scratch } = this.host;
    const { u32 } = arena;
    // struct pidfd_info: mask, cgroupid, pid, tgid, ppid, ruid, ...
    const at = scratch >>> 2;
    for (let word = at; word < at + INFO_BYTES / 4; word += 1) u32[word] = 0;
    u32[at] = PIDFD_INFO_CREDS;
    if (libc.ioctl(this.pidfd, PIDFD_GET_INFO, arena.base + scratch) !== 0) {
      hasInfo = libc.errno() === ESRCH;
      return undefined;
    }
    return (u32[at] & PIDFD_INFO_CREDS) === 0 ? undefined : u32[at + 7];
  }

  /** Real and file-system user and group ids, and supplementary groups; nobody's where the task was killed. */
  ids(): { real: number; fsuid: number; fsgid: number; groups: readonly number[] } {
    const status = readStatus(this.tid);
    const list = (field: string): number[] =>
      (new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '')
        .split(/\s+/)
        .filter(Boolean)
        .map(Number);
    const [uids, gids] = [list('Uid'), list('Gid')];
    return {
      real: uids[0] ?? NOBODY,
      fsuid: uids[3] ?? NOBODY,
      fsgid: gids[3] ?? NOBODY,
      groups: list('Groups'),
    };
  }

  capable(capability: number): boolean {
    if (this.isCapable(this.tid, capability)) return true;
    if (!this.host.asRoot || this.isOwn(capability)) return false;
    // What nobody here can have, the client has not given up, unless it gave up all (as with another user id).
    const its = this.capabilities(this.tid);
    return its !== undefined && (its !== 0n || this.capabilities(0) === 0n);
  }

  /** Whether we have a capability, which nothing changes while we run. */
  private isOwn(capability: number): boolean {
    let has = ownCapabilities.get(capability);
    if (has === undefined) {
      has = this.isCapable(0, capability);
      ownCapabilities.set(capability, has);
    }
    return has;
  }

  /** Whether a thread (0: ours) has a capability in effect. */
  private isCapable(tid: number, capability: number): boolean {
    const all = this.capabilities(tid);
    return all !== undefined && ((all >> BigInt(capability)) & 1n) === 1n;
  }

  /** The capabilities that a thread (0: ours) has in effect, a bit each; undefined where it is gone. */
  private capabilities(tid: number): bigint | undefined {
    const { libc, arena, arch, scratch } = this.host;
    // Header: version and pid; data: effective, permitted, inheritable, twice 32 bits.
    const at = scratch >>> 2;
    arena.u32[at] = CAPABILITY_VERSION_3;
    arena.u32[at + 1] = tid;
    const header = arena.base + scratch;
    if (libc.call2(arch.calls.capget, header, header + 16) !== 0) return undefined;
    const [low, high] = [arena.u32[at + 4] as number, arena.u32[at + 7] as number];
    return (BigInt(high) << 32n) | BigInt(low);
  }
}
