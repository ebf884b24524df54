// SPDX-License-Identifier: Apache-2.0
/** Starts the program under the filter, from the main thread's side: see spawn_thread.ts for the other. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import { HostError } from './host_error.ts';
import type { Inherited } from './inherited.ts';
import type { Libc } from './libc.ts';
import { Notification } from './notification.ts';
import { spawnThread } from './spawn_thread.ts';
import {
  F_GETFL,
  F_SETFL,
  O_NONBLOCK,
  POLLIN,
  PR_SET_NO_NEW_PRIVS,
  SECCOMP_FILTER_FLAG_NEW_LISTENER,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
  SECCOMP_SET_MODE_FILTER,
} from './uapi.ts';

/** Words that both threads share (Int32Array indices). */
const word = {
  /** 1 once `listener` is set. */
  ready: 0,
  /** The listener's descriptor, or `-errno` of seccomp(2). */
  listener: 1,
  /** Set to 1 by the main thread: start the program; 2: end without. */
  go: 2,
  /** The program's pid, or `-errno` of posix_spawn; 0 while unknown. */
  spawned: 3,
  /** The thread's id. */
  thread: 4,
} as const;

const flag = {
  POSIX_SPAWN_SETSIGDEF: 4,
  POSIX_SPAWN_SETSIGMASK: 8,
  SECCOMP_SET_MODE_FILTER,
  filterFlags:
    SECCOMP_FILTER_FLAG_NEW_LISTENER |
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV |
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
  PR_SET_NO_NEW_PRIVS,
  F_GETFL,
  F_SETFL,
  O_NONBLOCK,
  EACCES: 13,
  SIGCHLD: 17,
} as const;

/** What the spawning thread needs; plain data, since it crosses a thread boundary. */
export interface SpawnOrder {
  readonly control: SharedArrayBuffer;
  readonly word: typeof word;
  readonly flag: typeof flag;
  readonly call: { readonly seccomp: number; readonly prctl: number; readonly gettid: number };
  readonly filter: Uint8Array;
  readonly path: Uint8Array;
  readonly argv: readonly Uint8Array[];
  readonly environment: readonly Uint8Array[];
  readonly ignored: bigint;
  readonly ignoredSignals: readonly number[];
  readonly blocked: bigint;
  readonly fds: Inherited['fds'];
  /** Of 0-2, those that were closed: Node opens /dev/null there. */
  readonly closed: readonly number[];
}

export interface Spawner {
  readonly listener: number;
  /** Lets the thread start the program. Notifications arrive from now on, the first being its exec. */
  go(): void;
  /**
   * Ends the thread, without starting anything if that has not happened yet, and returns when it is gone. A thread whose
   * listener is closed could not even exit: its calls would all fail.
   */
  end(): void;
  /** The program's pid, `-errno` where exec failed, 0 while it is not known. */
  spawned(): number;
  /** Whether the spawning thread has ended; before, the event loop must not run: it would wait for the thread, which may wait for us. */
  threadGone(): boolean;
}

/** Throws HostError where the kernel does not let us install the filter. */
export async function prepareSpawn(
  libc: Libc,
  arena: Arena,
  arch: Arch,
  filter: Uint8Array,
  path: string,
  argv: readonly string[],
  inherited: Inherited,
): Promise<Spawner> {
  const control = new SharedArrayBuffer(64);
  const words = new Int32Array(control);
  const { seccomp, prctl, gettid } = arch.calls;
  const order: SpawnOrder = {
    control,
    word,
    flag,
    call: { seccomp, prctl, gettid },
    filter,
    path: Buffer.from(path),
    argv: argv.map((item) => Buffer.from(item)),
    environment: inherited.environment,
    ignored: inherited.ignored,
    ignoredSignals: signalsOf(inherited.ignored),
    blocked: inherited.blocked,
    fds: inherited.fds,
    closed: [0, 1, 2].filter((fd) => !inherited.fds.some((item) => item.fd === fd)),
  };
  const koffi = createRequire(import.meta.url).resolve('koffi');
  const text = `(${String(spawnThread)})(require(${JSON.stringify(koffi)}), require('node:worker_threads').workerData)`;
  const worker = new Worker(text, { eval: true, workerData: order });
  const failed = new Promise<never>((_, reject) => worker.once('error', reject));
  failed.catch(() => undefined);
  // In the language since ES2024; Node has it since 16.
  const { waitAsync } = Atomics as unknown as {
    waitAsync(words: Int32Array, index: number, value: number): { value: unknown };
  };
  await Promise.race([waitAsync(words, word.ready, 0).value, failed]);
  const listener = Atomics.load(words, word.listener);
  if (listener < 0) {
    await worker.terminate();
    throw new HostError(seccompFailure(-listener));
  }
  worker.unref();
  const tell = (value: number): void => {
    Atomics.store(words, word.go, value);
    Atomics.notify(words, word.go);
  };
  const gone = (): boolean => !existsSync(`/proc/self/task/${Atomics.load(words, word.thread)}`);
  const pollfd = arena.take(8);
  return {
    listener,
    go: () => tell(1),
    end() {
      if (gone()) return;
      tell(2);
      const call = new Notification(libc, arena, arch, listener);
      while (!gone()) {
        arena.i32[pollfd >>> 2] = listener;
        arena.i32[(pollfd >>> 2) + 1] = POLLIN;
        const ready = libc.poll(arena.base + pollfd, 1, 5);
        if (ready === 1 && call.receive()) call.resume();
      }
    },
    spawned: () => Atomics.load(words, word.spawned),
    threadGone: gone,
  };
}

function signalsOf(set: bigint): number[] {
  return Array.from({ length: 64 }, (_, index) => index + 1).filter(
    (signal) => ((set >> BigInt(signal - 1)) & 1n) === 1n,
  );
}

function seccompFailure(errno: number): string {
  const [EINVAL, EBUSY, ENOSYS] = [22, 16, 38];
  if (errno === ENOSYS || errno === EINVAL) {
    return 'this kernel has no seccomp user notification (CONFIG_SECCOMP_FILTER, Linux 5.19 or newer): run on such a kernel';
  }
  if (errno === EBUSY) {
    return 'another supervisor already listens to the system calls of this process (a container manager or a second iommulator run): start iommulator outside it';
  }
  return `seccomp(2) is not permitted here (errno ${errno}): allow it, in a container with --security-opt seccomp=unconfined`;
}
