// SPDX-License-Identifier: Apache-2.0
/**
 * Intel VT-d, second stage: tables of 3, 4 and 5 levels. Source: Linux drivers/iommu/generic_pt/fmt/vtdss.h, which names section
 * "9.8 Second-Stage Paging Entries" of the VT-d specification; the specification itself: unverified.
 *
 * Item: 0 R, 1 W, 7 PS (a leaf above level 0), 8 A, 9 D, 11 SNP, 51:12 output address. There is no bit for "present": an item that
 * allows neither reading nor writing is empty. The permissions of all levels are ANDed; only leaves restrict.
 */
import { bit, Contig, type TableFormat } from '../format.ts';

export const vtdss: TableFormat = {
  name: 'vtdss',
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
  present: { lo: 0b11, hi: 0 },
  oaShift: 12,
  oaBits: 40,
  codeShift: 7,
  codeMask: 1,
  tableCodes: 0b01,
  leafCode: 1,
  level0Code: 0,
  contigCode: -1,
  leafBits: { lo: 0, hi: 0 },
  tableCodeOfLevel: 0,
  tableBits: { lo: 0b11, hi: 0 },
  read: bit(0),
  write: bit(1),
  writableBits: { lo: 0, hi: 0 },
  dirty: bit(9),
  coherent: bit(11),
};
