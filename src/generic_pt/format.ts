// SPDX-License-Identifier: Apache-2.0
import { FRAME_SHIFT } from '../memory/frame.ts';

/** A mask over the two 32-bit halves of a 64-bit item. */
export interface Lanes {
  readonly lo: number;
  readonly hi: number;
}

/** Bit n of an item as lanes. */
export const bit = (n: number): Lanes =>
  n < 32 ? { lo: (1 << n) >>> 0, hi: 0 } : { lo: 0, hi: (1 << (n - 32)) >>> 0 };

/** How several items say that they are one contiguous entry: the one irregular thing that formats do not share. */
export const Contig = {
  NONE: 0,
  /** A code in the item says so, and the ones at the low end of its output address give the size (AMD). */
  ONES_IN_OA: 1,
} as const;
export type Contig = (typeof Contig)[keyof typeof Contig];

/**
 * A page-table format as numbers. The engine reads them and calls nothing: one walker that reads numbers from its format
 * stays at 10 ns for any number of formats, where overridden methods rise to 205 ns at five. Words as in Linux's generic
 * page tables: an *item* is one 64-bit word of a table, an *entry* is one or several items that mean one thing; level 0
 * has leaves only; `Lg2` is a power of two.
 */
export interface TableFormat {
  readonly name: string;
  /** Bytes that an item of level 0 maps. */
  readonly granuleLg2: number;
  /** Bytes of a table, and items in it. */
  readonly tableLg2: number;
  readonly itemsLg2: number;
  /** The highest level that a table can have, and the highest that can hold leaves. */
  readonly maxTopLevel: number;
  readonly maxLeafLevel: number;
  /** Bits of input and output addresses in bytes. */
  readonly maxVaLg2: number;
  readonly maxOaLg2: number;

  readonly contig: Contig;
  /** The most items in a contiguous entry; 0 where there are none. */
  readonly contigMaxLg2: number;
  /** Page sizes (bit n: 2^n bytes) that the rule above allows and the hardware does not. */
  readonly excludedSizes: bigint;

  /** Any of these bits set: the item is not empty. */
  readonly present: Lanes;
  /** The output address: bits `oaShift` to `oaShift + oaBits - 1` hold it in units of the granule. */
  readonly oaShift: number;
  readonly oaBits: number;
  /** Above level 0, a code at `codeShift` tells tables from leaves: bit c of `tableCodes` is set where code c is a table. */
  readonly codeShift: number;
  readonly codeMask: number;
  readonly tableCodes: number;
  /** The code of a plain leaf above level 0, at level 0, and of a contiguous one; -1 where there are none. */
  readonly leafCode: number;
  readonly level0Code: number;
  readonly contigCode: number;
  /** What every leaf has, whatever it allows. */
  readonly leafBits: Lanes;
  /** An item that points to a table: the code is its level times this (a next-level field), plus these bits. */
  readonly tableCodeOfLevel: number;
  readonly tableBits: Lanes;

  readonly read: Lanes;
  readonly write: Lanes;
  /** What else a leaf has that allows writing. */
  readonly writableBits: Lanes;
  /** Set by the hardware when it writes through the item; none where it does not. */
  readonly dirty: Lanes;
  /** Set in leaves of a table whose accesses are forced to be coherent. */
  readonly coherent: Lanes;
}

/** A format with what follows from its numbers, so that no walk works it out: a power of two costs 20 ns to make. */
export interface Encoding extends TableFormat {
  /** Frames of the granule, in which output addresses are counted. */
  readonly granuleFrames: number;
  /** The address's bits in the upper lane, and the frames that its lowest bit there stands for. */
  readonly oaHiMask: number;
  readonly oaHiFrames: number;
}

export function encodingOf(format: TableFormat): Encoding {
  const granuleFrames = 2 ** (format.granuleLg2 - FRAME_SHIFT);
  const loBits = 32 - format.oaShift;
  return {
    ...format,
    granuleFrames,
    oaHiMask: 2 ** (format.oaBits - loBits) - 1,
    oaHiFrames: 2 ** loBits * granuleFrames,
  };
}

/** Bytes that an item of a level maps. */
export const itemLg2 = (format: TableFormat, level: number): number =>
  format.granuleLg2 + format.itemsLg2 * level;

/** The page sizes of a level, bit n: 2^n bytes. */
export function levelSizes(format: TableFormat, level: number): bigint {
  if (level > format.maxLeafLevel) return 0n;
  let sizes = 0n;
  for (let contig = 0; contig <= format.contigMaxLg2; contig++) {
    const size = itemLg2(format, level) + contig;
    if (size < format.maxOaLg2) sizes |= 1n << BigInt(size);
  }
  return sizes & ~format.excludedSizes;
}
