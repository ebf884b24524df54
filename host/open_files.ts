// SPDX-License-Identifier: Apache-2.0
/**
 * The open files that clients hold. Each is a memfd of its own: the inode is its identity in any process, whatever the
 * number and however it got there. The client has a second open file description of it, reopened through /proc, which
 * carries an open-file-description lock; ours, from memfd_create, is the witness through which the lock is tested.
 *
 * The last close anywhere is told by inotify (IN_CLOSE on the inode, one queue for all files) and proved by the lock: the event
 * alone would lie where a client reopens the file through its own /proc/self/fd, the lock alone would have to be
 * asked of every file before every call. Linux queues the event a little before it drops the lock, so a close that is
 * seen half done is asked about again at the next call.
 */
import { closeSync, openSync } from 'node:fs';
import type { DeviceFile } from '../src/kernel/file.ts';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import type { Device } from './device.ts';
import { HostError } from './host_error.ts';
import type { Libc } from './libc.ts';
import {
  F_OFD_GETLK,
  F_OFD_SETLK,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  IN_CLOSE,
  IN_IGNORED,
  IN_Q_OVERFLOW,
  MFD_CLOEXEC,
  O_ACCMODE,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
  O_WRONLY,
} from './uapi.ts';

const EVENTS_BYTES = 4096;

/** One open file of ours, alive until its last descriptor anywhere is closed. */
export interface HostFile {
  readonly file: DeviceFile;
  /** The node it was opened through; undefined for files that ioctls make. */
  readonly device: Device | undefined;
  /** O_ACCMODE bits of the open. */
  readonly access: number;
  readonly inode: number;
  /** Where plain read and write go on, in bytes: of the open file, so that all its duplicates share it. */
  position: bigint;
  /** The last close has happened. */
  released: boolean;
}

interface Entry extends HostFile {
  readonly witness: number;
  readonly watch: number;
}

/** A description made for a client and not yet given to it: `fd` is ours to pass on and to close. */
export interface Prepared {
  readonly fd: number;
  /** Binds it to its file; without this, closing `fd` forgets it. */
  commit(file: DeviceFile, device: Device | undefined): HostFile;
  /** Closes our descriptor: from then on only clients hold it (or nobody, which releases it). */
  handOver(): void;
}

export class OpenFiles {
  private readonly libc: Libc;
  private readonly arena: Arena;
  private readonly arch: Arch;
  private readonly onRelease: (file: HostFile) => void;
  /** Descriptor of the inotify queue, for poll. */
  readonly queue: number;
  private readonly byInode = new Map<number, Entry>();
  private readonly byWatch = new Map<number, Entry>();
  private readonly doubtful = new Set<Entry>();
  /** st_dev of the kernel's own mount that all memfds are on. */
  private device = -1;
  private readonly events: number;
  private readonly flock: number;
  private readonly text: number;
  private readonly stat: number;

  constructor(host: { libc: Libc; arena: Arena; arch: Arch }, onRelease: (file: HostFile) => void) {
    this.libc = host.libc;
    this.arena = host.arena;
    this.arch = host.arch;
    this.onRelease = onRelease;
    this.events = host.arena.take(EVENTS_BYTES);
    this.flock = host.arena.take(32);
    this.text = host.arena.take(256);
    this.stat = host.arena.take(host.arch.stat.size);
    this.queue = this.libc.call2(host.arch.calls.inotify_init1, O_NONBLOCK | O_CLOEXEC, 0);
    if (this.queue < 0) {
      throw new HostError(
        `inotify_init1 failed (errno ${this.libc.errno()}): raise fs.inotify.max_user_instances or end programs that hold inotify queues`,
      );
    }
  }

  /** The file with this `st_dev` and `st_ino`, or undefined. A memfd's inode is unique while the file exists. */
  find(device: number, inode: number): HostFile | undefined {
    const found = this.byInode.get(inode);
    return device === this.device ? found : undefined;
  }

  get count(): number {
    return this.byInode.size;
  }

