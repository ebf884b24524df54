// SPDX-License-Identifier: Apache-2.0
import { toBigint } from '../../base/u64.ts';
import type { Binding } from './binding.ts';
import type { Bindings } from './bindings.ts';
import type { Capabilities } from './capabilities.ts';
import type { DeviceTlbRequest, DeviceTlbs } from './device_tlbs.ts';
import { type InvalidationWords, invalidationWords } from './invalidation_text.ts';
import { type Iotlb, Pgtt, type Scope } from './iotlb.ts';
import type { PageRequestQueue } from './page_requests.ts';
import { Iqei } from './registers.ts';
import type { Walker } from './walker.ts';

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
  PAGE_GROUP_RESPONSE: 9,
} as const;

/**
 * Bits that are reserved in the first four words of each kind; the other four words always are. Source: VTD-5.10 §6.5.2 and, for 9,
 * VTD-5.10 §7.6.1; VirtualBox include/VBox/iommu-intel.h.
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
  [DescriptorType.PAGE_GROUP_RESPONSE]: [0x1e0, 0xfff0_0000, 0xffff_f003, 0xffff_ffff],
};

/** What else is reserved where the unit has not what it is for: the physical function (DIT), the drain of a wait (PDS). */
const RESERVED_WITHOUT_DIT: Readonly<Record<number, readonly [number, number]>> = {
  [DescriptorType.DEVICE_TLB]: [0xf000, 0xfff0_0000],
  [DescriptorType.PASID_DEVICE_TLB]: [0xf000, 0xfff0_0000],
};
const PD = 0x80;
/** Not reserved where page requests have private data: that an answer has it (PDP), and where. */
const USED_WITH_PRIVATE_DATA: readonly number[] = [0x20, 0, 0, 0, -1, -1, -1, -1];
const NOTHING: readonly number[] = [];

/** Where the descriptors go that are not for the unit's own caches. */
export interface Destinations {
  readonly deviceTlbs: DeviceTlbs;
  readonly pageRequests: PageRequestQueue;
}

/** What each request for invalidation does to the caches, from queue and registers alike. */
export class Invalidation {
  /** Told of each request that was made, in words. */
  told: ((request: InvalidationWords) => void) | undefined = undefined;
  readonly #caps: Capabilities;
  readonly #bindings: Bindings;
  readonly #iotlb: Iotlb;
  readonly #walker: Walker;
  readonly #to: Destinations;

