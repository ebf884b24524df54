// SPDX-License-Identifier: Apache-2.0
/** exec and exit: the last moment at which the pages of a whole address space can be saved. */
import { accessSync, constants } from 'node:fs';
import type { CallHost, Handlers } from './call_host.ts';
import type { ProcessMm } from './process_mm.ts';
import { pathSeenBy } from './paths.ts';
import { childrenOf, readStatus } from './proc_read.ts';
import { AT_EMPTY_PATH, AT_FDCWD, RLIMIT_NOFILE } from './uapi.ts';

const EVERYTHING = 0xffff_ffff_ffff_ffffn;

/**
 * `nofile` is the soft limit of descriptors that the program gets: it is set at the first exec, so that our own never changes.
 */
export function execCalls(host: CallHost, nofile: number | undefined): Handlers {
  const { notification: call, arch, clients } = host;
  const handlers: Handlers = [];
  let started = false;

  const startProgram = (): void => {
    started = true;
    if (nofile === undefined) return;
    const { libc, arena, scratch } = host;
    const limit = arena.base + scratch;
    const nr = arch.calls.prlimit64;
    if (libc.call6(nr, call.tid, RLIMIT_NOFILE, 0, limit, 0, 0) !== 0) return;
    arena.writeWord(scratch, nofile);
    libc.call6(nr, call.tid, RLIMIT_NOFILE, limit, 0, 0, 0);
  };

  /** Saves the pages of an address space that ends with this call: not where somebody else goes on using it (vfork). */
  const saveAll = (): void => {
    if (!clients.anyPins()) return;
    const mm = clients.pinnedMmOf(call.tid);
    if (mm === undefined || sharedWithOthers(mm)) return;
    clients.enterCall(mm, call.tid);
    mm.pinObserver?.release(0n, EVERYTHING);
  };
  const sharedWithOthers = (mm: ProcessMm): boolean => {
    const status = readStatus(call.tid);
    const field = (name: string): number =>
      Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? 0);
    const tgid = field('Tgid');
    for (const user of mm.users) if (user !== tgid) return true;
    return clients.shareMm(tgid, field('PPid'));
  };

  const exec = (dirfd: number, pathIndex: number, flags: number): void => {
    if (!started) startProgram();
    if (clients.anyPins() && wouldStart(dirfd, pathIndex, flags)) saveAll();
    clients.execStarts(call.tid);
    host.cache.changes(call.tid);
    call.resume();
  };
  /** Whether the file is there to be executed: execvp tries one directory after the other. */
  const wouldStart = (dirfd: number, pathIndex: number, flags: number): boolean => {
    const path = host.transfer.readString(call.tid, call.big(pathIndex), 4096);
    if (path === undefined) return false;
    if (path === '' && flags & AT_EMPTY_PATH) return true;
    try {
      const seen = pathSeenBy(call.tid, dirfd, path);
      accessSync(Buffer.from(seen, 'latin1'), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };

  handlers[arch.calls.execve] = () => exec(AT_FDCWD, 0, 0);
  handlers[arch.calls.execveat] = () => exec(call.int(0), 1, call.uint(4));
  handlers[arch.calls.exit_group] = () => {
    if (clients.anyPins() && !isAlone(call.tid)) saveAll();
    call.resume();
  };
  handlers[arch.calls.exit] = () => {
    // One thread ends. Only the last one takes the address space with it.
    if (clients.anyPins() && /^Threads:\s*1$/m.test(readStatus(call.tid))) {
      saveAll();
    }
    call.resume();
  };
  return handlers;
}

/**
 * Whether the caller's process is the last of the run: then its descriptors close with it, nothing is left that could look at a
 * pinned page, and gigabytes need not be copied. False where Linux does not tell (CONFIG_PROC_CHILDREN).
 */
function isAlone(tid: number): boolean {
  try {
    const tgid = Number(/^Tgid:\s*(\d+)/m.exec(readStatus(tid))?.[1]);
    const [only, ...others] = childrenOf('self');
    return only === tgid && others.length === 0 && childrenOf(tgid).length === 0;
  } catch {
    return false;
  }
}
