// SPDX-License-Identifier: Apache-2.0
/**
 * Which of the paths that clients pass mean one of our devices. Nearly all mean something else, and are told apart by
 * their last component alone.
 */
import { readlinkSync, realpathSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path/posix';
import type { Device } from './device.ts';
import { AT_FDCWD } from './uapi.ts';

export interface FoundDevice {
  readonly device: Device;
  /** The path ended in a slash: ENOTDIR. */
  readonly asDirectory: boolean;
}

/** A path of /proc that we answer in part. `pid` undefined is the caller. */
export type ProcPath =
  | { readonly kind: 'fd'; readonly pid: number | undefined; readonly fd: number }
  | { readonly kind: 'status' | 'fail-nth'; readonly pid: number | undefined };

export class DevicePaths {
  private readonly byPath = new Map<string, Device>();
  private readonly names = new Set<string>();

  constructor(devices: readonly Device[]) {
    for (const device of devices) {
      this.byPath.set(device.path, device);
      this.names.add(device.path.slice(device.path.lastIndexOf('/') + 1));
    }
  }

  /** The device that `path` means to thread `tid`, relative to descriptor `dirfd` (AT_FDCWD: its working directory). */
  find(tid: number, dirfd: number, path: string): FoundDevice | undefined {
    let end = path.length;
    while (end > 1 && path.charCodeAt(end - 1) === 47) end -= 1;
    const slash = path.lastIndexOf('/', end - 1);
    const name = path.slice(slash + 1, end);
    if (!this.names.has(name)) return undefined;
    const device = this.resolve(tid, dirfd, path.slice(0, end));
    return device === undefined ? undefined : { device, asDirectory: end < path.length };
  }

  /** The device with exactly this path. */
  at(path: string): Device | undefined {
    return this.byPath.get(path);
  }

  private resolve(tid: number, dirfd: number, path: string): Device | undefined {
    const exact = this.byPath.get(path);
    if (exact !== undefined) return exact;
    try {
      const root = readlinkSync(`/proc/${tid}/root`);
      const base = path.startsWith('/') ? root : baseOf(tid, dirfd);
      const whole = join(base, path);
      const plain = this.byPath.get(withoutRoot(normalize(whole), root));
      if (plain !== undefined) return plain;
      // The directory may be a symbolic link, or a link may make ".." mean something else.
      const name = whole.slice(whole.lastIndexOf('/') + 1);
      const parent = withoutRoot(realpathSync(dirname(whole)), root);
      return this.byPath.get(join(parent, name));
    } catch {
      // No such directory, or not a directory: Linux will say so itself.
      return undefined;
    }
  }
}

/** The path as one of those in /proc (and /dev/fd) that we answer in part, or undefined. */
export function parseProcPath(path: string): ProcPath | undefined {
  const last = path.charCodeAt(path.length - 1);
  if ((last === 115 && path.endsWith('/status')) || (last === 104 && path.endsWith('/fail-nth'))) {
    const match = /^\/proc\/(self|thread-self|\d+)(?:\/task\/(\d+))?\/(status|fail-nth)$/.exec(
      path,
    );
    if (match === null) return undefined;
    const kind = match[3] === 'status' ? 'status' : 'fail-nth';
    return { kind, pid: pidOf(match[2] ?? match[1]) };
  }
  if (last < 48 || last > 57 || !path.includes('/fd/')) return undefined;
  const match = /^(?:\/dev|\/proc\/(self|thread-self|\d+)(?:\/task\/(\d+))?)\/fd\/(\d+)$/.exec(
    path,
  );
  if (match === null) return undefined;
  return { kind: 'fd', pid: pidOf(match[2] ?? match[1]), fd: Number(match[3]) };
}

function pidOf(text: string | undefined): number | undefined {
  return text === undefined || !/^\d/.test(text) ? undefined : Number(text);
}

/**
 * A path of thread `tid` as one that means the same file to us: under its root, from its working directory or
 * descriptor, with its own /proc/self. Throws where the directory cannot be named.
 */
export function pathSeenBy(tid: number, dirfd: number, path: string): string {
  if (!path.startsWith('/')) {
    return `/proc/${tid}/${dirfd === AT_FDCWD ? 'cwd' : `fd/${dirfd}`}/${path}`;
  }
  const own = path.replace(/^\/proc\/self(?=\/)/, `/proc/${tid}`);
  const root = readlinkSync(`/proc/${tid}/root`);
  return root === '/' ? own : root + own;
}

function baseOf(tid: number, dirfd: number): string {
  return readlinkSync(dirfd === AT_FDCWD ? `/proc/${tid}/cwd` : `/proc/${tid}/fd/${dirfd}`);
}

function withoutRoot(path: string, root: string): string {
  return root !== '/' && path.startsWith(`${root}/`) ? path.slice(root.length) : path;
}
