// SPDX-License-Identifier: Apache-2.0

/**
 * What unmaps have changed and the hardware has not been told yet: one range that covers it, and the tables that may be
 * freed only after the flush, since a walk under way can still read them. Counterpart of `struct iommu_iotlb_gather`.
 */
export class IotlbGather {
  /** The range to flush, in iova frames: `start..last` inclusive; empty where `last < start`. */
  start = Infinity;
  last = -1;
  /** First frames of removed tables. */
  readonly tables: number[] = [];
  /** True where a flush of everything follows later, so that nothing need be flushed for each range. */
  readonly queued: boolean;

  constructor(options: { readonly queued?: boolean } = {}) {
    this.queued = options.queued ?? false;
  }

  get isEmpty(): boolean {
    return this.last < this.start && this.tables.length === 0;
  }

  /** Widens the range by `frames` frames from iova frame `start`. */
  addRange(start: number, frames: number): void {
    if (start < this.start) this.start = start;
    const last = start + frames - 1;
    if (last > this.last) this.last = last;
  }

  addTable(frame: number): void {
    this.tables.push(frame);
  }

  /** Makes it ready for another round of unmaps. */
  reset(): void {
    this.start = Infinity;
    this.last = -1;
    this.tables.length = 0;
  }
}
