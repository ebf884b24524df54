// SPDX-License-Identifier: Apache-2.0
/**
 * Invalidation descriptors. Each function fills eight 32-bit words; a queue of narrow descriptors takes the first four. Source: Linux
 * drivers/iommu/intel/iommu.h (`QI_*`, `qi_desc_*`); the specification itself: unverified.
 */

export const DESCRIPTOR_WORDS = 8;

/** Bits 3:0 of the first word. */
const Type = {
  CONTEXT: 1,
  IOTLB: 2,
  DEVICE_IOTLB: 3,
  WAIT: 5,
  PASID_IOTLB: 6,
  PASID_CACHE: 7,
  PASID_DEVICE_IOTLB: 8,
  PAGE_GROUP_RESPONSE: 9,
} as const;

/** What an IOTLB or context invalidation reaches, bits 5:4. */
const Granularity = { GLOBAL: 1, DOMAIN: 2, PAGES: 3 } as const;
/** Of context entries: GLOBAL, DOMAIN, or one device. */
const DEVICE = 3;
/** Of PASID-based IOTLB invalidations: all of a PASID, or pages of it. */
const ALL_OF_PASID = 2;
const PAGES_OF_PASID = 3;
/** Of PASID cache invalidations: one PASID of a domain. */
const ONE_PASID = 1;

/** Of device IOTLB invalidations with PASID (S): the lowest zero of the address tells how many pages. */
const SEVERAL_PAGES = 1 << 11;

const STATUS_WRITE = 1 << 5;
const FENCE = 1 << 6;
const PAGE_REQUEST_DRAIN = 1 << 7;

/** Of answers to page requests. */
const PASID_PRESENT = 1 << 4;
const PRIVATE_DATA_PRESENT = 1 << 5;

/** Reads and writes under way are to be drained (bits 7, 6), where the hardware can. */
export interface Drains {
  readonly reads: boolean;
  readonly writes: boolean;
}

const fill = (at: Uint32Array, w0: number, w1 = 0, w2 = 0, w3 = 0): void => {
  at.fill(0);
  at[0] = w0;
  at[1] = w1;
  at[2] = w2;
  at[3] = w3;
};

/** Context entries of one device; `did` matters to legacy mode only. */
export const contextOfDevice = (at: Uint32Array, did: number, sourceId: number): void =>
  fill(at, Type.CONTEXT | (DEVICE << 4) | (did << 16), sourceId);

export const allContexts = (at: Uint32Array): void =>
  fill(at, Type.CONTEXT | (Granularity.GLOBAL << 4));

const drainBits = ({ reads, writes }: Drains): number =>
  (reads ? 1 << 7 : 0) | (writes ? 1 << 6 : 0);

export const allIotlb = (at: Uint32Array, drains: Drains): void =>
  fill(at, Type.IOTLB | (Granularity.GLOBAL << 4) | drainBits(drains));

export const iotlbOfDomain = (at: Uint32Array, did: number, drains: Drains): void =>
  fill(at, Type.IOTLB | (Granularity.DOMAIN << 4) | drainBits(drains) | (did << 16));

/** Pages of 4 KiB, as a stretch of 2^maskLg2 that is aligned to its length. */
export interface PageRange {
  /** Number of the first page: below 2^52. */
  readonly page: number;
  readonly maskLg2: number;
}

const PAGE_LO = 2 ** 20;
const pageLo = (page: number): number => (page % PAGE_LO) * 4096;
const pageHi = (page: number): number => Math.floor(page / PAGE_LO);

/** `leavesOnly`: no table was changed or removed, so what caches those may stay (IH). */
export const iotlbOfPages = (
  at: Uint32Array,
  did: number,
  { page, maskLg2 }: PageRange,
  leavesOnly: boolean,
  drains: Drains,
): void =>
  fill(
    at,
    Type.IOTLB | (Granularity.PAGES << 4) | drainBits(drains) | (did << 16),
    0,
    pageLo(page) | (leavesOnly ? 1 << 6 : 0) | maskLg2,
    pageHi(page),
  );

export const iotlbOfPasid = (at: Uint32Array, did: number, pasid: number): void =>
  fill(at, Type.PASID_IOTLB | (ALL_OF_PASID << 4) | (did << 16), pasid);

export const iotlbOfPasidPages = (
  at: Uint32Array,
  did: number,
  pasid: number,
  { page, maskLg2 }: PageRange,
  leavesOnly: boolean,
): void =>
  fill(
    at,
    Type.PASID_IOTLB | (PAGES_OF_PASID << 4) | (did << 16),
    pasid,
    pageLo(page) | (leavesOnly ? 1 << 6 : 0) | maskLg2,
    pageHi(page),
  );

export const pasidCacheOfPasid = (at: Uint32Array, did: number, pasid: number): void =>
  fill(at, Type.PASID_CACHE | (ONE_PASID << 4) | (did << 16), pasid);

