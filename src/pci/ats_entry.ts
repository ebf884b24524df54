// SPDX-License-Identifier: Apache-2.0
/**
 * Addresses with sizes, as ATS has them in 64 bits. Positions of S and Global in an invalidation: Linux drivers/iommu/intel/iommu.h
 * (QI_DEV_EIOTLB_*); positions of a translation's bits: the PCI Express specification, unverified.
 */

/** The smallest range: 4 KiB. */
export const ATS_PAGE = 4096n;
const PAGE_LG2 = 12;
/** The range is larger than a page, and how large the lowest clear bit of the address says. */
const SIZE = 1n << 11n;
const LOW_BITS = ATS_PAGE - 1n;
/** Access by translated addresses is not snooped. These are numbers: taken out of the bigint one by one they cost 3 us. */
const NON_SNOOPED = 1 << 10;
const GLOBAL = 1 << 5;
const PRIVILEGED = 1 << 4;
const EXECUTE = 1 << 3;
/** Only untranslated requests may go there. */
const UNTRANSLATED_ONLY = 1 << 2;
const WRITE = 1 << 1;
const READ = 1;

export interface AtsRange {
  readonly start: bigint;
  /** Its size is 2^sizeLg2 bytes, 12 to 64. */
  readonly sizeLg2: number;
}

/** A page that a function may keep. */
export interface AtsEntry extends AtsRange {
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  /** Execute and the others were granted to privileged requests. */
  readonly privileged: boolean;
  readonly global: boolean;
  readonly nonSnooped: boolean;
  readonly untranslatedOnly: boolean;
}

/** @param start a multiple of the size */
export function encodeRange({ start, sizeLg2 }: AtsRange): bigint {
  if (sizeLg2 === PAGE_LG2) return start;
  // Ones from bit 12 up to below the highest bit that the size leaves free.
  const ones = (1n << BigInt(sizeLg2 - 1)) - ATS_PAGE;
  return start | ones | SIZE;
}

/** All ones, which no size has, is taken as everything. */
export function decodeRange(word: bigint): AtsRange {
  const address = word & ~LOW_BITS;
  if ((word & SIZE) === 0n) return { start: address, sizeLg2: PAGE_LG2 };
  let bit = PAGE_LG2;
  while (bit < 63 && (address >> BigInt(bit)) & 1n) bit++;
  const size = 1n << BigInt(bit + 1);
  return { start: (address / size) * size, sizeLg2: bit + 1 };
}

/** The smallest range of ATS that covers all of `start` to `last`. */
export function coveringRange(start: bigint, last: bigint): AtsRange {
  let sizeLg2 = PAGE_LG2;
  while (start >> BigInt(sizeLg2) !== last >> BigInt(sizeLg2)) sizeLg2++;
  return { start: (start >> BigInt(sizeLg2)) << BigInt(sizeLg2), sizeLg2 };
}

export function encodeEntry(entry: AtsEntry): bigint {
  const { read, write, execute, privileged, global, nonSnooped, untranslatedOnly } = entry;
  const low =
    (read ? READ : 0) |
    (write ? WRITE : 0) |
    (execute ? EXECUTE : 0) |
    (privileged ? PRIVILEGED : 0) |
    (global ? GLOBAL : 0) |
    (nonSnooped ? NON_SNOOPED : 0) |
    (untranslatedOnly ? UNTRANSLATED_ONLY : 0);
  return encodeRange(entry) | BigInt(low);
}

export function decodeEntry(word: bigint): AtsEntry {
  const { start, sizeLg2 } = decodeRange(word);
  const low = Number(word & LOW_BITS);
  return {
    start,
    sizeLg2,
    read: (low & READ) !== 0,
    write: (low & WRITE) !== 0,
    execute: (low & EXECUTE) !== 0,
    privileged: (low & PRIVILEGED) !== 0,
    global: (low & GLOBAL) !== 0,
    nonSnooped: (low & NON_SNOOPED) !== 0,
    untranslatedOnly: (low & UNTRANSLATED_ONLY) !== 0,
  };
}
