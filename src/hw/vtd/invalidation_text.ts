// SPDX-License-Identifier: Apache-2.0
/** Invalidation descriptors in words. */
import { toBigint } from '../../base/u64.ts';
import { decodeRange } from '../../pci/ats_entry.ts';
import { DescriptorType } from './invalidation.ts';

const PAGE_BYTES = 0x1000n;

/** A request for invalidation as people read it. */
export interface InvalidationWords {
  readonly cache: 'IOTLB' | 'PASID cache' | 'context cache' | 'device TLB' | 'interrupt entries';
  /** `IOTLB, pages 0x1000-0x1fff of domain 5` */
  readonly text: string;
  /** In bytes; absent where it is for all addresses. */
  readonly range?: { readonly first: bigint; readonly last: bigint };
  /** Of requests with this PASID, 0 for those without one; absent where it is for all. */
  readonly pasid?: number;
  /** Of one device, by its requester id; absent where it is for all. */
  readonly requester?: number;
}

/** The words are of a descriptor without mistakes. */
export function invalidationWords(words: Uint32Array): InvalidationWords {
  const [pasid, requester] = [pasidOf(words), requesterOf(words)];
  return {
    ...sayAll(words),
    ...(pasid !== undefined && { pasid }),
    ...(requester !== undefined && { requester }),
  };
}

function requesterOf([w0 = 0, w1 = 0]: Uint32Array): number | undefined {
  switch (w0 & 0xf) {
    case DescriptorType.CONTEXT:
      return ((w0 >>> 4) & 3) === 3 ? w1 & 0xffff : undefined;
    case DescriptorType.DEVICE_TLB:
      return w1 & 0xffff;
    case DescriptorType.PASID_DEVICE_TLB:
      return w0 >>> 16;
    default:
      return undefined;
  }
}

function pasidOf([w0 = 0, w1 = 0, w2 = 0]: Uint32Array): number | undefined {
  const pasid = w1 & 0xf_ffff;
  switch (w0 & 0xf) {
    case DescriptorType.PASID_IOTLB:
      return pasid;
    case DescriptorType.PASID_CACHE:
      return ((w0 >>> 4) & 3) === 1 ? pasid : undefined;
    case DescriptorType.DEVICE_TLB:
      return 0;
    case DescriptorType.PASID_DEVICE_TLB:
      return (w2 & 1) === 0 ? pasid : undefined;
    default:
      return undefined;
  }
}

function sayAll(words: Uint32Array): InvalidationWords {
  const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = words;
  const did = `domain ${(w0 >>> 16) & 0xffff}`;
  const granularity = (w0 >>> 4) & 3;
  const pasid = `PASID ${w1 & 0xf_ffff}`;
  switch (w0 & 0xf) {
    case DescriptorType.CONTEXT:
      if (granularity === 1) return say('context cache', 'all');
      return say('context cache', granularity === 2 ? did : `${did}, device ${hex(w1 & 0xffff)}`);
    case DescriptorType.IOTLB:
      if (granularity === 1) return say('IOTLB', 'all');
      return granularity === 2 ? say('IOTLB', did) : sayPages(did, w2, w3);
    case DescriptorType.PASID_IOTLB:
      if (granularity === 3) return sayPages(`${pasid} of ${did}`, w2, w3);
      return say('IOTLB', `${pasid} of ${did}`);
    case DescriptorType.PASID_CACHE:
      if (granularity === 3) return say('PASID cache', 'all');
      return say('PASID cache', granularity === 0 ? did : `${pasid} of ${did}`);
    case DescriptorType.DEVICE_TLB:
      return sayRange(`device ${hex(w1 & 0xffff)}`, toBigint(w2, w3), (w2 & 1) !== 0);
    case DescriptorType.PASID_DEVICE_TLB: {
      const whose = (w2 & 1) === 0 ? pasid : 'all PASIDs';
      const isLarge = (w2 & 0x800) !== 0;
      return sayRange(`device ${hex(w0 >>> 16)}, ${whose}`, toBigint(w2, w3), isLarge);
    }
    default:
      return say('interrupt entries', 'all');
  }
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

const say = (cache: InvalidationWords['cache'], whose: string): InvalidationWords => ({
  cache,
  text: `${cache}, ${whose}`,
});

/** The range that an address of ATS names; without one where that is everything. */
function sayRange(whose: string, word: bigint, isLarge: boolean): InvalidationWords {
  const { start, sizeLg2 } = decodeRange((word & ~0xfffn) | (isLarge ? 0x800n : 0n));
  if (sizeLg2 === 64) return say('device TLB', whose);
  const [first, last] = [start, start + (1n << BigInt(sizeLg2)) - 1n];
  const text = `device TLB, ${hex(first)}-${hex(last)} of ${whose}`;
  return { cache: 'device TLB', text, range: { first, last } };
}

/** The pages that an address with its mask names; without tables where the hint (IH) is set. */
function sayPages(whose: string, lo: number, hi: number): InvalidationWords {
  const count = 1n << BigInt(lo & 0x3f);
  const page = (BigInt(hi) << 20n) | BigInt(lo >>> 12);
  const start = page - (page % count);
  const [first, last] = [start * PAGE_BYTES, (start + count) * PAGE_BYTES - 1n];
  const hint = (lo & 0x40) === 0 ? '' : ' (leaves only)';
  const text = `IOTLB, ${hex(first)}-${hex(last)}${hint} of ${whose}`;
  return { cache: 'IOTLB', text, range: { first, last } };
}
