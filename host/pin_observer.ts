// SPDX-License-Identifier: Apache-2.0

/**
 * What the engine hears about the pages it has pinned in one address space. A pin holds a page, not an address: when
 * the client is about to give a page up, this is the last moment to copy it out.
 */
export interface PinObserver {
  /** Whether any page is pinned; asked on every trapped call, so it must be cheap. */
  hasPins(): boolean;
  /**
   * The pages of `[start, last]` are about to leave the address space (unmapped, moved, discarded, the client
   * execs or exits). They are still readable now.
   */
  release(start: bigint, last: bigint): void;
  /** The address space is gone. What was not released before is lost: the client was killed. */
  gone(): void;
}

/** The same for the pages of a file that is about to be truncated or punched; bytes of the file, `last` inclusive. */
export interface FilePinObserver {
  hasPins(): boolean;
  release(start: bigint, last: bigint): void;
}
