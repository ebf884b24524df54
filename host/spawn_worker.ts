// SPDX-License-Identifier: Apache-2.0
/**
 * The thread that becomes filtered and starts the program: filters are per thread and inherited by children. From the
 * installation to its end it must not be stopped while it holds a lock that the main thread could want, since it is the main
 * thread that lets it go on. So everything is prepared first, and the filter leaves alone what our own C library does to
 * memory (see own_code.ts), which is what tearing down a JavaScript thread does under locks.
 */
import { readlinkSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { archOf } from './arch.ts';
import { openLibc } from './libc.ts';
import type { SpawnOrder } from './spawn.ts';
import { Control } from './spawn_control.ts';
import {
  F_SETFL,
  O_NONBLOCK,
  PR_SET_NO_NEW_PRIVS,
  SECCOMP_FILTER_FLAG_NEW_LISTENER,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
  SECCOMP_SET_MODE_FILTER,
  F_GETFL,
} from './uapi.ts';

const SETSIGDEF = 4;
const SETSIGMASK = 8;
const EACCES = 13;
const SIGCHLD = 17;

function main(order: SpawnOrder): void {
  const arch = archOf(process.arch);
  if (arch === undefined) throw new Error(`no system call table for ${process.arch}`);
  const libc = openLibc();
  const control = new Int32Array(order.control);
  const strings = [...order.argv, ...order.environment];
  const room = strings.reduce((sum, item) => sum + item.length + 16, 65536) + order.filter.length;
  const arena = libc.newArena(room);
  const cString = (bytes: Uint8Array): number => {
    const at = arena.take(bytes.length + 1);
    arena.u8.set(bytes, at);
    return arena.base + at;
  };
  const cStrings = (items: readonly Uint8Array[]): number => {
    const addresses = items.map(cString);
    const at = arena.take((items.length + 1) * 8);
    addresses.forEach((address, index) => arena.writeWord(at + index * 8, address));
    return arena.base + at;
  };
  const attributes = arena.base + arena.take(1024);
  const actions = arena.base + arena.take(1024);
  const signals = arena.take(128);
  const pid = arena.take(8);
  const savedAction = arena.take(256);
  const path = cString(order.path);
  const argv = cStrings(order.argv);
  const environment = cStrings(order.environment);
  const program = arena.take(order.filter.length);
  arena.u8.set(order.filter, program);
  const sockFprog = arena.take(16);
  arena.view.setUint16(sockFprog, order.filter.length / 8, true);
  arena.writeWord(sockFprog + 8, arena.base + program);

  libc.spawnattrInit(attributes);
  libc.spawnattrSetflags(attributes, SETSIGDEF | SETSIGMASK);
  arena.u64[signals >>> 3] = BigInt.asUintN(64, ~order.ignored);
  libc.spawnattrSetsigdefault(attributes, arena.base + signals);
  arena.u64[signals >>> 3] = order.blocked;
  libc.spawnattrSetsigmask(attributes, arena.base + signals);
  libc.spawnActionsInit(actions);
  const open = new Map(order.fds.map((item) => [item.fd, item.nonblock]));
  // A descriptor moved onto itself loses FD_CLOEXEC in the child: Node had set it on what it inherited.
  for (const fd of open.keys()) libc.spawnActionsAdddup2(actions, fd, fd);
  for (const fd of [0, 1, 2]) if (!open.has(fd)) libc.spawnActionsAddclose(actions, fd);

  const seccomp = arch.calls.seccomp;
  const install = (): number =>
    libc.call3(
      seccomp,
      SECCOMP_SET_MODE_FILTER,
      SECCOMP_FILTER_FLAG_NEW_LISTENER |
        SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV |
        SECCOMP_FILTER_FLAG_SPEC_ALLOW,
      arena.base + sockFprog,
    );
  const ignoredList = bitsOf(order.ignored);
  // Functions used below are called once now, so that nothing is compiled or bound after the filter is in place.
  libc.call3(arch.calls.fcntl, -1, F_GETFL, 0);
  Atomics.load(control, Control.go);
  libc.errno();

  Atomics.store(control, Control.thread, ownThreadId());
  let listener = install();
  if (listener < 0 && libc.errno() === EACCES) {
    // Without CAP_SYS_ADMIN a filter is only for those who give up gaining privileges by exec; root keeps setuid programs working.
    libc.call6(arch.calls.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
    listener = install();
  }
  Atomics.store(control, Control.listener, listener < 0 ? -libc.errno() : listener);
  Atomics.store(control, Control.ready, 1);
  Atomics.notify(control, Control.ready);
  if (listener < 0) return;
  Atomics.wait(control, Control.go, 0);
  for (const [fd, nonblock] of open) restoreNonblock(fd, nonblock);
  libc.sigaction(SIGCHLD, 0, arena.base + savedAction);
  for (const signal of ignoredList) libc.signal(signal, 1);
  const result = libc.spawn(arena.base + pid, path, actions, attributes, argv, environment);
  // What the shell ignores we go on ignoring, except the news of our children.
  libc.sigaction(SIGCHLD, arena.base + savedAction, 0);
  Atomics.store(control, Control.spawned, result === 0 ? (arena.i32[pid >>> 2] as number) : -result);

  function restoreNonblock(fd: number, nonblock: boolean): void {
    const flags = libc.fcntl(fd, F_GETFL, 0);
    if (flags < 0 || ((flags & O_NONBLOCK) !== 0) === nonblock) return;
    libc.fcntl(fd, F_SETFL, nonblock ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
  }
}

function ownThreadId(): number {
  return Number(readlinkSync('/proc/thread-self').split('/').pop());
}

function bitsOf(set: bigint): number[] {
  const list: number[] = [];
  for (let signal = 1; signal <= 64; signal += 1) {
    if ((set >> BigInt(signal - 1)) & 1n) list.push(signal);
  }
  return list;
}

main(workerData as SpawnOrder);
