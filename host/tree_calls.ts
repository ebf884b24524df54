// SPDX-License-Identifier: Apache-2.0
/** The calls that take a path, on places of the private tree. The tree's files are real: what Linux would do with them, it does, for us. */
import { closeSync, openSync, readlinkSync } from 'node:fs';
import { geteuid } from 'node:process';
import type { CallHost } from './call_host.ts';
import type { Place } from './file_tree.ts';
import { errnoOf } from './open_files.ts';
import type { PrivateTree } from './private_tree.ts';
import {
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  ELOOP,
  O_ACCMODE,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
} from './uapi.ts';

const EACCES = 13;
const EEXIST = 17;
const EFAULT = 14;
const EINVAL = 22;
const ENAMETOOLONG = 36;
const O_TRUNC = 0o1000;
const PATH_BYTES = 4096;
const STATX_BYTES = 256;

export interface TreeCalls {
  open(place: Place, flags: number): void;
  /** stat and its relatives; `statx` is its mask of fields. */
  stat(place: Place, buffer: bigint, follow: boolean, statx: number | undefined): void;
  access(place: Place, mode: number, flags: number): void;
  readlink(place: Place, buffer: bigint, size: number): void;
}

export function treeCalls(host: CallHost, tree: PrivateTree): TreeCalls {
  const { notification: call, transfer, arena, libc, arch } = host;
  const pathArea = arena.take(PATH_BYTES);
  const answer = arena.take(Math.max(STATX_BYTES, arch.stat.size));

  /** Whether the caller has our own rights, so that what we can open in its name is what it could have opened. */
  const isOurselves = (): boolean =>
    host.clients.verified(call.tid)?.ids().fsuid === (geteuid?.() ?? -1);

  /** The real path to do the call on; undefined where it was answered (refused, or left to Linux). */
  const realOf = (place: Place, forListing: boolean): string | undefined => {
    if (place.at === 'nowhere') {
      call.reply(-place.errno);
      return undefined;
    }
    if (place.at === 'tree') {
      if (place.node.kind !== 'directory') return tree.real(place.path);
      if (!tree.isHosts(place.path, forListing)) {
        return forListing ? tree.realDirectory(place.path) : tree.real(place.path);
      }
    }
    if (place.isPlain) {
      call.resume();
      return undefined;
    }
    if (isOurselves()) return place.path;
    call.reply(-EACCES);
    return undefined;
  };

  /** Runs a call of Linux on a path, which stands first in our arena. */
  const onPath = (path: string, run: (address: number) => number): number => {
    if (Buffer.byteLength(path) >= PATH_BYTES) return -ENAMETOOLONG;
    arena.writeString(pathArea, path);
    const result = run(arena.base + pathArea);
    return result < 0 ? -libc.errno() : result;
  };

  return {
    open(place, flags) {
      if (place.at === 'nowhere' && place.parent !== undefined && flags & O_CREAT) {
        return void call.reply(-EACCES);
      }
      const exclusive = O_CREAT | O_EXCL;
      if (place.at === 'tree') {
        if ((flags & exclusive) === exclusive) return void call.reply(-EEXIST);
        const { node } = place;
        if (node.kind === 'link') return void call.reply(-ELOOP);
        const writes = (flags & O_ACCMODE) !== 0;
        if (node.kind === 'file' && writes && !(node.mode & 0o222)) return void call.reply(-EACCES);
      }
      const real = realOf(place, true);
      if (real === undefined) return;
      let fd: number;
      try {
        const kept = flags & ~(O_PATH | O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC);
        fd = openSync(real, place.at === 'tree' ? kept | O_NOFOLLOW : kept);
      } catch (error) {
        return void call.reply(errnoOf(error));
      }
      const result = call.answerWithFd(fd, undefined, flags & O_CLOEXEC);
      closeSync(fd);
      if (result < 0) call.reply(result);
    },

    stat(place, buffer, follow, statx) {
      const real = realOf(place, false);
      if (real === undefined) return;
      const flags = follow && place.at === 'host' ? 0 : AT_SYMLINK_NOFOLLOW;
      const out = arena.base + answer;
      const result = onPath(real, (path) =>
        statx === undefined
          ? libc.call6(arch.calls.newfstatat, AT_FDCWD, path, out, flags, 0, 0)
          : libc.call6(arch.calls.statx, AT_FDCWD, path, flags, statx, out, 0),
      );
      if (result < 0) return void call.reply(result);
      const bytes = statx === undefined ? arch.stat.size : STATX_BYTES;
      const done = transfer.write(call.tid, buffer, arena.u8.subarray(answer, answer + bytes));
      call.reply(done ? 0 : -EFAULT);
    },

    access(place, mode, flags) {
      if (mode & ~7) return void call.reply(-EINVAL);
      const real = realOf(place, false);
      if (real === undefined) return;
      call.reply(
        onPath(real, (path) =>
          place.at === 'tree' && place.node.kind === 'link'
            ? 0
            : libc.call6(arch.calls.faccessat2, AT_FDCWD, path, mode, flags, 0, 0),
        ),
      );
    },

    readlink(place, buffer, size) {
      if (size <= 0) return void call.reply(-EINVAL);
      let target: string | undefined;
      if (place.at === 'tree') {
        target = place.node.kind === 'link' ? place.node.target : undefined;
      } else {
        const real = realOf(place, false);
        if (real === undefined) return;
        try {
          target = readlinkSync(real);
        } catch (error) {
          return void call.reply(errnoOf(error));
        }
      }
      if (target === undefined) return void call.reply(-EINVAL);
      const text = Buffer.from(target).subarray(0, size);
      call.reply(transfer.write(call.tid, buffer, text) ? text.length : -EFAULT);
    },
  };
}
