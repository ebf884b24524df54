// SPDX-License-Identifier: Apache-2.0
/** What hardware that shares an address space with a process needs of it (SVA, B11). */

/**
 * Told before pages of an address space go: their translations are out of the tables already, pages and tables are still there, and
 * hardware must have forgotten them when it returns.
 */
export interface MmObserver {
  /** Bytes, `last` inclusive. */
  invalidate(start: bigint, last: bigint): void;
  /** The process exits: nothing in its address space may be reached any more, and pages and tables go when this returns. */
  release(): void;
  /** All who are to forget bytes from `start` to `last` have done so; after the exit, everything. For checkers. */
  forgotten?(start: bigint, last: bigint): void;
}

/** The page tables of an address space, in memory that hardware can walk. */
export interface MmTables {
  readonly format: 'x86_64';
  readonly levels: 4 | 5;
  /** Physical address of the top table, in bytes. */
  readonly root: bigint;
  /** Something has gone from them, and not all hardware has forgotten it yet. */
  readonly isChanging: boolean;
  /** Returns how to unsubscribe. */
  subscribe(observer: MmObserver): () => void;
}
