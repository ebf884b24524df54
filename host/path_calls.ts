// SPDX-License-Identifier: Apache-2.0
/** System calls that take a path: opens, stats, access and readlink of our device nodes. Others go on to Linux. */
import type { SyscallName, OldSyscallName } from './arch.ts';
import type { CallHost, Handlers } from './call_host.ts';
import type { ClientTask } from './client_task.ts';
import type { Device } from './device.ts';
import {
  anonymousFile,
  DEVTMPFS_MINOR,
  type NodeFacts,
  permits,
  statBytes,
  statxBytes,
} from './node_stat.ts';
import type { Place } from './file_tree.ts';
import { DevicePaths, type FoundDevice, type ProcPath, parseProcPath } from './paths.ts';
import { openDevice } from './open_device.ts';
import { openFailNth } from './fail_nth.ts';
import { openStatus } from './proc_status.ts';
import { treeCalls } from './tree_calls.ts';
import {
  AT_EACCESS,
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  EXDEV,
  O_CREAT,
  O_NOFOLLOW,
  O_WRONLY,
  S_IFCHR,
} from './uapi.ts';

const PATH_MAX = 4096;
const EINVAL = 22;
const EFAULT = 14;
const ENOTDIR = 20;
const EACCES = 13;
const ENXIO = 6;
const ESRCH = 3;
const ENODATA = 61;
const RESOLVE_BENEATH = 8n;
/** Bytes of the first version of `struct open_how`. */
const OPEN_HOW_BYTES = 24;
/** Inode numbers of the nodes; devtmpfs counts from 1. */
const FIRST_NODE_INODE = 700;