  constructor(
    caps: Capabilities,
    bindings: Bindings,
    iotlb: Iotlb,
    walker: Walker,
    to: Destinations,
  ) {
    this.#caps = caps;
    this.#bindings = bindings;
    this.#iotlb = iotlb;
    this.#walker = walker;
    this.#to = to;
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

  /**
   * IOTLB and paging structures: 1 all, 2 of a domain, 3 pages of a domain. The granularity that was done, 0 for a wrong request. A unit
   * without invalidation of pages makes that, of a register, one of the domain; a descriptor of that kind is wrong (VTD-5.10 §6.5.2.3).
   */
  iotlb(granularity: number, did: number, lo: number, hi: number): number {
    if (granularity === 0) return 0;
    if (granularity === 3 && !this.#caps.hasPageInvalidation) return this.iotlb(2, did, 0, 0);
    if (granularity === 3 && (lo & 0x3f) > this.#caps.maxMask) return 0;
    this.#drop(scopeOf(granularity === 1 ? -1 : did, undefined, granularity === 3, lo, hi));
    return granularity;
  }

  /** Whether a descriptor can be carried out now: one for a device, when the device takes another one. */
  canTake(words: Uint32Array): boolean {
    const request = this.#deviceTlbRequest(words);
    return request === undefined || this.#to.deviceTlbs.canSend(request);
  }

  /** A page request takes the translations of its page out of the caches: VTD-5.10 §6.5.3.1. */
  forgetPage({ did, pgtt, tlbPasid }: Binding, page: number): void {
    const scope = { did, pasid: undefined, page, lg2: 0, keepsTables: false };
    if (pgtt === Pgtt.FIRST) this.#drop({ ...scope, pasid: tlbPasid });
    else this.#drop(pgtt === Pgtt.NESTED ? { ...scope, page: undefined } : scope);
  }

  /** Carries out a descriptor that is no wait: 0, or a number of {@link Iqei}. */
  execute(words: Uint32Array, count: number): number {
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = words;
    const bad = this.check(words, count);
    if (bad !== 0) return bad;
    const did = (w0 >>> 16) & 0xffff;
    const granularity = (w0 >>> 4) & 3;
    if ((w0 & 0xf) === DescriptorType.PAGE_GROUP_RESPONSE) {
      this.#to.pageRequests.carryOut(words, count);
      return 0;
    }
    this.told?.(invalidationWords(words));
    const request = this.#deviceTlbRequest(words);
    if (request) this.#to.deviceTlbs.invalidate(request);
    switch (w0 & 0xf) {
      case DescriptorType.CONTEXT:
        return this.context(granularity, did, w1 & 0xffff, (w1 >>> 16) & 3) === 0
          ? Iqei.RESERVED_FIELD
          : 0;
      case DescriptorType.IOTLB:
        if (granularity === 3 && !this.#caps.hasPageInvalidation) return Iqei.RESERVED_FIELD;
        return this.iotlb(granularity, did, w2, w3) === 0 ? Iqei.RESERVED_FIELD : 0;
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
    const more = this.#caps.hasDeviceTlbThrottle ? undefined : RESERVED_WITHOUT_DIT[type];
    if (more && ((w0 & more[0]) | ((words[1] ?? 0) & more[1])) !== 0) return Iqei.RESERVED_FIELD;
    if (type === DescriptorType.WAIT && (w0 & PD) !== 0 && !this.#caps.hasPageDrain)
      return Iqei.RESERVED_FIELD;
    const isAnswer = type === DescriptorType.PAGE_GROUP_RESPONSE && this.#caps.hasPrivateData;
    const used = isAnswer ? USED_WITH_PRIVATE_DATA : NOTHING;
    for (let i = 0; i < count; i++) {
      const bits = (reserved[i] ?? 0xffff_ffff) & ~(used[i] ?? 0);
      if (((words[i] ?? 0) & bits) !== 0) return Iqei.RESERVED_FIELD;
    }
    return 0;
  }

  /** Legacy mode has kinds 1 to 5 only (VTD-5.10 §6.5.2.11). */
  #knows(type: number): boolean {
    const { hasDeviceTlbs, hasPageRequests } = this.#caps;
    if (type === DescriptorType.DEVICE_TLB) return hasDeviceTlbs;
    if (!this.#bindings.isScalable) return type <= DescriptorType.WAIT;
    if (type === DescriptorType.PAGE_GROUP_RESPONSE) return hasPageRequests;
    return type !== DescriptorType.PASID_DEVICE_TLB || hasDeviceTlbs;
  }

  /** Whatever PSI and MAMV say, pages of any mask: VTD-5.10 §11.4.2. */
  #pasidIotlb(granularity: number, did: number, pasid: number, lo: number, hi: number): number {
    if (granularity < 2) return Iqei.RESERVED_FIELD;
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

  /** Undefined: the descriptor is for no device. */
  #deviceTlbRequest([w0 = 0, w1 = 0, w2 = 0, w3 = 0]: Uint32Array): DeviceTlbRequest | undefined {
    const isPlain = (w0 & 0xf) === DescriptorType.DEVICE_TLB;
    if (!isPlain && (w0 & 0xf) !== DescriptorType.PASID_DEVICE_TLB) return undefined;
    const sid = isPlain ? w1 & 0xffff : w0 >>> 16;
    const physical = ((w1 >>> 20) << 4) | ((w0 >>> 12) & 0xf);
    return {
      sid,
      pasid: isPlain ? undefined : w1 & 0xf_ffff,
      range: rangeOf(w2, w3, (w2 & (isPlain ? 1 : 0x800)) !== 0),
      global: !isPlain && (w2 & 1) !== 0,
      most: (w0 >>> (isPlain ? 16 : 4)) & 0x1f,
      physical: this.#caps.hasDeviceTlbThrottle ? physical : sid,
    };
  }
}

/** An address of a descriptor as ATS has it: with `isLarge`, its lowest zero from bit 12 on says how large the range is. */
const rangeOf = (lo: number, hi: number, isLarge: boolean): bigint =>
  toBigint((lo & 0xffff_f000) | (isLarge ? 0x800 : 0), hi);

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
