// SPDX-License-Identifier: Apache-2.0
import { Contig, type Encoding } from './format.ts';
import { ctz32 } from './lg2.ts';

/*
 * Reading one item. Small functions of numbers, which V8 puts in line; what they take as `lo` and `hi` are the item's u32 lanes.
 */

export const isPresent = (format: Encoding, lo: number, hi: number): boolean =>
  ((lo & format.present.lo) | (hi & format.present.hi)) !== 0;

/** Of a present item: it points to a table. */
export const isTable = (format: Encoding, lo: number, level: number): boolean =>
  level !== 0 && ((format.tableCodes >>> ((lo >>> format.codeShift) & format.codeMask)) & 1) !== 0;

/** The output address as a frame number; of a contiguous entry with its size still in the low bits. */
export const oaFrame = (format: Encoding, lo: number, hi: number): number =>
  (lo >>> format.oaShift) * format.granuleFrames + (hi & format.oaHiMask) * format.oaHiFrames;

/** How many items the leaf consists of. */
export function contigLg2(format: Encoding, lo: number, hi: number, level: number): number {
  if (format.contig === Contig.NONE) return 0;
  if (((lo >>> format.codeShift) & format.codeMask) !== format.contigCode) return 0;
  // n ones at the low end of the address: 2^(n+1) granules.
  return onesLg2(format, lo, hi) + 1 - format.itemsLg2 * level;
}

function onesLg2(format: Encoding, lo: number, hi: number): number {
  const loBits = 32 - format.oaShift;
  const ones = ctz32(~(lo >>> format.oaShift));
  return ones < loBits ? ones : loBits + ctz32(~hi);
}
