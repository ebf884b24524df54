// SPDX-License-Identifier: Apache-2.0
import type { StructType } from '../abi/struct.ts';
import type { FileMemory } from '../memory/file_memory.ts';
import type { Task } from './task.ts';

/** What an ioctl answers: its result (0 or more), or a negative errno with the sentence that explains it. */
export interface IoctlResult {
  /** The value the system call returns: `>= 0`, or `-errno`. */
  readonly value: number;
  /** Why it failed: which check, with which values. Empty on success. */
  readonly why: string;
  /** What was asked and answered, for decoding; only where the file's `recording` is on. */
  readonly call: CallRecord | undefined;
}

/** Events of poll(2). Source: asm-generic/poll.h. */
export const Poll = { IN: 0x1, OUT: 0x4, NVAL: 0x20, RDNORM: 0x40, WRNORM: 0x100 } as const;

/** For what a file can be waited for by poll. All that has `poll` can be readable at times. */
export interface Waits {
  /** Always, or never. */
  readonly writable: boolean;
}

/** What a client asks mmap(2) for. */
export interface MmapRequest {
  /** In bytes; Linux has checked that the offset is a page's, and rounded the length up to pages. */
  readonly offset: bigint;
  readonly length: bigint;
  /** MAP_SHARED, and PROT_EXEC. */
  readonly shared: boolean;
  readonly executable: boolean;
}

/** Bytes of an open file that its clients map, by byte offsets in it. */
export interface SharedBytes {
  read(offset: number, into: Uint8Array): void;
  write(offset: number, from: Uint8Array): void;
  /** Makes them 0, or makes room for them. */
  clear(offset: number, length: number): void;
  /** True while a client maps any of them. */
  isMapped(offset: number, length: number): boolean;
}

/** What goes through a queue. */
export interface QueueRecords {
  readonly read: StructType<unknown>;
  /** True where records follow each other; false where the first is followed by bytes of other kinds. */
  readonly repeats: boolean;
  readonly write?: StructType<unknown>;
}

/** One ioctl with its structure before and after, for tracing. */
export interface CallRecord {
  /** The kernel's name: `IOMMU_IOAS_MAP`; undefined for a number that no table holds. */
  readonly name: string | undefined;
  /** The structure behind `arg`, or undefined where the argument is a plain value or was not readable. */
  readonly type: StructType<unknown> | undefined;
  /** The structure's bytes as read, and as they were written back (equal where nothing was). */
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  /** By field: what is behind the structure's pointers to arrays after the call, at most its first elements. */
  readonly arrays?: ReadonlyMap<string, Uint8Array>;
  /** What the argument is or points to, as people write it, where that is no structure: `"0000:00:02.0"`. */
  readonly argument?: string;
}

/**
 * An open file description that the engine serves: `/dev/iommu`, an access, a DMA-buf, a VFIO device, an event
 * queue. The host gives it a real descriptor in the client and calls `release` once, when its last duplicate
 * anywhere is closed.
 */
export interface DeviceFile {
  /** As `/proc/PID/fd` would show it on Linux: `/dev/iommu`, `anon_inode:[iommufd_test_staccess]`. */
  readonly name: string;
  /** When true, `ioctl` fills {@link IoctlResult.call}. */
  recording: boolean;
  /** Answers one ioctl of `task`; `arg` is the raw third argument. Never throws an ErrnoError. */
  ioctl(task: Task, cmd: number, arg: bigint): IoctlResult;
  /**
   * pread(2) at a byte offset: bytes read, or -errno. Absent: EINVAL, as Linux answers for a file that can not be read.
   * Plain read(2) goes through here too, at the file's position.
   */
  pread?(task: Task, offset: bigint, into: Uint8Array): number;
  /** pwrite(2): bytes written, or -errno. */
  pwrite?(task: Task, offset: bigint, from: Uint8Array): number;
  /** mmap(2): 0 where it may go on, or -errno. Absent: ENODEV, as Linux answers for a file without it. */
  mmap?(task: Task, request: MmapRequest): number;
  /** The bytes that clients see who map this file; a host sets it where they are real memory. */
  shared?: SharedBytes | undefined;
  /**
   * read(2) and write(2) of a file that is a queue: straight from and to the client's memory, because what is read is gone from the
   * queue, and must not be where the client's memory can not take it. Bytes moved, or -errno; never blocks. A file with these has no
   * position: pread and pwrite of it are ESPIPE.
   */
  read?(task: Task, address: bigint, count: number): number;
  write?(task: Task, address: bigint, count: number): number;
  /** What a queue is read and written in, for decoding. */
  readonly records?: QueueRecords | undefined;
  /** poll(2): which bits of {@link Poll} hold now. Absent: readable and writable always, as Linux answers for such a file. */
  poll?(): number;
  /** Called when `poll` may answer something else than before; the host sets it, to wake its client. */
  pollChanged?: (() => void) | undefined;
  /** Why the last read, write, pread, pwrite or mmap was refused, for tracing. */
  readonly refusal?: string;
  /** The last close. */
  release(): void;
}

/** An eventfd that a client handed over, to be told or to tell; ours until it is closed. */
export interface EventFd {
  /** Adds 1 to the counter; never blocks, and does nothing where the counter is full. */
  signal(): void;
  /** Calls `told` when a client has signalled it since, or before, and takes the counter back to 0; until `close`. Once at most. */
  watch(told: () => void): void;
  close(): void;
}

/** What a descriptor number of a client refers to. */
export type OpenFile =
  | { readonly kind: 'device'; readonly file: DeviceFile }
  /** A memfd, or a hugetlbfs or shmem file: its pages can be pinned through the file. */
  | { readonly kind: 'memory'; readonly memory: FileMemory }
  /** An eventfd; `hold` takes a reference of our own, which outlives the client's descriptor. */
  | { readonly kind: 'eventfd'; hold(): EventFd }
  | { readonly kind: 'other' };

/** The descriptors of one client process. */
export interface FileTable {
  /** What `fd` refers to, or undefined where it is not open. */
  get(fd: number): OpenFile | undefined;
  /**
   * Picks a free descriptor number; nothing is visible to the client until `install`. Throws ErrnoError EMFILE.
   * Either `install` or `cancel` must follow before the call that reserved it ends.
   * @param waits for a file with `poll`
   */
  reserve(waits?: Waits): number;
  /** Makes a reserved number refer to `file`. It cannot fail. */
  install(fd: number, file: DeviceFile, options: { readonly cloexec: boolean }): void;
  cancel(fd: number): void;
}
