// SPDX-License-Identifier: Apache-2.0
/** What the supervisor needs of the machine, checked before anything is started. */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { type Arch, archOf } from './arch.ts';
import { HostError } from './host_error.ts';

/** Facts of the machine, apart so that tests can invent one. */
export interface Platform {
  readonly os: string;
  readonly arch: string;
  readonly kernel: string;
  /** kernel.yama.ptrace_scope; undefined without Yama. */
  readonly ptraceScope: number | undefined;
  readonly privileged: boolean;
}

/** The machine we run on. */
export function thisPlatform(): Platform {
  return {
    os: process.platform,
    arch: process.arch,
    kernel: release(),
    ptraceScope: readNumber('/proc/sys/kernel/yama/ptrace_scope'),
    privileged: process.geteuid?.() === 0,
  };
}

/** The tables of a machine that can serve; throws HostError with the sentence for the user. */
export function checkPlatform(platform: Platform): Arch {
  if (platform.os !== 'linux') {
    throw new HostError(
      `iommulator run needs Linux (this is ${platform.os}): use a Linux machine, virtual machine or container; the library works anywhere`,
    );
  }
  const arch = archOf(platform.arch);
  if (arch === undefined) {
    throw new HostError(
      `iommulator run knows x86-64 and arm64 (this is ${platform.arch}): use such a machine; the library works anywhere`,
    );
  }
  const [major = 0, minor = 0] = platform.kernel
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  if (major < 5 || (major === 5 && minor < 19)) {
    throw new HostError(
      `iommulator run needs Linux 5.19 or newer (this is ${platform.kernel}): boot a newer kernel`,
    );
  }
  if ((platform.ptraceScope ?? 0) >= 2 && !(platform.ptraceScope === 2 && platform.privileged)) {
    throw new HostError(
      `kernel.yama.ptrace_scope is ${platform.ptraceScope}, which forbids reading the memory of child processes: set it to 1 or 0`,
    );
  }
  return arch;
}

function readNumber(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}
