// SPDX-License-Identifier: Apache-2.0
import type { Process } from '../src/kernel/task.ts';
import type { ClientTask, TaskHost } from './client_task.ts';
import type { ProcessMm } from './process_mm.ts';
import { PAGE_SIZE } from '../src/memory/mm.ts';
import { RLIMIT_MEMLOCK, RLIMIT_NOFILE } from './uapi.ts';

const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

/** A client process (thread group), known from the first call of any of its threads until it has ended. */
export class ClientProcess implements Process {
  readonly tgid: number;
  readonly pidfd: number;
  /** Those of its threads that have called, by thread id. */
  readonly tasks = new Map<number, ClientTask>();
  mm: ProcessMm | undefined;
  /** An exec was let through since `mm` was found: it may have another one now. */
  execPending = false;
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
    return Math.floor(this.softLimit(RLIMIT_MEMLOCK) / PAGE_SIZE);
  }

  /** The soft RLIMIT_NOFILE: descriptor numbers are below it. */
  descriptorLimit(): number {
    return this.softLimit(RLIMIT_NOFILE);
  }

  /** As of now; 0 where the process is gone. */
  private softLimit(resource: number): number {
    const { libc, arena, arch, scratch } = this.host;
    const buffer = arena.base + scratch;
    const nr = arch.calls.prlimit64;
    if (libc.call6(nr, this.tgid, resource, 0, buffer, 0, 0) !== 0) return 0;
    const value = arena.u64[scratch >>> 3] as bigint;
    return value === RLIM_INFINITY ? Number.POSITIVE_INFINITY : Number(value);
  }
}
