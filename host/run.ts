// SPDX-License-Identifier: Apache-2.0
import { closeSync } from 'node:fs';
import { setImmediate } from 'node:timers';
import { Cleanup } from '../src/base/cleanup.ts';
import { ErrnoError } from '../src/base/errno.ts';
import { findCommand, NOT_EXECUTABLE, NOT_FOUND } from './command.ts';
import type { Device, Served, Timers } from './device.ts';
import { buildFilter, type FdRange } from './filter.ts';
import { readInherited } from './inherited.ts';
import { openLibc } from './libc.ts';
import type { Observer } from './observer.ts';
import { ownCode } from './own_code.ts';
import { checkPlatform, type Platform, thisPlatform } from './platform.ts';
import type { ProcessMm } from './process_mm.ts';
import { prepareSpawn } from './spawn.ts';
import type { Stats } from './supervisor.ts';
import { PR_SET_CHILD_SUBREAPER } from './uapi.ts';

export interface RunOptions {
  /** The program and its arguments; looked up in PATH unless it holds a slash. */
  readonly command: readonly string[];
  /** What clients can open; a function is called while the program's thread is being made, to load an engine meanwhile. */
  readonly devices: readonly Device[] | (() => Promise<Served>);
  readonly observer?: Observer;
  /** Do not stop the calls that only matter for pages that are pinned while a client gives them up. */
  readonly fast?: boolean;
  /** Let clients use io_uring, whose operations we do not see. */
  readonly allowIoUring?: boolean;
  /** Answer privileged requests as for root, except where a client gave up a capability that it had. */
  readonly asRoot?: boolean;
  /** The n-th fault point of the run fails. */
  readonly failNth?: number;
  /** See after each injected failure that nothing has changed; the observer is told what has. */
  readonly check?: boolean;
  /** Called once for each address space, before the engine sees it: the place to set its `pinObserver`. */
  readonly onMm?: (mm: ProcessMm) => void;
  /** Work of the engine that is due by time. */
  readonly timers?: Timers;
  /** For tests: another machine than this one. */
  readonly platform?: Platform;
}

export interface RunResult {
  /** The program's: its exit code, 128 + signal, 127 not found, 126 not executable. */
  readonly exitStatus: number;
  /** Why it was not started; empty where it was. */
  readonly why: string;
  readonly stats: Stats;
  /** Fault points that were passed, as far as they were counted. */
  readonly faultPoints?: number;
}

const RANGE_HIGH = 1024;
const RANGE_NUMBERS = 256;
const WNOHANG = 1;
const PROBE_BYTES = (1 << 20) + 4096;
const ENOENT = 2;

/** Numbers for our descriptors under a soft limit: the highest, but within reach of select(2), and never more than a quarter. */
export function chooseRange(nofile: number | undefined): FdRange {
  const high = Math.min(nofile ?? RANGE_HIGH, RANGE_HIGH);
  return { low: high - Math.min(RANGE_NUMBERS, high >> 2), high };
}

/** What serving needs, and the devices to serve. */
async function load(devices: RunOptions['devices']) {
  const { Supervisor } = await import('./supervisor.ts');
  const { Signals } = await import('./signals.ts');
  const { probePermissions } = await import('./permissions.ts');
  const known: Served = typeof devices === 'function' ? await devices() : { devices };
  return { Supervisor, Signals, probePermissions, known };
}

/**
 * Runs a program and serves its devices until the last process that came of it has ended.
 * Throws HostError where this machine does not allow it; anything else that is thrown is a bug of ours or of the engine.
 */
export async function run(options: RunOptions): Promise<RunResult> {
  ErrnoError.keepsStack = false;
  const arch = checkPlatform(options.platform ?? thisPlatform());
  const libc = openLibc();
  const inherited = readInherited();
  const found = findCommand(options.command, process.env['PATH']);
  if ('exitStatus' in found) {
    return { ...found, stats: { calls: new Map() } };
  }
  const range = chooseRange(inherited.nofile);
  const filter = buildFilter(arch, {
    range,
    fast: options.fast ?? false,
    allowIoUring: options.allowIoUring ?? false,
    asRoot: options.asRoot ?? false,
    ownCode: ownCode(),
  });
  const arena = libc.newArena(4096);
  // A new thread takes 25 ms to start: the rest is loaded meanwhile.
  const spawning = prepareSpawn(libc, arena, arch, filter, found.path, found.argv, inherited);
  spawning.catch(() => undefined);
  let loaded: Awaited<ReturnType<typeof load>>;
  try {
    loaded = await load(options.devices);
  } catch (error) {
    // The thread waits for us: it has to be told, or the process would never end.
    const spawner = await spawning;
    spawner.end();
    closeSync(spawner.listener);
    throw error;
  }
  const { Supervisor, Signals, probePermissions, known } = loaded;
  const spawner = await spawning;
  // Daemons that the program leaves behind become ours: their memory stays in reach, and the run knows when they end.
  libc.call6(arch.calls.prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0);

  const status = arena.take(4);
  let waitStatus: number | undefined;
  const collect = (pid: number, flags: number): number => {
    const got = libc.waitpid(pid, arena.base + status, flags);
    if (got > 0 && got === spawner.spawned()) waitStatus = arena.i32[status >>> 2];
    return got;
  };
  const passOn = (signal: NodeJS.Signals): void => {
    const pid = spawner.spawned();
    if (pid > 0 && waitStatus === undefined) process.kill(pid, signal);
  };
  const reap = (): void => {
    while (collect(-1, WNOHANG) > 0);
  };
  const undo = new Cleanup();
  undo.defer(() => closeSync(spawner.listener));
  undo.defer(() => spawner.end());
  try {
    const permissions = probePermissions(libc, libc.newArena(PROBE_BYTES), arch);
    const signals = new Signals(libc, arena, passOn, reap);
    undo.defer(() => signals.close());
    const supervisor = new Supervisor(libc, arch, spawner.listener, signals.pipe, {
      served: known,
      observer: options.observer ?? {},
      range,
      asRoot: options.asRoot ?? false,
      failNth: options.failNth ?? 0,
      check: options.check ?? false,
      permissions,
      allowIoUring: options.allowIoUring ?? false,
      nofile: inherited.nofile,
      timers: options.timers,
      onMm: options.onMm ?? (() => undefined),
      mayYield: () => spawner.threadGone(),
    });
    undo.defer(() => supervisor.close());
    // A bug of ours or of the engine must not leave clients behind that go on with half an answer.
    let finished = false;
    undo.defer(() => {
      if (!finished) supervisor.killClients();
    });
    spawner.go();
    while (supervisor.serve() === 'signal') await new Promise<void>((next) => setImmediate(next));
    finished = true;
    const pid = spawner.spawned();
    if (pid < 0) {
      return {
        exitStatus: -pid === ENOENT ? NOT_FOUND : NOT_EXECUTABLE,
        why: `${found.path}: cannot be executed (errno ${-pid})`,
        stats: supervisor.stats,
      };
    }
    if (waitStatus === undefined) collect(pid, 0);
    return {
      exitStatus: exitStatusOf(waitStatus ?? 0),
      why: '',
      stats: supervisor.stats,
      faultPoints: supervisor.injection.passed,
    };
  } finally {
    undo.run();
  }
}

/** What a shell shows for a wait status. */
export function exitStatusOf(waitStatus: number): number {
  const signal = waitStatus & 0x7f;
  return signal === 0 ? (waitStatus >> 8) & 0xff : 128 + signal;
}
