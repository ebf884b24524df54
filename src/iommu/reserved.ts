// SPDX-License-Identifier: Apache-2.0

/** Why a device's addresses are reserved. The numbers are Linux's (include/linux/iommu.h). */
export const ResvType = {
  /** Must be mapped one to one, always. */
  DIRECT: 0,
  /** Advertised as one to one, but a user may take the device without (USB, graphics). */
  DIRECT_RELAXABLE: 1,
  /** Never to be mapped. */
  RESERVED: 2,
  /** Interrupts of the hardware, not translated. */
  MSI: 3,
  /** A window that software maps interrupt doorbells into. */
  SW_MSI: 4,
} as const;
export type ResvType = (typeof ResvType)[keyof typeof ResvType];

/** The names under which sysfs shows them. */
export const RESV_TYPE_NAMES = ['direct', 'direct-relaxable', 'reserved', 'msi', 'msi'] as const;

/** Addresses of one device (B5) that are not free to be mapped; bytes, `last` inclusive. */
export interface ResvRegion {
  readonly start: bigint;
  readonly last: bigint;
  /** For direct regions: bits of Prot. */
  readonly prot: number;
  readonly type: ResvType;
}

const byStart = (a: ResvRegion, b: ResvRegion): number =>
  a.start === b.start ? a.type - b.type : a.start < b.start ? -1 : 1;

/** The regions of several devices as sysfs lists them for a group: sorted, touching ones of one type joined. */
export function mergeResvRegions(regions: readonly ResvRegion[]): ResvRegion[] {
  const merged: ResvRegion[] = [];
  const open = new Map<ResvType, number>();
  for (const region of regions.toSorted(byStart)) {
    const at = open.get(region.type);
    const previous = at === undefined ? undefined : merged[at];
    if (at !== undefined && previous && region.start <= previous.last + 1n) {
      if (region.last > previous.last) merged[at] = { ...previous, last: region.last };
      continue;
    }
    open.set(region.type, merged.length);
    merged.push(region);
  }
  return merged;
}
