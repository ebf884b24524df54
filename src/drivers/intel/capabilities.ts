// SPDX-License-Identifier: Apache-2.0
/** What a unit can do: CAP and ECAP, decoded. Source: Linux drivers/iommu/intel/iommu.h (`cap_*`, `ecap_*`). */

import { ctz32 } from '../../base/bits.ts';

/** Name, highest and lowest bit. */
type Fields = Readonly<Record<string, readonly [msb: number, lsb: number]>>;

const CAP = {
  /** Domain ids: 2^(4 + 2 * nd). */
  nd: [2, 0],
  /** Write buffers have to be flushed. */
  rwbf: [4, 4],
  /** Protected memory regions, low and high. */
  plmr: [5, 5],
  phmr: [6, 6],
  /** Caching mode: what is not present is cached too. */
  cm: [7, 7],
  /** Adjusted widths: bit 1 is 39 bits and 3 levels, bit 2 48 and 4, bit 3 57 and 5. */
  sagaw: [12, 8],
  /** Widest address of a request, less one. */
  mgaw: [21, 16],
  /** Fault records: offset in units of 16 bytes, and how many, less one. */
  fro: [33, 24],
  /** Large pages of the second stage: bit 0 is 2 MiB, bit 1 1 GiB. */
  sllps: [37, 34],
  /** Invalidation of pages, and the most address bits that a request can leave out. */
  psi: [39, 39],
  nfr: [47, 40],
  mamv: [53, 48],
  /** Writes and reads are drained on request. */
  dwd: [54, 54],
  drd: [55, 55],
  /** First stage: 1 GiB pages, 5 levels. */
  fl1gp: [56, 56],
  fl5lp: [60, 60],
} as const satisfies Fields;

const ECAP = {
  /** Hardware looks into the processor's cache for tables. */
  c: [0, 0],
  /** Queued invalidation. */
  qi: [1, 1],
  /** Device IOTLBs (ATS). */
  dt: [2, 2],
  ir: [3, 3],
  /** Pass-through. */
  pt: [6, 6],
  /** Snooping can be forced. */
  sc: [7, 7],
  iro: [17, 8],
  /** Nested translation. */
  nest: [26, 26],
  /** Page requests. */
  prs: [29, 29],
  /** Supervisor requests. */
  srs: [31, 31],
  /** Extended accessed flags. */
  eafs: [34, 34],
  /** PASIDs of pss + 1 bits. */
  pss: [39, 35],
  pasid: [40, 40],
  dit: [41, 41],
  /** Page requests can be drained. */
  pds: [42, 42],
  /** Scalable mode. */
  smts: [43, 43],
  /** Second stage: accessed and dirty bits. */
  slads: [45, 45],
  /** Which stages there are in scalable mode. */
  slts: [46, 46],
  flts: [47, 47],
  /** Walks of scalable mode's tables can be coherent. */
  smpwc: [48, 48],
  rps: [49, 49],
} as const satisfies Fields;

type Decoded<F extends Fields> = { readonly [K in keyof F]: number };

function decode<F extends Fields>(fields: F, value: bigint): Decoded<F> {
  const entries = Object.entries(fields).map(([name, [msb, lsb]]) => [
    name,
    Number((value >> BigInt(lsb)) & ((1n << BigInt(msb - lsb + 1)) - 1n)),
  ]);
  return Object.fromEntries(entries) as Decoded<F>;
}

/** Ends of the two ways that sizes of tables can be counted: address width in bits, and the level of the top. */
export interface TableWidth {
  readonly bits: number;
  readonly topLevel: number;
}

/** What follows from CAP and ECAP for the driver. */
export class Capabilities {
  readonly capReg: bigint;
  readonly ecapReg: bigint;
  readonly cap: Decoded<typeof CAP>;
  readonly ecap: Decoded<typeof ECAP>;
  /** Scalable mode is there: it is used wherever it is. */
  readonly isScalable: boolean;
  /** Hardware sees tables of domains, and its own tables, without flushes of the processor's cache. */
  readonly walksCoherently: boolean;
  readonly isCoherent: boolean;
  readonly hasCachingMode: boolean;
  readonly flushesWriteBuffer: boolean;
  readonly hasNesting: boolean;
  readonly hasFirstStage: boolean;
  readonly hasSecondStage: boolean;
  readonly hasDirty: boolean;
  readonly hasPasids: boolean;
  /** PASIDs that it can tell apart; 0 where it has none. */
  readonly maxPasids: number;
  readonly hasPageRequests: boolean;
  readonly hasSnoopControl: boolean;
  readonly domainIds: number;
  readonly maxAddressBits: number;
  /** The most pages of 4 KiB, as a power of two, that one invalidation can cover; -1 where none can be by address. */
  readonly maxMaskLg2: number;

