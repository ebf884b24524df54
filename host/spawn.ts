// SPDX-License-Identifier: Apache-2.0
/** Starts the program under the filter, from the main thread's side: see spawn_worker.ts for the other. */
import { existsSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { HostError } from './host_error.ts';
import type { Inherited } from './inherited.ts';
import { Control } from './spawn_control.ts';

/** What the spawning thread needs; plain data, since it crosses a thread boundary. */
export interface SpawnOrder {
  readonly control: SharedArrayBuffer;
  readonly filter: Uint8Array;
  readonly path: Uint8Array;
  readonly argv: readonly Uint8Array[];
  readonly environment: readonly Uint8Array[];
  readonly ignored: bigint;
  readonly blocked: bigint;
  readonly fds: Inherited['fds'];
}

export interface Spawner {
  readonly listener: number;
  /** Lets the thread start the program. Notifications arrive from now on, the first being its exec. */
  go(): void;
  /** The program's pid, `-errno` where exec failed, 0 while it is not known. */
  spawned(): number;
  /** Whether the spawning thread has ended; before, the event loop must not run: it would wait for the thread, which may wait for us. */
  threadGone(): boolean;
}

/** Throws HostError where the kernel does not let us install the filter. */
export async function prepareSpawn(
  filter: Uint8Array,
  path: string,
  argv: readonly string[],
  inherited: Inherited,
): Promise<Spawner> {
  const control = new SharedArrayBuffer(64);
  const words = new Int32Array(control);
  const order: SpawnOrder = {
    control,
    filter,
    path: Buffer.from(path),
    argv: argv.map((item) => Buffer.from(item)),
    environment: inherited.environment,
    ignored: inherited.ignored,
    blocked: inherited.blocked,
    fds: inherited.fds,
  };
  // Under a test runner the sources run as they are; installed, they are compiled.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = new Worker(new URL(`./spawn_worker.${extension}`, import.meta.url), {
    workerData: order,
  });
  const failed = new Promise<never>((_, reject) => worker.once('error', reject));
  failed.catch(() => undefined);
  // In the language since ES2024; Node has it since 16.
  const { waitAsync } = Atomics as unknown as {
    waitAsync(words: Int32Array, index: number, value: number): { value: unknown };
  };
  await Promise.race([waitAsync(words, Control.ready, 0).value, failed]);
  const listener = Atomics.load(words, Control.listener);
  if (listener < 0) {
    await worker.terminate();
    throw new HostError(seccompFailure(-listener));
  }
  worker.unref();
  return {
    listener,
    go() {
      Atomics.store(words, Control.go, 1);
      Atomics.notify(words, Control.go);
    },
    spawned: () => Atomics.load(words, Control.spawned),
    threadGone: () => !existsSync(`/proc/self/task/${Atomics.load(words, Control.thread)}`),
  };
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
