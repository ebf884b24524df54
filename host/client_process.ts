// SPDX-License-Identifier: Apache-2.0
import type { Process } from '../src/kernel/task.ts';
import type { ClientTask, TaskHost } from './client_task.ts';
import type { ProcessMm } from './process_mm.ts';
import { PAGE_SIZE } from '../src/memory/mm.ts';
import { type Limits, limitsOf, UNLIMITED } from './limits.ts';
import { RLIMIT_MEMLOCK, RLIMIT_NOFILE } from './uapi.ts';

/** A client process (thread group), known from the first call of any of its threads until it has ended. */
export class ClientProcess implements Process {
  readonly tgid: number;
  readonly pidfd: number;
  /** Those of its threads that have called, by thread id. */
  readonly tasks = new Map<number, ClientTask>();
  mm: ProcessMm | undefined;
  /** An exec was let through since `mm` was found: it may have another one now. */
  execPending = false;
  /** RLIMIT_MEMLOCK where it is more than Linux would let it be (`--as-root`). */
  ownLockLimit: Limits | undefined;
  /** Where to look first for a free descriptor number. */
  nextFd: number | undefined;
  private readonly host: Pick<TaskHost, 'libc' | 'arena' | 'arch' | 'scratch'>;

  constructor(
    host: Pick<TaskHost, 'libc' | 'arena' | 'arch' | 'scratch'>,
    tgid: number,
    pidfd: number,
  ) {
    this.host = host;
    this.tgid = tgid;
    this.pidfd = pidfd;
  }

  memlockPages(): number {
    const { soft } = this.lockLimit();
    return soft === UNLIMITED ? Number.POSITIVE_INFINITY : Math.floor(Number(soft) / PAGE_SIZE);
  }

  /** RLIMIT_MEMLOCK in force. */
  lockLimit(): Limits {
    return this.ownLockLimit ?? this.limits(RLIMIT_MEMLOCK, 'Max locked memory');
  }

  /** The soft RLIMIT_NOFILE: descriptor numbers are below it. */
  descriptorLimit(): number {
    const { soft } = this.limits(RLIMIT_NOFILE, 'Max open files');
    return soft === UNLIMITED ? Number.POSITIVE_INFINITY : Number(soft);
  }

  /** As of now; 0 where the process is gone. Of a process with another user, only /proc tells. */
  private limits(resource: number, name: string): Limits {
    const { libc, arena, arch, scratch } = this.host;
    const buffer = arena.base + scratch;
    const nr = arch.calls.prlimit64;
    if (libc.call6(nr, this.tgid, resource, 0, buffer, 0, 0) !== 0)
      return limitsOf(this.tgid, name) ?? { soft: 0n, hard: 0n };
    const at = scratch >>> 3;
    return { soft: arena.u64[at] as bigint, hard: arena.u64[at + 1] as bigint };
  }
}
