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
/** Access by translated addresses is not snooped. */
const NON_SNOOPED = 1n << 10n;
const GLOBAL = 1n << 5n;
const PRIVILEGED = 1n << 4n;
const EXECUTE = 1n << 3n;
/** Only untranslated requests may go there. */
const UNTRANSLATED_ONLY = 1n << 2n;
const WRITE = 1n << 1n;
const READ = 1n;
const LOW_BITS = ATS_PAGE - 1n;

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
  return (
    encodeRange(entry) |
    (read ? READ : 0n) |
    (write ? WRITE : 0n) |
    (execute ? EXECUTE : 0n) |
    (privileged ? PRIVILEGED : 0n) |
    (global ? GLOBAL : 0n) |
    (nonSnooped ? NON_SNOOPED : 0n) |
    (untranslatedOnly ? UNTRANSLATED_ONLY : 0n)
  );
}

export function decodeEntry(word: bigint): AtsEntry {
  const has = (bit: bigint): boolean => (word & bit) !== 0n;
  return {
    ...decodeRange(word),
    read: has(READ),
    write: has(WRITE),
    execute: has(EXECUTE),
    privileged: has(PRIVILEGED),
    global: has(GLOBAL),
    nonSnooped: has(NON_SNOOPED),
    untranslatedOnly: has(UNTRANSLATED_ONLY),
  };
}
