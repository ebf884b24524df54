// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import type { Libc } from './libc.ts';
import type { MapsLine, Mappings } from './mappings.ts';
import type { MemoryTransfer } from './memory_transfer.ts';
import { type MapperWindow, ProcessFileMemory } from './process_file_memory.ts';
import { pathSeenBy } from './paths.ts';
import { AT_FDCWD, HUGETLBFS_MAGIC, O_CLOEXEC, O_RDWR, TMPFS_MAGIC } from './uapi.ts';

/** An address space that may map a file: where to look when the file cannot be opened. */
export interface Mapper {
  /** A living process of it, or undefined. */
  readonly pid: number | undefined;
  /** Our descriptor of its /proc/PID/mem. */
  readonly memFd: number | undefined;
}

/**
 * The files that clients share memory through, one object per (device, inode), for as long as the engine holds one or
 * pins a page of it. Our descriptors keep such a file's memory in use, so idle ones are closed after each close and exit.
 */
export class FileMemories {
  private readonly libc: Libc;
  private readonly arena: Arena;
  private readonly arch: Arch;
  private readonly transfer: MemoryTransfer;
  private readonly mappings: Mappings;
  private readonly mappers: () => Iterable<Mapper>;
  private readonly known = new Map<string, ProcessFileMemory>();
  private readonly statBuffer: number;
  private readonly statfsBuffer: number;

  constructor(
    host: { libc: Libc; arena: Arena; arch: Arch; transfer: MemoryTransfer; mappings: Mappings },
    mappers: () => Iterable<Mapper>,
  ) {
    this.libc = host.libc;
    this.arena = host.arena;
    this.arch = host.arch;
    this.transfer = host.transfer;
    this.mappings = host.mappings;
    this.mappers = mappers;
    this.statBuffer = host.arena.take(host.arch.stat.size);
    this.statfsBuffer = host.arena.take(120);
  }

  /** The object of a known file, without making one. */
  lookup(device: bigint, inode: bigint): ProcessFileMemory | undefined {
    return this.known.get(`${device}:${inode}`);
  }

  /** Whether any object exists: lets the truncation traps do nothing in the common case. */
  get empty(): boolean {
    return this.known.size === 0;
  }

  /** The file behind a descriptor of ours, which we do not keep. */
  ofDescriptor(fd: number, device: bigint, inode: bigint): ProcessFileMemory {
    const key = `${device}:${inode}`;
    return (
      this.known.get(key) ??
      this.add(
        key,
        device,
        inode,
        nameOf(`/proc/self/fd/${fd}`),
        this.reopen(`/proc/self/fd/${fd}`),
      )
    );
  }

  /** The known file that a path of `tid` means, where there is one. */
  ofPath(tid: number, path: string): ProcessFileMemory | undefined {
    try {
      const stat = statSync(pathSeenBy(tid, AT_FDCWD, path), { bigint: true });
      return this.lookup(stat.dev, stat.ino);
    } catch {
      return undefined;
    }
  }

  /** The file behind a shared mapping of `pid`. */
  ofMapping(pid: number, line: MapsLine): ProcessFileMemory {
    const key = `${line.device}:${line.inode}`;
    const found = this.known.get(key);
    if (found !== undefined) return found;
    const range = `${line.start.toString(16)}-${line.end.toString(16)}`;
    const fd =
      this.reopen(`/proc/${pid}/map_files/${range}`) ??
      this.reopenOwn(pid, line.device, line.inode);
    return this.add(key, line.device, line.inode, tidyName(line.name), fd);
  }

  /** Whether the descriptor's file system keeps its files in memory. */
  kindOf(fd: number): 'shmem' | 'hugetlbfs' | 'other' {
    const result = this.libc.call2(
      this.arch.calls.fstatfs,
      fd,
      this.arena.base + this.statfsBuffer,
    );
    if (result !== 0) return 'other';
    const magic = this.arena.u32[this.statfsBuffer >>> 2];
    if (magic === TMPFS_MAGIC) return 'shmem';
    return magic === HUGETLBFS_MAGIC ? 'hugetlbfs' : 'other';
  }

  /** Gives up the files that the engine has let go of. */
  sweep(): void {
    for (const [key, file] of this.known) {
      if (!file.isIdle) continue;
      this.known.delete(key);
      file.close();
    }
  }

  close(): void {
    for (const file of this.known.values()) file.close();
    this.known.clear();
  }

  private add(
    key: string,
    device: bigint,
    inode: bigint,
    name: string,
    fd: number | undefined,
  ): ProcessFileMemory {
    const file = new ProcessFileMemory(
      {
        name,
        fd,
        // Only shared anonymous memory cannot be opened by anybody: without a descriptor, that is what it is.
        kind: fd === undefined ? kindByName(name) : this.kindOf(fd),
        mappers: this.windowsOf(device, inode),
      },
      {
        libc: this.libc,
        arena: this.arena,
        transfer: this.transfer,
        statBuffer: this.statBuffer,
        statSizeOffset: this.arch.stat.stSize,
        fstatNr: this.arch.calls.fstat,
      },
    );
    this.known.set(key, file);
    return file;
  }

  private reopen(path: string): number | undefined {
    for (const flags of [O_RDWR | O_CLOEXEC, O_CLOEXEC]) {
      try {
        return openSync(path, flags);
      } catch {
        // No right to write, then no right to read: the caller has other ways.
      }
    }
    return undefined;
  }

  /** The same file among the client's own descriptors; memfds and their like have no other name. */
  private reopenOwn(pid: number, device: bigint, inode: bigint): number | undefined {
    let names: string[];
    try {
      names = readdirSync(`/proc/${pid}/fd`);
    } catch {
      return undefined;
    }
    for (const name of names) {
      const path = `/proc/${pid}/fd/${name}`;
      try {
        const stat = statSync(path, { bigint: true });
        if (stat.dev === device && stat.ino === inode) return this.reopen(path);
      } catch {
        // Closed meanwhile.
      }
    }
    return undefined;
  }

  private windowsOf(device: bigint, inode: bigint): MapperWindow {
    return {
      find: (offset) => {
        for (const { pid, memFd } of this.mappers()) {
          if (pid === undefined || memFd === undefined) continue;
          for (const line of this.mappings.all(pid)) {
            const end = line.offset + (line.end - line.start);
            if (line.inode !== inode || line.device !== device || !line.shared) continue;
            if (offset < line.offset || offset >= end) continue;
            return {
              memFd,
              address: line.start + (offset - line.offset),
              bytes: end - offset,
            };
          }
        }
        return undefined;
      },
    };
  }
}

function kindByName(name: string): 'shmem' | 'other' {
  return /^(memfd:|\/dev\/zero|\/SYSV|\/dev\/shm\/)/.test(name) ? 'shmem' : 'other';
}

function nameOf(link: string): string {
  try {
    return tidyName(readlinkSync(link));
  } catch {
    return 'file';
  }
}

/** `/memfd:x (deleted)` is how Linux writes `memfd:x`. */
function tidyName(name: string): string {
  const text = name.replace(/ \(deleted\)$/, '');
  return text.startsWith('/memfd:') ? text.slice(1) : text;
}

/** Closes a descriptor that may be gone already. */
export function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // Nothing to close.
  }
}
