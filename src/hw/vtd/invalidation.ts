// SPDX-License-Identifier: Apache-2.0
import type { Bindings } from './bindings.ts';
import type { Capabilities } from './capabilities.ts';
import { type InvalidationWords, invalidationWords } from './invalidation_text.ts';
import type { Iotlb, Scope } from './iotlb.ts';
import { Iqei } from './registers.ts';
import type { Walker } from './walker.ts';

/** How a device answers an invalidation of its own cache (ATS). 'invalid' is an answer that nobody asked for. */
export type DeviceTlbAnswer = 'done' | 'timeout' | 'invalid';

/** The caches in devices. `pasid` undefined: of requests without PASID; `page` undefined: everything. */
export interface DeviceTlbs {
  invalidate(
    sid: number,
    pasid: number | undefined,
    page: number | undefined,
    lg2: number,
  ): DeviceTlbAnswer;
}

/** Kinds of descriptors: bits 3:0 of the first word. */
export const DescriptorType = {
  CONTEXT: 1,
  IOTLB: 2,
  DEVICE_TLB: 3,
  INTERRUPT_ENTRY: 4,
  WAIT: 5,
  PASID_IOTLB: 6,
  PASID_CACHE: 7,
  PASID_DEVICE_TLB: 8,
} as const;

/**
 * Bits that are reserved in the first four words of each kind; the other four words always are. Source: VirtualBox
 * include/VBox/iommu-intel.h; types 3, 4 and 8: Linux drivers/iommu/intel/iommu.h, unverified.
 */
const RESERVED: Readonly<Record<number, readonly [number, number, number, number]>> = {
  [DescriptorType.CONTEXT]: [0xffc0 & ~0xe00, 0xfffc_0000, 0xffff_ffff, 0xffff_ffff],
  [DescriptorType.IOTLB]: [0xf100, 0xffff_ffff, 0xf80, 0],
  [DescriptorType.DEVICE_TLB]: [0xffe0_01f0, 0x000f_0000, 0xffe, 0],
  [DescriptorType.INTERRUPT_ENTRY]: [0x07ff_f1e0, 0xffff_0000, 0xffff_ffff, 0xffff_ffff],
  [DescriptorType.WAIT]: [0xffff_f100, 0, 3, 0],
  [DescriptorType.PASID_IOTLB]: [0xf1c0, 0xfff0_0000, 0xf80, 0],
  [DescriptorType.PASID_CACHE]: [0xf1c0, 0xfff0_0000, 0xffff_ffff, 0xffff_ffff],
  [DescriptorType.PASID_DEVICE_TLB]: [0, 0, 0x7fe, 0],
};

/** What came of a descriptor, beside a number of {@link Iqei}. */
export const TIMED_OUT = -1;
export const STRAY_ANSWER = -2;

/** What each request for invalidation does to the caches, from queue and registers alike. */
export class Invalidation {
  deviceTlbs: DeviceTlbs | undefined = undefined;
  /** Told of each request that was made, in words. */
  told: ((request: InvalidationWords) => void) | undefined = undefined;
  readonly #caps: Capabilities;
  readonly #bindings: Bindings;
  readonly #iotlb: Iotlb;
  readonly #walker: Walker;

  constructor(caps: Capabilities, bindings: Bindings, iotlb: Iotlb, walker: Walker) {
    this.#caps = caps;
    this.#bindings = bindings;
    this.#iotlb = iotlb;
    this.#walker = walker;
  }

  all(): void {
    this.#bindings.clearContexts();
    this.#bindings.clearPasids();
    this.#iotlb.clear();
    this.#walker.clear();
  }

  /** Context entries: 1 all, 2 of a domain, 3 of a requester. The granularity that was done, 0 where there is none such. */
  context(granularity: number, did: number, sid: number, mask: number): number {
    if (granularity === 1) this.#bindings.clearContexts();
    else if (granularity === 2) this.#bindings.forgetDomain(did);
    else if (granularity === 3) this.#bindings.forgetRequester(sid, mask);
    return granularity;
  }

