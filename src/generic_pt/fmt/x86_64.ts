// SPDX-License-Identifier: Apache-2.0
/**
 * The tables of x86-64 processors, of 4 and 5 levels, which are VT-d's first stage and AMD's guest tables. Source: Linux
 * drivers/iommu/generic_pt/fmt/x86_64.h, which names section "9.7 First-Stage Paging Entries" of the VT-d specification; the
 * specification itself: unverified.
 *
 * Item: 0 P, 1 R/W, 2 U/S, 5 A, 6 D, 7 PS (a leaf above level 0), 51:12 output address, 63 XD. What is present can be read. Leaves
 * are made accessed, and dirty where they can be written, so that the hardware need not write to the table.
 */
import { bit, Contig, type TableFormat } from '../format.ts';

const [P, RW, US, A, D] = [bit(0).lo, bit(1).lo, bit(2).lo, bit(5).lo, bit(6).lo];

export const x8664: TableFormat = {
  name: 'x86_64',
  granuleLg2: 12,
  tableLg2: 12,
  itemsLg2: 9,
  maxTopLevel: 4,
  maxLeafLevel: 2,
  maxVaLg2: 57,
  maxOaLg2: 52,
  contig: Contig.NONE,
  contigMaxLg2: 0,
  excludedSizes: 0n,
  present: { lo: P, hi: 0 },
  oaShift: 12,
  oaBits: 40,
  codeShift: 7,
  codeMask: 1,
  tableCodes: 0b01,
  leafCode: 1,
  level0Code: 0,
  contigCode: -1,
  leafBits: { lo: P + US + A, hi: 0 },
  tableCodeOfLevel: 0,
  tableBits: { lo: P + RW + US + A, hi: 0 },
  read: { lo: P, hi: 0 },
  write: { lo: RW, hi: 0 },
  writableBits: { lo: D, hi: 0 },
  dirty: { lo: D, hi: 0 },
  coherent: { lo: 0, hi: 0 },
};
