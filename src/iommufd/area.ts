// SPDX-License-Identifier: Apache-2.0
import { IntervalNode } from '../base/interval_tree.ts';
import type { PagingDomain } from '../iommu/domain.ts';
import { FRAME_SHIFT, FRAME_SIZE, type FrameRun } from '../memory/frame.ts';
import { PAGE_SHIFT, PAGE_SIZE } from '../memory/mm.ts';
import { ErrnoError, errnoName, type ErrnoName } from '../base/errno.ts';
import { DomainPages, type Pages } from './pages.ts';

/**
 * A mapped stretch of IOVA, `start..last` in bytes, and the slice of pages that it shows (struct iopt_area). Immutable but
 * for its users: accesses, locks and domains.
 */
export class Area extends IntervalNode<bigint> {
  readonly pages: Pages;
  /** Bytes from the start of `pages` to the area's first byte. */
  readonly startByte: number;
  /** Bits of Prot. */
  readonly prot: number;
  accesses = 0;
  /** Accesses of kernel objects that no unmap may disturb (hardware queues). */
  locks = 0;
  /** An unmap waits for the accesses to go: no new ones. */
  preventAccess = false;
  /** What the domains hold of the pages; undefined while there is no domain. */
  private held: DomainPages | undefined = undefined;

  constructor(start: bigint, last: bigint, pages: Pages, startByte: number, prot: number) {
    super(start, last);
    this.pages = pages;
    this.startByte = startByte;
    this.prot = prot;
  }

  get length(): bigint {
    return this.last - this.start + 1n;
  }

  get pageOffset(): number {
    return this.startByte % PAGE_SIZE;
  }

  get firstPage(): number {
    return Math.floor(this.startByte / PAGE_SIZE);
  }

  get lastPage(): number {
    return this.pageAt(this.last);
  }

  /** Bytes from the start of the pages to an IOVA of this area. */
  byteAt(iova: bigint): number {
    return Number(iova - this.start) + this.startByte;
  }

  /** Index of the page that an IOVA of this area falls into. */
  pageAt(iova: bigint): number {
    return Number((iova - this.start + BigInt(this.startByte)) >> BigInt(PAGE_SHIFT));
  }

  get filled(): boolean {
    return this.held !== undefined;
  }

  /** Two areas of the same pages in place of this one, the first ending with `iova`; neither is held or used yet. */
  split(iova: bigint): [Area, Area] {
    return [
      new Area(this.start, iova, this.pages, this.startByte, this.prot),
      new Area(iova + 1n, this.last, this.pages, this.byteAt(iova + 1n), this.prot),
    ];
  }

  /** Pins the pages for the domains, without mapping them anywhere yet. Throws as {@link Pages.addDomain}. */
  hold(domains: readonly PagingDomain[]): void {
    const held = new DomainPages(this.firstPage, this.lastPage, () => {
      for (const domain of domains) this.unmapFrom(domain);
    });
    this.pages.addDomain(held);
    this.held = held;
  }

  /** Gives the pages of {@link hold} back; every domain must have been unmapped. */
  letGo(): void {
    if (this.held) this.pages.removeDomain(this.held);
    this.held = undefined;
  }

  /** Maps the held pages into a domain, all or nothing. @param small one page at a time, never a large entry */
  mapInto(domain: PagingDomain, small: boolean): void {
    if (this.pages.revoked) return;
    let iova = this.start;
    for (const run of this.frameRuns(small)) {
      const error = domain.map(iova, run.frame, run.frames, this.prot);
      if (error) {
        if (iova > this.start)
          domain.unmap(this.start, Number((iova - this.start) >> BigInt(FRAME_SHIFT)));
        const at = iova.toString(16);
        throw new ErrnoError(
          errnoName(-error) as ErrnoName,
          `the domain refused to map iova 0x${at}`,
        );
      }
      iova += BigInt(run.frames) << BigInt(FRAME_SHIFT);
    }
  }

  unmapFrom(domain: PagingDomain): void {
    if (this.pages.revoked) return;
    domain.unmap(this.start, Number(this.length >> BigInt(FRAME_SHIFT)));
  }

  /** The area's frames in order, cut to its first and last byte. */
  private frameRuns(small: boolean): FrameRun[] {
    const runs: FrameRun[] = [];
    let skip = this.pageOffset / FRAME_SIZE;
    let left = Number(this.length >> BigInt(FRAME_SHIFT));
    for (const run of this.pages.frames(this.firstPage, this.lastPage)) {
      const frame = run.frame + skip;
      const frames = Math.min(run.frames - skip, left);
      skip = 0;
      left -= frames;
      if (small) splitToPages(runs, frame, frames);
      else runs.push({ frame, frames });
    }
    return runs;
  }
}

const PAGE_FRAMES = PAGE_SIZE / FRAME_SIZE;

function splitToPages(runs: FrameRun[], frame: number, frames: number): void {
  for (let done = 0; done < frames; done += PAGE_FRAMES) {
    runs.push({ frame: frame + done, frames: Math.min(PAGE_FRAMES, frames - done) });
  }
}
