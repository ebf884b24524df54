// SPDX-License-Identifier: Apache-2.0
import type { PinObserver } from './pin_observer.ts';

/**
 * A file whose pages can be pinned and shared (memfd, shmem, hugetlbfs, shared anonymous memory). Identity is the object:
 * the host hands out the same FileMemory for the same (device, inode) for as long as any page of it is pinned.
 */
export interface FileMemory {
  /** For people: `memfd:name`, `/dev/shm/x`. */
  readonly name: string;
  /** Set when pages of it are first looked up; the owner calls it before it gives pages up. */
  pinObserver?: PinObserver | undefined;
  /** The engine will come back to it after this call, until `drop`; each hold is dropped once. Pins hold it by themselves. */
  hold?(): void;
  drop?(): void;
  /** Present size in bytes. */
  size(): bigint;
  /** Whether `memfd_pin_folios` of Linux accepts it: memfd, shmem, hugetlbfs; not a regular file or a device. */
  readonly pinnable: boolean;
  /** Reads at a byte offset, bypassing open modes and seals as DMA does; false where it cannot. */
  read(offset: bigint, into: Uint8Array): boolean;
  write(offset: bigint, from: Uint8Array): boolean;
}
