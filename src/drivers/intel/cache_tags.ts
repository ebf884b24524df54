// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { NO_PASID } from '../../iommu/device.ts';
import {
  iotlbOfDomain,
  iotlbOfPages,
  iotlbOfPasid,
  iotlbOfPasidPages,
  type PageRange,
} from './descriptors.ts';
import type { DeviceInfo } from './device_info.ts';
import type { DevicePasid } from './device_pasid.ts';
import type { Unit } from './unit.ts';

/**
 * Where translations of a domain can be cached. `nesting`: those of a guest's table that lies on this one, under the domain id of
 * the guest's.
 */
export type CacheKind = 'iotlb' | 'device' | 'nesting iotlb' | 'nesting device';

/** One place where translations of a domain are cached, and how many attachments lead there. */
export interface CacheTag {
  readonly kind: CacheKind;
  readonly unit: Unit;
  readonly did: number;
  /** Of what is cached by it: what a second stage alone translates is cached by domain id. */
  readonly pasid: number;
  /** Of a device's own cache. */
  readonly device: DeviceInfo | undefined;
  users: number;
}

/** Addresses are 64 bits: a stretch of this many pages, as a power of two, is everything. */
const ALL_LG2 = 52;
const LO_BITS = 26;
const LO_PAGES = 2 ** LO_BITS;

/**
 * The smallest stretch of pages, a power of two and aligned to its length, that covers iova frames from `start` to `last` (both
 * included); undefined where that is everything. Counterpart of `calculate_psi_aligned_address()`.
 */
export function coveringRange(start: number, last: number): PageRange | undefined {
  if (last < start) return undefined;
  const first = Math.floor(start / 2);
  const end = Math.floor(last / 2);
  const hiFirst = Math.floor(first / LO_PAGES);
  const hiEnd = Math.floor(end / LO_PAGES);
  const loFirst = first - hiFirst * LO_PAGES;
  const loEnd = end - hiEnd * LO_PAGES;
  const maskLg2 =
    hiFirst === hiEnd
      ? 32 - Math.clz32(loFirst ^ loEnd)
      : LO_BITS + 32 - Math.clz32(hiFirst ^ hiEnd);
  if (maskLg2 >= ALL_LG2) return undefined;
  const size = 2 ** maskLg2;
  return { page: Math.floor(first / size) * size, maskLg2 };
}

/**
 * All places where translations of one domain are cached: a flush goes to each of them, and nowhere else. Those of one unit go
 * in one submission. Counterpart of `dmar_domain::cache_tags`.
 */
export class CacheTags {
  /** By unit, in the order in which they came. */
  readonly #tags = new Map<Unit, CacheTag[]>();
  /** The caches go by PASID and address: of a first stage, or a guest's. */
  readonly #isByPasid: boolean;

  constructor(isByPasid: boolean) {
    this.#isByPasid = isByPasid;
  }