export function pathCalls(host: CallHost): Handlers {
  const { notification: call, transfer, arch } = host;
  const paths = new DevicePaths(host.devices);
  const { tree } = host;
  const files = tree === undefined ? undefined : treeCalls(host, tree);
  const seconds = Math.floor(Date.now() / 1000);
  const handlers: Handlers = [];

  const on = (name: SyscallName | OldSyscallName, handler: () => void): void => {
    const nr = (arch.calls as Readonly<Partial<Record<string, number>>>)[name];
    if (nr !== undefined) handlers[nr] = handler;
  };
  const pathAt = (index: number): string | undefined =>
    transfer.readString(call.tid, call.big(index), PATH_MAX);
  /** What a path means here: one of our device nodes, a place that the private tree has a say in, or undefined. */
  const locate = (
    dirfd: number,
    path: string,
    follow: boolean,
  ): FoundDevice | Place | undefined => {
    const found = paths.find(call.tid, dirfd, path);
    if (found !== undefined || tree === undefined) return found;
    const place = tree.find(call.tid, dirfd, path, follow);
    if (place?.at !== 'tree' || place.node.kind !== 'device') return place;
    const device = paths.at(place.path);
    return device === undefined ? undefined : { device, asDirectory: false };
  };
  const nodeOf = (device: Device): NodeFacts => ({
    mode: S_IFCHR | device.mode,
    rdev: device.rdev,
    minor: DEVTMPFS_MINOR,
    uid: host.owner.uid,
    gid: host.owner.gid,
    inode: FIRST_NODE_INODE + host.devices.indexOf(device),
    seconds,
  });
  const mayAccess = (task: ClientTask, node: NodeFacts, wanted: number, real: boolean): boolean => {
    const ids = task.ids();
    return permits(node, wanted, {
      uid: real ? ids.real : ids.fsuid,
      gid: ids.fsgid,
      groups: ids.groups,
      capable: (capability) => task.capable(capability),
    });
  };

  const open = (dirfd: number, path: string | undefined, flags: number, resolve: bigint): void => {
    if (path === undefined) return void call.resume();
    const found = locate(dirfd, path, (flags & O_NOFOLLOW) === 0);
    if (found === undefined) return openProc(path, flags);
    if (resolve & RESOLVE_BENEATH && path.startsWith('/')) return void call.reply(-EXDEV);
    if ('at' in found) return files?.open(found, flags);
    const task = host.clients.verified(call.tid);
    if (task === undefined) return void call.reply(-ESRCH);
    if (found.asDirectory) return void call.reply(-ENOTDIR);
    const node = nodeOf(found.device);
    openDevice(host, task, found.device, flags, (wanted) => mayAccess(task, node, wanted, false));
  };

  const openProc = (path: string, flags: number): void => {
    const proc = parseProcPath(path);
    if (proc?.kind === 'status' && openStatus(host, proc.pid, flags)) return;
    if (proc?.kind === 'fail-nth' && openFailNth(host, proc.pid, flags)) return;
    if (proc?.kind !== 'fd') return void call.resume();
    const ours = fileAt(proc);
    if (ours === undefined) return void call.resume();
    // Linux opens the node again and makes a new context; a file without a node cannot be opened.
    const { device } = ours;
    if (device === undefined) return void call.reply(-ENXIO);
    const task = host.clients.verified(call.tid);
    if (task === undefined) return void call.reply(-ESRCH);
    openDevice(host, task, device, flags, (wanted) =>
      mayAccess(task, nodeOf(device), wanted, false),
    );
  };

  const fileAt = (proc: ProcPath & { kind: 'fd' }) => {
    if (proc.fd < host.range.low || proc.fd >= host.range.high) return undefined;
    const task = host.clients.verified(proc.pid ?? call.tid);
    const file = task?.files.identify(proc.fd);
    return typeof file === 'object' ? file : undefined;
  };

  const openHow = (): void => {
    const how = new Uint8Array(OPEN_HOW_BYTES);
    if (call.word(3) < OPEN_HOW_BYTES || !transfer.read(call.tid, call.big(2), how)) {
      return void call.resume();
    }
    const view = new DataView(how.buffer);
    open(call.int(0), pathAt(1), view.getUint32(0, true), view.getBigUint64(16, true));
  };

  /** Writes the answer of a stat where `address` points; `undefined` lets Linux answer. */
  const answerStat = (node: NodeFacts | undefined, address: bigint, isStatx: boolean): void => {
    if (node === undefined) return void call.resume();
    const bytes = isStatx ? statxBytes(node) : statBytes(arch.stat, node);
    call.reply(transfer.write(call.tid, address, bytes) ? 0 : -EFAULT);
  };
  const statPath = (follow: boolean): void => {
    const path = pathAt(0);
    if (path === undefined) return void call.resume();
    statPlace(AT_FDCWD, path, follow, call.big(1), undefined);
  };
  const statPlace = (
    dirfd: number,
    path: string,
    follow: boolean,
    buffer: bigint,
    statx: number | undefined,
  ): void => {
    const found = locate(dirfd, path, follow);
    if (found !== undefined && 'at' in found) {
      return files?.stat(found, buffer, follow, statx);
    }
    if (found?.asDirectory === true) return void call.reply(-ENOTDIR);
    const node = found === undefined ? undefined : nodeOf(found.device);
    answerStat(node, buffer, statx !== undefined);
  };
  const nodeOfFd = (fd: number): NodeFacts | undefined => {
    const file = host.clients.verified(call.tid)?.files.identify(fd);
    if (typeof file !== 'object') return undefined;
    return file.device === undefined ? anonymousFile(seconds) : nodeOf(file.device);
  };
  const statAt = (flags: number, buffer: bigint, isStatx: boolean): void => {
    const path = pathAt(1);
    if (path === undefined) return void call.resume();
    if (path === '') {
      const node = flags & AT_EMPTY_PATH ? nodeOfFd(call.int(0)) : undefined;
      return answerStat(node, buffer, isStatx);
    }
    const follow = (flags & AT_SYMLINK_NOFOLLOW) === 0;
    statPlace(call.int(0), path, follow, buffer, isStatx ? call.uint(3) : undefined);
  };

  const access = (dirfd: number, index: number, mode: number, flags: number): void => {
    const path = pathAt(index);
    const follow = (flags & AT_SYMLINK_NOFOLLOW) === 0;
    const found = path === undefined ? undefined : locate(dirfd, path, follow);
    if (found === undefined) return void call.resume();
    if ('at' in found) return files?.access(found, mode, flags);
    if (found.asDirectory) return void call.reply(-ENOTDIR);
    if (mode & ~7) return void call.reply(-EINVAL);
    const task = host.clients.verified(call.tid);
    const real = (flags & AT_EACCESS) === 0;
    const allowed =
      task !== undefined && (mode === 0 || mayAccess(task, nodeOf(found.device), mode, real));
    call.reply(allowed ? 0 : -EACCES);
  };

  const readlink = (dirfd: number, index: number): void => {
    const path = pathAt(index);
    if (path === undefined) return void call.resume();
    const found = locate(dirfd, path, false);
    if (found !== undefined && 'at' in found) {
      return files?.readlink(found, call.big(index + 1), call.int(index + 2));
    }
    if (found !== undefined) return void call.reply(found.asDirectory ? -ENOTDIR : -EINVAL);
    const shown = tree?.linkOfProc(call.tid, path);
    if (shown !== undefined) {
      const bytes = Buffer.from(shown).subarray(0, Math.max(0, call.int(index + 2)));
      const done = transfer.write(call.tid, call.big(index + 1), bytes);
      return void call.reply(done ? bytes.length : -EFAULT);
    }
    const proc = parseProcPath(path);
    const ours = proc?.kind === 'fd' ? fileAt(proc) : undefined;
    const size = call.int(index + 2);
    if (ours === undefined || size <= 0) return void call.resume();
    const text = Buffer.from(ours.file.name).subarray(0, size);
    call.reply(transfer.write(call.tid, call.big(index + 1), text) ? text.length : -EFAULT);
  };

  /** Nothing of ours has extended attributes: `result` says so. */
  const xattr = (follow: boolean, result: number): void => {
    const path = pathAt(0);
    const found = path === undefined ? undefined : locate(AT_FDCWD, path, follow);
    const isOurs =
      found !== undefined && !('at' in found && found.at !== 'nowhere' && found.isPlain);
    if (isOurs) call.reply(result);
    else call.resume();
  };

  on('open', () => open(AT_FDCWD, pathAt(0), call.uint(1), 0n));
  on('creat', () => open(AT_FDCWD, pathAt(0), O_CREAT | O_WRONLY, 0n));
  on('openat', () => open(call.int(0), pathAt(1), call.uint(2), 0n));
  on('openat2', openHow);
  on('stat', () => statPath(true));
  on('lstat', () => statPath(false));
  on('fstat', () => answerStat(nodeOfFd(call.int(0)), call.big(1), false));
  on('newfstatat', () => statAt(call.uint(3), call.big(2), false));
  on('statx', () => statAt(call.uint(2), call.big(4), true));
  on('access', () => access(AT_FDCWD, 0, call.int(1), 0));
  on('faccessat', () => access(call.int(0), 1, call.int(2), 0));
  on('faccessat2', () => access(call.int(0), 1, call.int(2), call.int(3)));
  on('getxattr', () => xattr(true, -ENODATA));
  on('lgetxattr', () => xattr(false, -ENODATA));
  on('listxattr', () => xattr(true, 0));
  on('llistxattr', () => xattr(false, 0));
  on('readlink', () => readlink(AT_FDCWD, 0));
  on('readlinkat', () => readlink(call.int(0), 1));
  return handlers;
}