  /** Makes an open file description with the access mode and O_NONBLOCK of `flags`. Returns `-errno` on failure. */
  prepare(name: string, flags: number): Prepared | number {
    this.arena.writeString(this.text, name.slice(0, 200));
    const witness = this.libc.call2(
      this.arch.calls.memfd_create,
      this.arena.base + this.text,
      MFD_CLOEXEC,
    );
    if (witness < 0) return -this.libc.errno();
    const path = `/proc/self/fd/${witness}`;
    const access = flags & O_ACCMODE;
    let fd: number;
    try {
      fd = openSync(path, (flags & (O_ACCMODE | O_NONBLOCK)) | O_CLOEXEC);
    } catch (error) {
      closeSync(witness);
      return errnoOf(error);
    }
    this.lock(fd, access);
    this.arena.writeString(this.text, path);
    const watch = this.libc.call3(
      this.arch.calls.inotify_add_watch,
      this.queue,
      this.arena.base + this.text,
      IN_CLOSE,
    );
    if (watch < 0) {
      const errno = -this.libc.errno();
      closeSync(fd);
      closeSync(witness);
      return errno;
    }
    const inode = this.inodeOf(witness);
    let committed = false;
    return {
      fd,
      commit: (file, device) => {
        const entry: Entry = {
          file,
          device,
          access,
          inode,
          witness,
          watch,
          position: 0n,
          released: false,
        };
        this.byInode.set(inode, entry);
        this.byWatch.set(watch, entry);
        committed = true;
        return entry;
      },
      handOver: () => {
        closeSync(fd);
        if (!committed) closeSync(witness);
      },
    };
  }

  /** Releases every file whose last close has happened. Called before a notification is handled. */
  drain(): void {
    for (;;) {
      const length = this.libc.read(this.queue, this.arena.base + this.events, EVENTS_BYTES);
      if (length <= 0) break;
      this.readEvents(length);
      if (length < EVENTS_BYTES / 2) break;
    }
    if (this.doubtful.size > 0) this.settle();
  }

  /** True while a close was seen that is not finished: look again soon. */
  get unsettled(): boolean {
    return this.doubtful.size > 0;
  }

  /** Releases everything that is left, at the end of a run. */
  close(): void {
    for (const entry of this.byInode.values()) this.release(entry);
    closeSync(this.queue);
  }

  private readEvents(length: number): void {
    // struct inotify_event: wd, mask, cookie, len, name[len].
    const { i32, u32 } = this.arena;
    for (let at = this.events >>> 2, end = at + length / 4; at < end;) {
      const mask = u32[at + 1] as number;
      if (mask & IN_Q_OVERFLOW) for (const entry of this.byInode.values()) this.doubtful.add(entry);
      const entry = this.byWatch.get(i32[at] as number);
      if (entry !== undefined && !(mask & IN_IGNORED)) this.doubtful.add(entry);
      at += 4 + (u32[at + 3] as number) / 4;
    }
  }

  private settle(): void {
    for (const entry of this.doubtful) {
      if (this.held(entry)) continue;
      this.release(entry);
    }
  }

  private release(entry: Entry): void {
    this.doubtful.delete(entry);
    entry.released = true;
    this.byInode.delete(entry.inode);
    this.byWatch.delete(entry.watch);
    // The inode dies with the witness, and its watch with it.
    closeSync(entry.witness);
    entry.file.release();
    this.onRelease(entry);
  }

  private lock(fd: number, access: number): void {
    this.fillLock(access === O_WRONLY || access === O_RDWR ? F_WRLCK : F_RDLCK);
    this.libc.fcntl(fd, F_OFD_SETLK, this.arena.base + this.flock);
  }

  private held(entry: Entry): boolean {
    this.fillLock(F_WRLCK);
    this.libc.fcntl(entry.witness, F_OFD_GETLK, this.arena.base + this.flock);
    return this.arena.view.getInt16(this.flock, true) !== F_UNLCK;
  }

  private fillLock(type: number): void {
    // struct flock: l_type, l_whence, l_start, l_len (0: to the end), l_pid (0 for this kind of lock).
    this.arena.u8.fill(0, this.flock, this.flock + 32);
    this.arena.view.setInt16(this.flock, type, true);
  }

  private inodeOf(fd: number): number {
    this.libc.call2(this.arch.calls.fstat, fd, this.arena.base + this.stat);
    this.device = this.arena.readWord(this.stat);
    return this.arena.readWord(this.stat + 8);
  }
}

/** `-errno` of a failed call of Node's fs. */
export function errnoOf(error: unknown): number {
  const { errno } = error as { readonly errno?: number };
  return errno === undefined ? -5 : errno;
}