  /** Every tag, for tests. */
  get all(): CacheTag[] {
    return [...this.#tags.values()].flat();
  }

  /**
   * One more attachment leads there, under a domain id: to an IOTLB, and then to the device's own cache, which is filled from that; in this
   * order they are told. `isNesting`: what is cached is of a guest's table on this one. 0, or -ENOMEM and nothing has changed.
   */
  assign(at: DevicePasid, did: number, isNesting = false): number {
    const iotlb = this.#iotlbOf(at, did, isNesting);
    const rc = this.#add(iotlb);
    if (rc !== 0 || !at.info.fn.ats) return rc;
    const failed = this.#add(deviceTagOf(at, did, isNesting));
    if (failed !== 0) this.#remove(iotlb);
    return failed;
  }

  unassign(at: DevicePasid, did: number, isNesting = false): void {
    this.#remove(this.#iotlbOf(at, did, isNesting));
    if (at.info.fn.ats) this.#remove(deviceTagOf(at, did, isNesting));
  }

  /**
   * Makes the hardware forget iova frames from `start` to `last`. `leavesOnly`: no table was removed or changed. Nothing keeps it from
   * succeeding but broken hardware: 0, or the negative errno that the last attempt ended with, and what it was to forget may be in use.
   */
  flushRange(start: number, last: number, leavesOnly: boolean): number {
    const range = coveringRange(start, last);
    let result = 0;
    for (const [unit, tags] of this.#tags) {
      const batch = unit.takeBatch();
      for (const tag of tags) {
        // One that is off keeps nothing.
        if (tag.device && !tag.device.isAtsOn) continue;
        this.#describe(batch.next(), tag, range, leavesOnly);
      }
      const rc = unit.submit(batch, true);
      if (rc !== 0) result = rc;
    }
    return result;
  }

  flushAll(): number {
    return this.flushRange(0, -1, false);
  }

  /**
   * After a map where there was nothing: of hardware that caches what is not present (`iotlb` of a second stage), or that has to be told
   * to write its buffers. 0 or the negative errno of the submission. Counterpart of `cache_tag_flush_range_np()`.
   */
  flushMapped(start: number, last: number): number {
    const range = coveringRange(start, last);
    for (const [unit, tags] of this.#tags) {
      if (!unit.caps.hasCachingMode || this.#isByPasid) {
        const rc = unit.flushWriteBuffer();
        if (rc !== 0) return rc;
        continue;
      }
      const batch = unit.takeBatch();
      for (const tag of tags) {
        if (tag.device === undefined) this.#describe(batch.next(), tag, range, false);
      }
      const rc = unit.submit(batch, false);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  #describe(
    at: Uint32Array,
    tag: CacheTag,
    range: PageRange | undefined,
    leavesOnly: boolean,
  ): void {
    const { unit, did, pasid, device } = tag;
    if (device) {
      // Which of a guest's addresses a change of the stage below concerns is not known: all of them.
      const what = tag.kind === 'nesting device' ? undefined : range;
      device.describeFlush(at, pasid, what);
      return;
    }
    const isByAddress = range !== undefined && range.maskLg2 <= unit.caps.maxMaskLg2;
    // A leaf of this stage may be what led to one of the guest's tables: those are not to be kept.
    const keepsTables = leavesOnly && tag.kind !== 'nesting iotlb';
    if (this.#isByPasid) {
      if (isByAddress) iotlbOfPasidPages(at, did, pasid, range, keepsTables);
      else iotlbOfPasid(at, did, pasid);
    } else if (isByAddress) iotlbOfPages(at, did, range, keepsTables, unit.drains);
    else iotlbOfDomain(at, did, unit.drains);
  }

  /** Its PASID only where that tells caches apart. */
  #iotlbOf({ info, pasid }: DevicePasid, did: number, isNesting: boolean): CacheTag {
    return {
      kind: isNesting ? 'nesting iotlb' : 'iotlb',
      unit: info.unit,
      did,
      pasid: this.#isByPasid ? pasid : NO_PASID,
      device: undefined,
      users: 1,
    };
  }

  #add(tag: CacheTag): number {
    const { unit } = tag;
    const found = this.#find(tag);
    if (found) {
      found.users++;
      return 0;
    }
    if (unit.allocFails()) return -Errno.ENOMEM;
    const ofUnit = this.#tags.get(unit);
    if (ofUnit) ofUnit.push(tag);
    else this.#tags.set(unit, [tag]);
    return 0;
  }

  #remove(tag: CacheTag): void {
    const found = this.#find(tag);
    if (!found || --found.users > 0) return;
    const left = this.#tags.get(tag.unit) ?? [];
    left.splice(left.indexOf(found), 1);
    if (left.length === 0) this.#tags.delete(tag.unit);
  }

  #find({ kind, unit, did, pasid, device }: CacheTag): CacheTag | undefined {
    return this.#tags
      .get(unit)
      ?.find(
        (tag) =>
          tag.kind === kind && tag.did === did && tag.pasid === pasid && tag.device === device,
      );
  }
}

function deviceTagOf({ info, pasid }: DevicePasid, did: number, isNesting: boolean): CacheTag {
  const kind = isNesting ? 'nesting device' : 'device';
  return { kind, unit: info.unit, did, pasid, device: info, users: 1 };
}
