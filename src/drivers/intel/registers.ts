// SPDX-License-Identifier: Apache-2.0
/**
 * The registers of a VT-d unit as the driver uses them: offsets and bits. The model of the hardware has its own table, so that each
 * checks the other. Source: Linux drivers/iommu/intel/iommu.h; the specification itself: unverified.
 */

/** Byte offsets. Those of fault records and of IOTLB registers are told by CAP and ECAP. */
export const Reg = {
  VER: 0x00,
  CAP: 0x08,
  ECAP: 0x10,
  GCMD: 0x18,
  GSTS: 0x1c,
  RTADDR: 0x20,
  CCMD: 0x28,
  FSTS: 0x34,
  FECTL: 0x38,
  FEDATA: 0x3c,
  FEADDR: 0x40,
  FEUADDR: 0x44,
  PMEN: 0x64,
  IQH: 0x80,
  IQT: 0x88,
  IQA: 0x90,
  ICS: 0x9c,
  IQER: 0xb0,
  /** Page requests: head and tail of their queue, its address, status, and the interrupt. */
  PQH: 0xc0,
  PQT: 0xc8,
  PQA: 0xd0,
  PRS: 0xdc,
  PECTL: 0xe0,
  PEDATA: 0xe4,
  PEADDR: 0xe8,
  PEUADDR: 0xec,
} as const;

/** Commands in GCMD; their states are the same bits of GSTS. */
export const Gcmd = {
  /** Translation. */
  TE: 0x8000_0000,
  /** Take the root table pointer; one shot. */
  SRTP: 0x4000_0000,
  /** Flush the write buffer; one shot. */
  WBF: 0x0800_0000,
  /** Queued invalidation. */
  QIE: 0x0400_0000,
  /** Interrupt remapping. */
  IRE: 0x0200_0000,
} as const;

export const Rtaddr = {
  /** Translation table mode, bits 11:10: scalable. */
  SCALABLE: 0x400,
} as const;

export const Fsts = {
  /** A record was lost for want of room. */
  PFO: 0x01,
  /** Some record is full. */
  PPF: 0x02,
  /** Invalidation queue error, completion error, time-out. */
  IQE: 0x10,
  ICE: 0x20,
  ITE: 0x40,
} as const;
/** The first full record is bits 15:8. */
export const FSTS_FRI_SHIFT = 8;

export const Fectl = {
  /** The interrupt is masked. */
  IM: 0x8000_0000,
} as const;

/** PRS: a page request is in the queue; one was lost for want of room. */
export const Prs = { PPR: 1, PRO: 2 } as const;

export const Pectl = {
  /** The interrupt is masked. */
  IM: 0x8000_0000,
} as const;

/** IQA: width of descriptors and size of the queue. */
export const Iqa = {
  /** 256 bits a descriptor. */
  DW: 0x800,
} as const;

/** PMEN: the protected memory regions that firmware may have left on. */
export const Pmen = { EPM: 0x8000_0000, PRS: 1 } as const;
