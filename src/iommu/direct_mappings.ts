// SPDX-License-Identifier: Apache-2.0
import { FRAME_SHIFT } from '../memory/frame.ts';
import type { Device } from './device.ts';
import { type Domain, DomainType, isPagingDomain, NO_FRAME, type PagingDomain } from './domain.ts';
import { type ResvRegion, ResvType } from './reserved.ts';

/**
 * Maps a device's direct regions one to one in a default domain, and notes whether the device can ever be blocked. What another
 * device of the group has mapped already stays. 0, or the errno of a map. Counterpart of
 * `iommu_create_device_direct_mappings()`.
 */
export function createDirectMappings(domain: Domain, device: Device): number {
  const regions = device.group?.core.resvRegions(device) ?? [];
  for (const region of regions) {
    if (region.type === ResvType.DIRECT) device.requireDirect = true;
    const isDirect = region.type === ResvType.DIRECT || region.type === ResvType.DIRECT_RELAXABLE;
    if (!isDirect || domain.type !== DomainType.DMA || !isPagingDomain(domain)) continue;
    const rc = mapDirect(domain, region);
    if (rc !== 0) return rc;
  }
  return 0;
}

function mapDirect(domain: PagingDomain, region: ResvRegion): number {
  const page = domain.pgsizeBitmap & -domain.pgsizeBitmap;
  const alignUp = (value: bigint): bigint => (value + page - 1n) & -page;
  const end = alignUp(region.last + 1n);
  const frames = (bytes: bigint): number => Number(bytes >> BigInt(FRAME_SHIFT));
  let start = alignUp(region.start);
  for (let at = start; at <= end; at += page) {
    const isFree = at < end && domain.iovaToFrame(at) === NO_FRAME;
    if (isFree) continue;
    if (at > start) {
      const rc = domain.map(start, frames(start), frames(at - start), region.prot);
      if (rc !== 0) return rc;
    }
    start = at + page;
  }
  return 0;
}
