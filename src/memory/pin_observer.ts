// SPDX-License-Identifier: Apache-2.0

/**
 * Keeps the pages of one address space, or one file, that are pinned. A pin holds a page, not an address: whoever owns the
 * memory tells when a page is about to leave its place, which is the last moment to copy it out.
 */
export interface PinObserver {
  /** Whether any page is pinned; asked at every call that could take pages away, so it is cheap. */
  hasPins(): boolean;
  /** The pages at bytes `[start, last]` are about to go (unmapped, moved, discarded, cut off). They can still be read now. */
  release(start: bigint, last: bigint): void;
  /** All of it is gone without warning: pinned pages that were not released before are lost. */
  gone(): void;
}
