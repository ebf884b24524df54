// SPDX-License-Identifier: Apache-2.0
import type Koffi from 'koffi';
import type { SpawnOrder } from './spawn.ts';

/**
 * The thread that becomes filtered and starts the program: filters are per thread and inherited by children. From the
 * installation to its end it must not be stopped while it holds a lock that the main thread could want, since it is the main
 * thread that lets it go on. So everything is prepared first, and the filter leaves alone what our own C library does to
 * memory (see own_code.ts), which is what tearing down a JavaScript thread does under locks.
 *
 * The function is handed to the thread as text: a thread that loads modules starts 30 ms later. So it must name nothing outside
 * itself; all numbers come with the order.
 */
export function spawnThread(koffi: typeof Koffi, order: SpawnOrder): void {
  const { call, flag, word } = order;
  const control = new Int32Array(order.control);
  const library = koffi.load(null);
  const bind = (name: string, result: string, ...types: string[]): ((...a: number[]) => number) =>
    library.func(name, result, types);
  const p = 'intptr_t';
  const attrInit = bind('posix_spawnattr_init', 'int', p);
  const attrFlags = bind('posix_spawnattr_setflags', 'int', p, 'short');
  const attrDefault = bind('posix_spawnattr_setsigdefault', 'int', p, p);
  const attrMask = bind('posix_spawnattr_setsigmask', 'int', p, p);
  const actionsInit = bind('posix_spawn_file_actions_init', 'int', p);
  const actionsDup2 = bind('posix_spawn_file_actions_adddup2', 'int', p, 'int', 'int');
  const actionsClose = bind('posix_spawn_file_actions_addclose', 'int', p, 'int');
  const spawn = bind('posix_spawn', 'int', p, p, p, p, p, p);
  const syscall = bind('syscall', 'long', 'long', p, p, p, p, p);
  const fcntl = bind('fcntl', 'int', 'int', 'int', p);
  const sigaction = bind('sigaction', 'int', 'int', p, p);
  const signal = bind('signal', p, 'int', p);
  const errno = (): number => koffi.errno();

  // One buffer for everything that C looks at; places in it are multiples of 16.
  const strings = [order.path, ...order.argv, ...order.environment];
  const room = strings.reduce((sum, item) => sum + item.length + 40, 16384) + order.filter.length;
  const bytes = new Uint8Array(new ArrayBuffer(room));
  const view = new DataView(bytes.buffer);
  const base = Number(koffi.address(bytes));
  let end = 0;
  const take = (size: number): number => {
    const at = end;
    end += Math.ceil(size / 16) * 16;
    return at;
  };
  const put = (data: Uint8Array): number => {
    const at = take(data.length + 1);
    bytes.set(data, at);
    return base + at;
  };
  const putAll = (items: readonly Uint8Array[]): number => {
    const addresses = items.map(put);
    const at = take((items.length + 1) * 8);
    addresses.forEach((address, i) => view.setBigUint64(at + i * 8, BigInt(address), true));
    return base + at;
  };
  const attributes = base + take(1024);
  const actions = base + take(1024);
  const savedAction = base + take(256);
  const set = take(128);
  const pid = take(8);
  const path = put(order.path);
  const argv = putAll(order.argv);
  const environment = putAll(order.environment);
  const program = take(16);
  view.setUint16(program, order.filter.length / 8, true);
  view.setBigUint64(program + 8, BigInt(put(order.filter)), true);

  attrInit(attributes);
  attrFlags(attributes, flag.POSIX_SPAWN_SETSIGDEF | flag.POSIX_SPAWN_SETSIGMASK);
  view.setBigUint64(set, BigInt.asUintN(64, ~order.ignored), true);
  attrDefault(attributes, base + set);
  view.setBigUint64(set, order.blocked, true);
  attrMask(attributes, base + set);
  actionsInit(actions);
  // A descriptor moved onto itself loses FD_CLOEXEC in the child: Node had set it on what it inherited.
  for (const { fd } of order.fds) actionsDup2(actions, fd, fd);
  for (const fd of order.closed) actionsClose(actions, fd);

  const install = (): number =>
    syscall(call.seccomp, flag.SECCOMP_SET_MODE_FILTER, flag.filterFlags, base + program, 0, 0);
  Atomics.store(control, word.thread, syscall(call.gettid, 0, 0, 0, 0, 0));
  let listener = install();
  if (listener < 0 && errno() === flag.EACCES) {
    // Without CAP_SYS_ADMIN a filter is only for those who give up gaining privileges by exec; root keeps setuid programs working.
    syscall(call.prctl, flag.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    listener = install();
  }
  Atomics.store(control, word.listener, listener < 0 ? -errno() : listener);
  Atomics.store(control, word.ready, 1);
  Atomics.notify(control, word.ready);
  if (listener < 0) return;
  Atomics.wait(control, word.go, 0);
  if (Atomics.load(control, word.go) !== 1) return;
  for (const { fd, nonblock } of order.fds) {
    const flags = fcntl(fd, flag.F_GETFL, 0);
    if (flags < 0 || ((flags & flag.O_NONBLOCK) !== 0) === nonblock) continue;
    fcntl(fd, flag.F_SETFL, nonblock ? flags | flag.O_NONBLOCK : flags & ~flag.O_NONBLOCK);
  }
  sigaction(flag.SIGCHLD, 0, savedAction);
  for (const number of order.ignoredSignals) signal(number, 1);
  const result = spawn(base + pid, path, actions, attributes, argv, environment);
  // What the shell ignores we go on ignoring, except the news of our children.
  sigaction(flag.SIGCHLD, savedAction, 0);
  Atomics.store(control, word.spawned, result === 0 ? view.getInt32(pid, true) : -result);
}
