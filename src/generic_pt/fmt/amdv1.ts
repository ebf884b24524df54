// SPDX-License-Identifier: Apache-2.0
import { bit, Contig, type TableFormat } from '../format.ts';

/*
 * The host (v1) page tables of AMD's IOMMU. Source: Linux drivers/iommu/generic_pt/fmt/amdv1.h, which names section 2.2.3 "I/O
 * Page Tables for Host Translations" of the AMD IOMMU specification; the specification itself: unverified.
 *
 * Item: 0 PR, 6 D, 11:9 next level, 51:12 output address, 60 FC, 61 IR, 62 IW. Next level of a table is the level that it is
 * found at, counted from 1 ("mode"); 0 is a leaf of the size of its item, 7 one whose size is in its address.
 */
const common = {
  tableLg2: 12,
  itemsLg2: 9,
  contig: Contig.ONES_IN_OA,
  // Twice as many would be the whole table, which is the item one level up.
  contigMaxLg2: 8,
  // 512 GiB pages do not work in hardware (unverified; Linux leaves them out for that).
  excludedSizes: 1n << 39n,
  present: bit(0),
  oaShift: 12,
  oaBits: 40,
  codeShift: 9,
  codeMask: 7,
  tableCodes: 0b0111_1110,
  leafCode: 0,
  level0Code: 0,
  contigCode: 7,
  tableCodeOfLevel: 1,
  // The permissions of all levels are ANDed; only leaves restrict.
  tableBits: { lo: bit(0).lo, hi: bit(61).hi + bit(62).hi },
  leafBits: bit(0),
  read: bit(61),
  write: bit(62),
  writableBits: { lo: 0, hi: 0 },
  dirty: bit(6),
  coherent: bit(60),
} as const;

/** What the hardware walks: 4 KiB granule, 2 to 6 levels, of which the sixth has 7 bits and no leaves. */
export const amdv1: TableFormat = {
  ...common,
  name: 'amdv1',
  granuleLg2: 12,
  maxTopLevel: 5,
  maxLeafLevel: 4,
  maxVaLg2: 64,
  maxOaLg2: 52,
};

/**
 * The variant of Linux's test driver: everything half as large, so that its pages are smaller than those of the CPU. Source:
 * fmt/amdv1.h under AMDV1_IOMMUFD_SELFTEST.
 */
export const amdv1Mock: TableFormat = {
  ...common,
  name: 'amdv1_mock',
  granuleLg2: 11,
  maxTopLevel: 4,
  maxLeafLevel: 3,
  maxVaLg2: 56,
  maxOaLg2: 51,
};
