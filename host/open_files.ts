// SPDX-License-Identifier: Apache-2.0
/**
 * The open files that clients hold. Each is a memfd of its own, or a pipe where it can be waited for: the inode is its identity in any
 * process, whatever the number and however it got there. The client has a second open file description of it, reopened through /proc, which
 * carries an open-file-description lock; ours is the witness through which the lock is tested.
 *
 * The last close anywhere is told by inotify (IN_CLOSE on the inode, one queue for all files) and proved by the lock: the event
 * alone would lie where a client reopens the file through its own /proc/self/fd, the lock alone would have to be
 * asked of every file before every call. Linux queues the event a little before it drops the lock, so a close that is
 * seen half done is asked about again at the next call.
 */
import { closeSync, openSync } from 'node:fs';
import { type DeviceFile, Poll, type Waits } from '../src/kernel/file.ts';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import type { Device } from './device.ts';
import { HostError } from './host_error.ts';
import type { Libc } from './libc.ts';
import { Readiness } from './readiness.ts';
import { SharedFile } from './shared_file.ts';
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
  O_RDONLY,
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
  readonly dev: number;
  readonly inode: number;
  /** Set where it can be waited for: it is a pipe then, and no memfd. */
  readonly waits: Waits | undefined;
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
  /** By `st_dev`, then by `st_ino`: all memfds are on one mount of the kernel's own, and all pipes on another. */
  private readonly byDevice = new Map<number, Map<number, Entry>>();
  private readonly byWatch = new Map<number, Entry>();
  private readonly doubtful = new Set<Entry>();
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

  /** The file with this `st_dev` and `st_ino`, or undefined. They are its own while the file exists. */
  find(device: number, inode: number): HostFile | undefined {
    return this.byDevice.get(device)?.get(inode);
  }

  get count(): number {
    return this.byWatch.size;
  }

  /**
   * Makes an open file description with the access mode and O_NONBLOCK of `flags`, for a file that can be waited for where `waits` says
   * for what. Returns `-errno` on failure.
   */
  prepare(name: string, flags: number, waits?: Waits): Prepared | number {
    const witness = waits === undefined ? this.newMemfd(name) : this.newPipe();
    if (witness < 0) return witness;
    const path = `/proc/self/fd/${witness}`;
    const access = flags & O_ACCMODE;
    // A pipe that is never writable is one that the client has open for reading only.
    const mode = waits?.writable === false ? O_RDONLY : access;
    let fd: number;
    try {
      fd = openSync(path, mode | (flags & O_NONBLOCK) | O_CLOEXEC);
    } catch (error) {
      closeSync(witness);
      return errnoOf(error);
    }
    this.lock(fd, mode);
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
    const { device: dev, inode } = this.identityOf(witness);
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
          dev,
          waits,
          position: 0n,
          released: false,
        };
        this.filesOn(dev).set(inode, entry);
        this.byWatch.set(watch, entry);
        if (waits !== undefined) followReadiness(file, witness);
        else if (file.mmap !== undefined) file.shared = new SharedFile(witness, entry, dev);
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
    for (const entry of this.byWatch.values()) this.release(entry);
    closeSync(this.queue);
  }

  private readEvents(length: number): void {
    // struct inotify_event: wd, mask, cookie, len, name[len].
    const { i32, u32 } = this.arena;
    for (let at = this.events >>> 2, end = at + length / 4; at < end;) {
      const mask = u32[at + 1] as number;
      if (mask & IN_Q_OVERFLOW) for (const each of this.byWatch.values()) this.doubtful.add(each);
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
    this.filesOn(entry.dev).delete(entry.inode);
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

  private filesOn(device: number): Map<number, Entry> {
    const known = this.byDevice.get(device);
    if (known !== undefined) return known;
    const files = new Map<number, Entry>();
    this.byDevice.set(device, files);
    return files;
  }

  private identityOf(fd: number): { device: number; inode: number } {
    this.libc.call2(this.arch.calls.fstat, fd, this.arena.base + this.stat);
    return { device: this.arena.readWord(this.stat), inode: this.arena.readWord(this.stat + 8) };
  }

  private newMemfd(name: string): number {
    this.arena.writeString(this.text, name.slice(0, 200));
    const { memfd_create } = this.arch.calls;
    const fd = this.libc.call2(memfd_create, this.arena.base + this.text, MFD_CLOEXEC);
    return fd < 0 ? -this.libc.errno() : fd;
  }

  /** A description of a new pipe that is both of its ends, and does not block. */
  private newPipe(): number {
    const { pipe2 } = this.arch.calls;
    if (this.libc.call2(pipe2, this.arena.base + this.text, O_CLOEXEC) < 0)
      return -this.libc.errno();
    const ends = [0, 4].map((at) => this.arena.view.getInt32(this.text + at, true));
    try {
      return openSync(`/proc/self/fd/${ends[0]}`, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    } catch (error) {
      return errnoOf(error);
    } finally {
      for (const end of ends) closeSync(end);
    }
  }
}

function followReadiness(file: DeviceFile, witness: number): void {
  const readiness = new Readiness(witness);
  file.pollChanged = () => readiness.set(((file.poll?.() ?? 0) & Poll.IN) !== 0);
  file.pollChanged();
}

/** `-errno` of a failed call of Node's fs. */
export function errnoOf(error: unknown): number {
  const { errno } = error as { readonly errno?: number };
  return errno === undefined ? -5 : errno;
}