export const allPasidCaches = (at: Uint32Array): void => fill(at, Type.PASID_CACHE | (3 << 4));

/** A device's own cache of translations: who it is, and how many invalidations it takes at once. */
export interface DeviceTlb {
  readonly sourceId: number;
  /** Of its physical function, where the hardware paces invalidations by that (DIT); else 0. */
  readonly physicalSourceId: number;
  /** 1 to 32. */
  readonly queueDepth: number;
}

/** PFSID: bits 15:12 of the first word, and 31:20 of the second. */
const pfsidLo = (id: number): number => (id & 0xf) << 12;
const pfsidHi = (id: number): number => (id >>> 4) << 20;
/** What is 32 at most is written 0. */
const depthOf = ({ queueDepth }: DeviceTlb): number => (queueDepth >= 32 ? 0 : queueDepth);

/** The number of the first page with the length told: below the lowest zero are ones. */
const markedPage = ({ page, maskLg2 }: PageRange): number =>
  maskLg2 === 0 ? page : page + (2 ** (maskLg2 - 1) - 1);

/** A device's own IOTLB, for requests without PASID: pages, or with `range` undefined all. */
export function deviceIotlb(at: Uint32Array, tlb: DeviceTlb, range: PageRange | undefined): void {
  const { sourceId, physicalSourceId } = tlb;
  const w0 = Type.DEVICE_IOTLB | (depthOf(tlb) << 16) | pfsidLo(physicalSourceId);
  const w1 = sourceId | pfsidHi(physicalSourceId);
  if (!range) {
    fill(at, w0, w1, 0xffff_f001, 0x7fff_ffff);
    return;
  }
  const marked = markedPage(range);
  fill(at, w0, w1, pageLo(marked) + (range.maskLg2 === 0 ? 0 : 1), pageHi(marked));
}

/** The same for requests with one PASID. */
export function deviceIotlbOfPasid(
  at: Uint32Array,
  tlb: DeviceTlb,
  pasid: number,
  range: PageRange | undefined,
): void {
  const { sourceId, physicalSourceId } = tlb;
  const w0 =
    Type.PASID_DEVICE_IOTLB | (depthOf(tlb) << 4) | pfsidLo(physicalSourceId) | (sourceId << 16);
  const w1 = pasid | pfsidHi(physicalSourceId);
  if (!range) {
    fill(at, w0, w1, 0xffff_f000 | SEVERAL_PAGES, 0x7fff_ffff);
    return;
  }
  const marked = markedPage(range);
  fill(at, w0, w1, pageLo(marked) + (range.maskLg2 === 0 ? 0 : SEVERAL_PAGES), pageHi(marked));
}

/** The requester whose own cache a descriptor is for; undefined where it is for none. */
export function deviceOf([w0 = 0, w1 = 0]: Uint32Array): number | undefined {
  const type = w0 & 0xf;
  if (type === Type.DEVICE_IOTLB) return w1 & 0xffff;
  return type === Type.PASID_DEVICE_IOTLB ? w0 >>> 16 : undefined;
}

/** Nothing behind it begins before all that is ahead of it is done. */
export const fence = (at: Uint32Array): void => fill(at, Type.WAIT | FENCE);

/**
 * Writes `data` to a word of memory when all before it is done. `address` in lanes. With `drains` page requests that came before are in
 * memory by then.
 */
export const waitAndWrite = (
  at: Uint32Array,
  data: number,
  lo: number,
  hi: number,
  drains = false,
): void => fill(at, Type.WAIT | STATUS_WRITE | (drains ? PAGE_REQUEST_DRAIN : 0), data, lo, hi);

/** The answer to a group of page requests. */
export interface GroupAnswer {
  readonly sourceId: number;
  /** Undefined where the requests had none. */
  readonly pasid: number | undefined;
  readonly group: number;
  /** 0 success, 1 invalid request, 15 response failure. */
  readonly code: number;
  /** 128 bits, as they came with the request. Source: Linux 6.5 drivers/iommu/intel/svm.c (unverified). */
  readonly privateData?: bigint | undefined;
}

export function pageGroupResponse(
  at: Uint32Array,
  { sourceId, pasid, group, code, privateData }: GroupAnswer,
): void {
  const flags = (pasid === undefined ? 0 : PASID_PRESENT) | (code << 12) | (sourceId << 16);
  fill(at, Type.PAGE_GROUP_RESPONSE | flags, pasid ?? 0, group << 3);
  if (privateData === undefined) return;
  at[0] = (at[0] ?? 0) | PRIVATE_DATA_PRESENT;
  for (let word = 0; word < 4; word++)
    at[4 + word] = Number((privateData >> BigInt(32 * word)) & 0xffff_ffffn);
}
