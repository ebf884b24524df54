// SPDX-License-Identifier: Apache-2.0
import { closeSync } from 'node:fs';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import { HostError } from './host_error.ts';
import type { Libc } from './libc.ts';
import { MemoryTransfer } from './memory_transfer.ts';

/** What a container's own filter leaves us: Docker's default refuses both to processes without CAP_SYS_PTRACE. */
export interface Permissions {
  /** pidfd_getfd: without it, duplicates of our descriptors leave our range of numbers. */
  readonly getfd: boolean;
}

/** Tries on ourselves what we shall do to clients. Throws HostError where there is no way around a refusal. */
export function probePermissions(libc: Libc, arena: Arena, arch: Arch): Permissions {
  const word = new Uint8Array(8);
  if (!new MemoryTransfer(libc, arena).read(process.pid, BigInt(arena.base), word)) {
    throw new HostError(
      'process_vm_readv is not permitted here: allow it, in a container with --cap-add=SYS_PTRACE or --security-opt seccomp=unconfined',
    );
  }
  const pidfd = libc.call2(arch.calls.pidfd_open, process.pid, 0);
  if (pidfd < 0) {
    throw new HostError(
      'pidfd_open is not permitted here: allow it, in a container with --security-opt seccomp=unconfined',
    );
  }
  // Of a descriptor that is never open: EBADF shows that the call itself is allowed.
  libc.call3(arch.calls.pidfd_getfd, pidfd, 0x7fffffff, 0);
  const getfd = libc.errno() === EBADF;
  closeSync(pidfd);
  return { getfd };
}

const EBADF = 9;