  constructor(capReg: bigint, ecapReg: bigint) {
    const cap = decode(CAP, capReg);
    const ecap = decode(ECAP, ecapReg);
    this.capReg = capReg;
    this.ecapReg = ecapReg;
    this.cap = cap;
    this.ecap = ecap;
    this.isScalable = ecap.smts === 1;
    this.isCoherent = ecap.c === 1;
    this.walksCoherently = (this.isScalable ? ecap.smpwc : ecap.c) === 1;
    this.hasCachingMode = cap.cm === 1;
    this.flushesWriteBuffer = cap.rwbf === 1;
    this.hasNesting = this.isScalable && ecap.nest === 1;
    this.hasFirstStage = this.isScalable && ecap.flts === 1;
    this.hasSecondStage = !this.isScalable || ecap.slts === 1;
    this.hasDirty = this.isScalable && ecap.slads === 1 && ecap.smpwc === 1;
    this.hasPasids = this.isScalable && ecap.pasid === 1;
    this.maxPasids = this.hasPasids ? 2 ** (ecap.pss + 1) : 0;
    this.hasPageRequests = this.isScalable && ecap.prs === 1 && ecap.pds === 1;
    this.hasSnoopControl = ecap.sc === 1;
    this.domainIds = 2 ** (4 + 2 * cap.nd);
    this.maxAddressBits = cap.mgaw + 1;
    this.maxMaskLg2 = cap.psi === 1 ? cap.mamv : -1;
  }

  /** The widths that there are; the other bits of the field are reserved. */
  get sagaw(): number {
    return this.cap.sagaw & 0b1110;
  }

  /**
   * The largest second stage, and undefined where there is none. Where addresses need fewer levels than the hardware has, Linux takes
   * the lowest of the higher ones, even beside the one that would do. Source: Linux `compute_vasz_lg2_ss()`.
   */
  secondStageWidth(): TableWidth | undefined {
    const { sagaw } = this;
    const mgaw = this.maxAddressBits;
    if (mgaw > 48 && sagaw >= 8) return { bits: Math.min(57, mgaw), topLevel: 4 };
    if (mgaw > 39 && sagaw >= 4) {
      return { bits: Math.min(48, mgaw), topLevel: 3 + firstBit(sagaw >>> 3) };
    }
    if (mgaw > 30 && sagaw >= 2) {
      return { bits: Math.min(39, mgaw), topLevel: 2 + firstBit(sagaw >>> 2) };
    }
    return undefined;
  }

  /** The largest first stage; `bits` counts the sign. Source: Linux `compute_vasz_lg2_fs()`. */
  firstStageWidth(): TableWidth {
    const mgaw = this.maxAddressBits;
    if (mgaw > 48 && this.cap.fl5lp === 1) return { bits: Math.min(57, mgaw), topLevel: 4 };
    return { bits: Math.min(48, mgaw), topLevel: 3 };
  }

  /** Page sizes of the second stage and of the first, bit n: 2^n bytes. */
  get secondStageSizes(): bigint {
    const { sllps } = this.cap;
    return SIZE_4K | (sllps & 1 ? SIZE_2M : 0n) | (sllps & 2 ? SIZE_1G : 0n);
  }

  get firstStageSizes(): bigint {
    return SIZE_4K | SIZE_2M | (this.cap.fl1gp === 1 ? SIZE_1G : 0n);
  }

  /** The widest address width that tables can have here, as context and PASID entries have it (AW): levels less two. */
  get widestAw(): number {
    return 31 - Math.clz32(Math.max(this.sagaw, 1));
  }
}

/** Place of the lowest bit, counted from 1; 0 where none is set. */
const firstBit = (value: number): number => (value === 0 ? 0 : ctz32(value) + 1);

const SIZE_4K = 1n << 12n;
const SIZE_2M = 1n << 21n;
export const SIZE_1G = 1n << 30n;