  /** IOTLB and paging structures: 1 all, 2 of a domain, 3 pages of a domain. The granularity that was done, 0 for a wrong request. */
  iotlb(granularity: number, did: number, lo: number, hi: number): number {
    if (granularity === 0) return 0;
    if (granularity === 3 && !this.#caps.hasPageInvalidation) return this.iotlb(2, did, 0, 0);
    if (granularity === 3 && (lo & 0x3f) > this.#caps.maxMask) return 0;
    this.#drop(scopeOf(granularity === 1 ? -1 : did, undefined, granularity === 3, lo, hi));
    return granularity;
  }

  /** Carries out a descriptor that is no wait: 0, a number of {@link Iqei}, or {@link TIMED_OUT}, {@link STRAY_ANSWER}. */
  execute(words: Uint32Array, count: number): number {
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = words;
    const bad = this.check(words, count);
    if (bad !== 0) return bad;
    const did = (w0 >>> 16) & 0xffff;
    const granularity = (w0 >>> 4) & 3;
    this.told?.(invalidationWords(words));
    switch (w0 & 0xf) {
      case DescriptorType.CONTEXT:
        return this.context(granularity, did, w1 & 0xffff, (w1 >>> 16) & 3) === 0
          ? Iqei.RESERVED_FIELD
          : 0;
      case DescriptorType.IOTLB:
        return this.iotlb(granularity, did, w2, w3) === 0 ? Iqei.RESERVED_FIELD : 0;
      case DescriptorType.DEVICE_TLB:
        return this.#deviceTlb(w1 & 0xffff, undefined, w2, w3, (w2 & 1) !== 0);
      case DescriptorType.PASID_DEVICE_TLB:
        return this.#deviceTlb((w0 >>> 16) & 0xffff, w1 & 0xf_ffff, w2, w3, (w2 & 0x800) !== 0);
      case DescriptorType.PASID_IOTLB:
        return this.#pasidIotlb(granularity, did, w1 & 0xf_ffff, w2, w3);
      case DescriptorType.PASID_CACHE:
        return this.#pasidCache(granularity, did, w1 & 0xf_ffff);
      default:
        return 0;
    }
  }

  /** A descriptor's kind and reserved bits: 0, or a number of {@link Iqei}. */
  check(words: Uint32Array, count: number): number {
    const w0 = words[0] ?? 0;
    const type = (w0 & 0xf) | ((w0 >>> 5) & 0x70);
    const reserved = RESERVED[type];
    if (reserved === undefined || !this.#knows(type)) return Iqei.INVALID_TYPE;
    for (let i = 0; i < count; i++) {
      if (((words[i] ?? 0) & (reserved[i] ?? 0xffff_ffff)) !== 0) return Iqei.RESERVED_FIELD;
    }
    return 0;
  }

  #knows(type: number): boolean {
    const { hasDeviceTlbs, isScalable, hasPasid } = this.#caps;
    if (type === DescriptorType.DEVICE_TLB) return hasDeviceTlbs;
    if (type === DescriptorType.PASID_DEVICE_TLB) return hasDeviceTlbs && hasPasid;
    return type <= DescriptorType.WAIT || isScalable;
  }

  #pasidIotlb(granularity: number, did: number, pasid: number, lo: number, hi: number): number {
    if (granularity < 2) return Iqei.RESERVED_FIELD;
    if (granularity === 3 && (lo & 0x3f) > this.#caps.maxMask) return Iqei.RESERVED_FIELD;
    this.#drop(scopeOf(did, pasid, granularity === 3, lo, hi));
    return 0;
  }

  #pasidCache(granularity: number, did: number, pasid: number): number {
    if (granularity === 2) return Iqei.RESERVED_FIELD;
    if (granularity === 3) this.#bindings.clearPasids();
    else this.#bindings.forgetPasids(did, granularity === 0 ? undefined : pasid);
    return 0;
  }

  #drop(scope: Scope): void {
    this.#iotlb.invalidate(scope);
    this.#walker.invalidate(scope);
  }

  /** `isRange`: the lowest zero of the page number says how many pages are meant. */
  #deviceTlb(
    sid: number,
    pasid: number | undefined,
    lo: number,
    hi: number,
    isRange: boolean,
  ): number {
    let page: number | undefined = hi * 2 ** 20 + (lo >>> 12);
    let lg2 = 0;
    if (isRange) {
      let ones = 0;
      for (let rest = page; rest % 2 === 1; rest = (rest - 1) / 2) ones++;
      lg2 = ones + 1;
      page = lg2 >= 51 ? undefined : page - (page % 2 ** lg2);
    }
    const answer = this.deviceTlbs?.invalidate(sid, pasid, page, lg2) ?? 'done';
    if (answer === 'done') return 0;
    return answer === 'timeout' ? TIMED_OUT : STRAY_ANSWER;
  }
}

function scopeOf(
  did: number,
  pasid: number | undefined,
  isPages: boolean,
  lo: number,
  hi: number,
): Scope {
  if (!isPages) return { did, pasid, page: undefined, lg2: 0, keepsTables: false };
  const page = hi * 2 ** 20 + (lo >>> 12);
  return { did, pasid, page, lg2: lo & 0x3f, keepsTables: (lo & 0x40) !== 0 };
}
