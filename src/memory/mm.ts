// SPDX-License-Identifier: Apache-2.0
import type { LockedMemory } from './accounting.ts';
import type { FileMemory } from './file_memory.ts';
import type { MmTables } from './mm_tables.ts';
import type { PinObserver } from './pin_observer.ts';

/** Bytes of a page of the client. Pages of user memory are counted in this unit everywhere. */
export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;

/**
 * A program's addresses end here: for read(2) and its like Linux looks at that before all else (access_ok). On x86-64 with processors that mask
 * tags in pointers (LAM); on older ones they end below 2^47.
 */
export const ADDRESSES_END: bigint = 2n ** 63n - 4096n;

/** One mapping of an address space, as /proc/PID/maps shows it; addresses in bytes, `last` inclusive. */
export interface Mapping {
  readonly start: bigint;
  readonly last: bigint;
  readonly readable: boolean;
  readonly writable: boolean;
  /** For a shared mapping of a file (shared anonymous memory included): the file and the offset of `start` in it. */
  readonly shared: { readonly file: FileMemory; readonly offset: bigint } | undefined;
}

/** What an access wants of the page it goes to. */
export interface PageAccess {
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
}

/**
 * A user address space ("mm"): every task that shares it, not a pid. The engine reaches client memory only through
 * this; an in-process buffer implements it for tests and the library, `host/` for real processes.
 */
export interface Mm {
  /** Charges against this address space: locked and pinned pages. */
  readonly locked: LockedMemory;
  /** False once the last task that used it is gone: nothing in it can be reached any more. */
  readonly alive: boolean;
  /** Where hardware can share it (SVA); absent where its page tables are out of reach, as those of real processes are. */
  readonly tables?: MmTables | undefined;
  /**
   * Makes the page at `address` present in `tables` for an access, as a fault of the processor does; false where no mapping allows
   * it, or there is no memory.
   */
  handleFault?(address: bigint, access: PageAccess): boolean;
  /** Copies from the client, honouring protections; false (EFAULT) unless every byte was readable. */
  copyIn(address: bigint, into: Uint8Array): boolean;
  /** Copies to the client, honouring protections; false (EFAULT) unless every byte was writable (some may have been written). */
  copyOut(address: bigint, from: Uint8Array): boolean;
  /** Set when pages of it are first looked up; the owner calls it before it gives pages up. */
  pinObserver?: PinObserver | undefined;
  /** The mapping that holds `address`, or undefined. Facts as of now. */
  mappingAt(address: bigint): Mapping | undefined;
  /** Reads or writes a page that a pin holds, whatever its protection now; false where it is gone. */
  readPinned(address: bigint, into: Uint8Array): boolean;
  writePinned(address: bigint, from: Uint8Array): boolean;
}
