// SPDX-License-Identifier: Apache-2.0
import { type Cleanup, withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { IdTable } from '../base/id_table.ts';
import { type PagingDomain, Prot } from '../iommu/domain.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { RwSem } from '../sim/lock.ts';
import type { Access } from './access.ts';
import { Area } from './area.ts';
import { hex, IOVA_LAST, range } from './iova.ts';
import { IovaSpace } from './iova_space.ts';
import { DOMAINS_LOCK, reading, writing } from './locks.ts';
import type { Pages, PageWorld } from './pages.ts';

const PAGE = BigInt(PAGE_SIZE);
/** Times that an unmap asks an access to let go. */
const MAX_TRIES = 100;

/** A slice of pages to be mapped. */
export interface PagesSlice {
  readonly pages: Pages;
  readonly startByte: number;
  readonly length: bigint;
}

/**
 * The IOVA to page map of an address space (struct io_pagetable): the areas, the domains that carry a copy of them, and the
 * accesses of the kernel's own users.
 */
export class IoPagetable extends IovaSpace {
  readonly accesses = new IdTable<Access>(0);
  readonly domains: PagingDomain[] = [];
  largePagesDisabled = false;
  /** Held for reading while maps change, for writing while domains come and go. */
  readonly domainsLock: RwSem;

  constructor(world: PageWorld) {
    super(world);
    this.domainsLock = new RwSem(world.sim, DOMAINS_LOCK);
  }

  /** Runs `body` while nothing else changes the maps; domains stay as they are. */
  private changingMaps<R>(body: () => R): R {
    return reading(this.domainsLock, () => writing(this.iovaLock, body));
  }

  /** Runs `body` while neither maps nor domains change otherwise. */
  private changingDomains<R>(body: () => R): R {
    return writing(this.domainsLock, () => writing(this.iovaLock, body));
  }

  /**
   * Maps slices of pages one after the other at `iova`, or, where it is undefined, at an address it chooses.
   * Takes over one reference of each slice's pages on success.
   * @returns the first IOVA
   */
  map(
    slices: readonly PagesSlice[],
    length: bigint,
    iova: bigint | undefined,
    prot: number,
  ): bigint {
    return this.changingMaps(() => this.mapLocked(slices, length, iova, prot));
  }

  private mapLocked(
    slices: readonly PagesSlice[],
    length: bigint,
    iova: bigint | undefined,
    prot: number,
  ): bigint {
    return withCleanup((cleanup) => {
      this.checkMemory(slices.length);
      if (length === 0n) throw new ErrnoError('EINVAL', 'length is 0');
      if (length & (this.alignment - 1n)) throw this.misaligned('length', length);
      const start = this.placeAt(slices, length, iova);
      let at = start;
      const areas: Area[] = [];
      for (const slice of slices) {
        const area = this.insertArea(slice, at, prot);
        cleanup.defer(() => this.areas.remove(area));
        areas.push(area);
        at += slice.length;
      }
      for (const area of areas) {
        this.fillDomains(area);
        cleanup.defer(() => this.unfillDomains(area));
      }
      return start;
    });
  }

  private checkMemory(areas: number): void {
    for (let i = 0; i < areas; i++) {
      if (this.world.faults.point('alloc'))
        throw new ErrnoError('ENOMEM', 'no memory for the area');
    }
  }

  private placeAt(slices: readonly PagesSlice[], length: bigint, iova: bigint | undefined): bigint {
    if (iova !== undefined) {
      this.checkIova(iova, length);
      return iova;
    }
    const first = slices[0];
    if (!first) throw new Error('nothing to map');
    return this.chooseIova(addressOf(first), length);
  }

  private insertArea(slice: PagesSlice, iova: bigint, prot: number): Area {
    const { pages, startByte, length } = slice;
    if (prot & Prot.WRITE && !pages.writable) {
      throw new ErrnoError(
        'EPERM',
        'the pages were mapped read-only and the copy asks for IOMMU_IOAS_MAP_WRITEABLE',
      );
    }
    const offset = BigInt(startByte % PAGE_SIZE);
    if (offset & (this.alignment - 1n))
      throw this.misaligned('the offset of the memory in its page,', offset);
    const area = new Area(iova, iova + length - 1n, pages, startByte, prot);
    this.areas.insert(area);
    return area;
  }

  private fillDomains(area: Area): void {
    if (this.domains.length === 0) return;
    withCleanup((cleanup) => {
      area.hold(this.domains);
      cleanup.defer(() => area.letGo());
      for (const domain of this.domains) {
        area.mapInto(domain, this.largePagesDisabled);
        cleanup.defer(() => area.unmapFrom(domain));
      }
    });
  }

  private unfillDomains(area: Area): void {
    if (!area.filled) return;
    for (const domain of this.domains) area.unmapFrom(domain);
    area.letGo();
  }

  /** Slices of the pages under `[iova, iova + length)`, each with a reference taken. Source: iopt_get_pages(). */
  slices(iova: bigint, length: bigint): PagesSlice[] {
    if (length === 0n) throw new ErrnoError('EINVAL', 'length is 0');
    const last = iova + length - 1n;
    if (last > IOVA_LAST)
      throw new ErrnoError(
        'EOVERFLOW',
        `src_iova ${hex(iova)} + length ${hex(length)} exceeds 2^64`,
      );
    return reading(this.iovaLock, () => {
      const areas = this.contiguous(iova, last);
      if (!areas) throw new ErrnoError('ENOENT', `${range(iova, last)} is not mapped throughout`);
      return areas.map((area) => {
        const from = area.start > iova ? area.start : iova;
        const to = area.last < last ? area.last : last;
        return { pages: area.pages.get(), startByte: area.byteAt(from), length: to - from + 1n };
      });
    });
  }

  /**
   * Unmaps every area inside `[start, last]`. What was unmapped before an error stays unmapped.
   * @returns bytes unmapped, and the error that ended it
   */
  unmap(start: bigint, last: bigint): { unmapped: bigint; error: ErrnoError | undefined } {
    let unmapped = 0n;
    let from = start;
    let tries = 0;
    for (;;) {
      const step = this.changingMaps(() => this.unmapFree(from, last));
      unmapped += step.unmapped;
      const { busy, error } = step;
      if (!busy) return { unmapped, error };
      // The users of a pinned map are asked to let go with no lock held, then it is looked up again.
      tries = busy.start === from ? tries + 1 : 1;
      from = busy.start;
      this.notifyUnmap(busy.start, busy.length);
      if (tries > MAX_TRIES) {
        const what = `an access does not let go of ${range(busy.start, busy.last)}`;
        return { unmapped, error: new ErrnoError('EDEADLK', what) };
      }
    }
  }

  /** Unmaps up to the first area that an access holds, which it answers and closes to new accesses. */
  private unmapFree(
    start: bigint,
    last: bigint,
  ): { unmapped: bigint; busy?: Area; error?: ErrnoError | undefined } {
    if (start === 0n && last === IOVA_LAST && !this.domains.length && !this.accesses.size) {
      return { unmapped: this.clearAreas() };
    }
    let unmapped = 0n;
    let from = start;
    for (let area = this.areas.first(from, last); area; area = this.areas.first(from, last)) {
      const error = this.checkUnmap(area, from, last);
      if (error) return { unmapped, error };
      if (area.accesses) {
        area.preventAccess = true;
        return { unmapped, busy: area };
      }
      this.removeArea(area);
      unmapped += area.length;
      if (area.last >= last) break;
      from = area.last + 1n;
    }
    return { unmapped };
  }

  /** Unmaps everything where nobody uses anything: one pass, without keeping the tree in order meanwhile. */
  private clearAreas(): bigint {
    let unmapped = 0n;
    this.areas.clear((area) => {
      unmapped += area.length;
      area.pages.put();
    });
    return unmapped;
  }

  private checkUnmap(area: Area, start: bigint, last: bigint): ErrnoError | undefined {
    if (!area.locks && area.start >= start && area.last <= last) return undefined;
    const where = range(area.start, area.last);
    if (area.locks)
      return new ErrnoError('EBUSY', `the map at ${where} is in use by a hardware queue`);
    return new ErrnoError(
      'ENOENT',
      `${range(start, last)} would cut the map at ${where}: only whole maps can go`,
    );
  }

  private removeArea(area: Area): void {
    this.unfillDomains(area);
    this.areas.remove(area);
    area.pages.put();
  }

  /**
   * Cuts the map that holds `iova` behind it, for VFIO's unmap of the middle of a map. Nothing to do where it ends there; like
   * Linux, nothing is done where it begins there either. Source: iopt_area_split() of io_pagetable.c.
   */
  cut(iova: bigint): void {
    writing(this.iovaLock, () => this.cutLocked(iova));
  }

  private cutLocked(iova: bigint): void {
    const area = this.areas.first(iova, iova);
    if (!area || iova === area.start || iova === area.last) return;
    const where = range(area.start, area.last);
    if (area.preventAccess) throw new ErrnoError('EBUSY', `the map at ${where} is being unmapped`);
    if (area.pages.source.kind === 'dmabuf') {
      throw new ErrnoError('EOPNOTSUPP', `the map at ${where} is of a DMA-buf and can not be cut`);
    }
    const mask = this.alignment - 1n;
    if ((iova + 1n) & mask || BigInt(area.byteAt(iova + 1n)) & mask)
      throw this.misaligned('the cut at', iova + 1n);
    this.checkMemory(2);
    if (area.accesses)
      throw new ErrnoError('EINVAL', `the map at ${where} has pinned pages and can not be cut`);
    if (area.filled && !this.largePagesDisabled) {
      throw new ErrnoError(
        'EINVAL',
        `the map at ${where} may have large entries and can not be cut`,
      );
    }
    const halves = area.split(iova);
    this.areas.remove(area);
    for (const half of halves) {
      if (area.filled) half.hold(this.domains);
      this.areas.insert(half);
    }
    area.letGo();
    area.pages.get();
  }

  private notifyUnmap(iova: bigint, length: bigint): void {
    for (const [, access] of this.accesses.entries()) access.notifyUnmap(iova, length);
  }

  addAccess(access: Access): number {
    if (this.world.faults.point('alloc'))
      throw new ErrnoError('ENOMEM', 'no memory for the access list');
    return this.changingDomains(() =>
      withCleanup((cleanup) => {
        const id = this.accesses.reserve();
        cleanup.defer(() => this.accesses.erase(id));
        this.accesses.store(id, access);
        this.updateAlignment();
        return id;
      }),
    );
  }

  removeAccess(id: number): void {
    this.changingDomains(() => {
      this.accesses.erase(id);
      this.updateAlignment();
    });
  }

  /** Fills a domain with every area and keeps it in step from now on; on failure the domain is left empty. */
  addDomain(domain: PagingDomain): void {
    this.changingDomains(() => this.addDomainLocked(domain));
  }

  private addDomainLocked(domain: PagingDomain): void {
    withCleanup((cleanup) => {
      const granule = domain.pgsizeBitmap & -domain.pgsizeBitmap;
      const alignment = granule > this.alignment ? granule : this.alignment;
      if (alignment > PAGE)
        throw new ErrnoError('EINVAL', `the domain's smallest page ${hex(granule)} exceeds 4 KiB`);
      if (alignment !== this.alignment) this.checkAlignment(alignment);
      cleanup.defer(() => this.unreserveLocked(domain));
      if (domain.apertureStart > 0n) this.reserveLocked(0n, domain.apertureStart - 1n, domain);
      if (domain.apertureLast < IOVA_LAST)
        this.reserveLocked(domain.apertureLast + 1n, IOVA_LAST, domain);
      for (const area of this.areas) this.fillDomain(area, domain, cleanup);
      this.alignment = alignment;
      this.domains.push(domain);
    });
  }

  private fillDomain(area: Area, domain: PagingDomain, cleanup: Cleanup): void {
    if (!area.filled) {
      area.hold(this.domains);
      cleanup.defer(() => area.letGo());
    }
    area.mapInto(domain, this.largePagesDisabled);
    cleanup.defer(() => area.unmapFrom(domain));
  }

  removeDomain(domain: PagingDomain): void {
    this.changingDomains(() => this.removeDomainLocked(domain));
  }

  private removeDomainLocked(domain: PagingDomain): void {
    const index = this.domains.indexOf(domain);
    if (index < 0) throw new Error('the domain is not in this address space');
    for (const area of this.areas) area.unmapFrom(domain);
    // The last one takes the place, as in Linux's array: which domain is first decides nothing else.
    const tail = this.domains.pop();
    if (tail && tail !== domain) this.domains[index] = tail;
    if (this.domains.length === 0) for (const area of this.areas) area.letGo();
    this.unreserveLocked(domain);
    this.updateAlignment();
  }

  /** Large entries in domains, on or off. Off fails with EINVAL while a domain holds maps. */
  setLargePages(enabled: boolean): void {
    this.changingDomains(() => this.setLargePagesLocked(enabled));
  }

  private setLargePagesLocked(enabled: boolean): void {
    if (enabled !== this.largePagesDisabled) return;
    if (!enabled && this.domains.length && this.areas.size) {
      throw new ErrnoError('EINVAL', 'large pages can not be turned off while a domain holds maps');
    }
    this.largePagesDisabled = !enabled;
    try {
      this.updateAlignment();
    } catch (error) {
      this.largePagesDisabled = enabled;
      throw error;
    }
  }

  private updateAlignment(): void {
    let alignment = this.largePagesDisabled ? PAGE : 1n;
    for (const { pgsizeBitmap } of this.domains) {
      const granule = pgsizeBitmap & -pgsizeBitmap;
      if (granule > alignment) alignment = granule;
    }
    for (const [, access] of this.accesses.entries()) {
      if (access.iovaAlignment > alignment) alignment = access.iovaAlignment;
    }
    if (alignment > this.alignment) this.checkAlignment(alignment);
    this.alignment = alignment;
  }

  /** Ends the table: everything in it must have gone but the allowed ranges and the test's reservations. */
  destroy(): void {
    this.unreserve(undefined);
    this.allowed.clear();
    const left = {
      areas: this.areas.size,
      domains: this.domains.length,
      accesses: this.accesses.size,
      reserved: this.reserved.size,
    };
    if (Object.values(left).some((count) => count > 0)) {
      throw new Error(`an address space ends with ${JSON.stringify(left)} left`);
    }
  }
}

/** The address that the choice of an IOVA follows: where the memory starts in its process or file. */
function addressOf({ pages, startByte }: PagesSlice): bigint {
  const { source } = pages;
  return BigInt(startByte) + (source.kind === 'user' ? source.address : source.start);
}
