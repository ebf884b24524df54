// SPDX-License-Identifier: Apache-2.0
import type { Mm } from '../memory/mm.ts';
import type { User } from '../memory/accounting.ts';
import type { FileTable } from './file.ts';

/** Capabilities that the subsystem asks for. Source: uapi/linux/capability.h. */
export const Capability = { IPC_LOCK: 14, SYS_RAWIO: 17, SYS_RESOURCE: 24 } as const;

/** A process (thread group): what outlives the call that one of its threads made. */
export interface Process {
  /** The soft RLIMIT_MEMLOCK in pages of 4 KiB, now; `Infinity` where there is none. */
  memlockPages(): number;
}

/** The thread that makes a call: Linux's `current`. Every answer is as of now, since a client can change all of them. */
export interface Task {
  readonly pid: number;
  readonly mm: Mm;
  /** Owner of the task by real uid; its locked-memory count is shared by all its processes. */
  readonly user: User;
  readonly process: Process;
  readonly files: FileTable;
  /** True where the effective set holds the capability (numbers in {@link Capability}). */
  capable(capability: number): boolean;
}
