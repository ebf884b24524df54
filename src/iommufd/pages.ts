// SPDX-License-Identifier: Apache-2.0
import { Errno, ErrnoError } from '../base/errno.ts';
import { IntervalNode, IntervalTree } from '../base/interval_tree.ts';
import { AccountMode, charge, type Payer, uncharge } from '../memory/accounting.ts';
import type { ClientMemory } from '../memory/client_memory.ts';
import { FRAME_SIZE, type FrameRun } from '../memory/frame.ts';
import { type Mm, PAGE_SIZE } from '../memory/mm.ts';
import type { Faults } from '../sim/faults.ts';
import type { Mutex } from '../sim/lock.ts';
import type { Sim } from '../sim/sim.ts';
import { locked } from './locks.ts';
import { dmabufFrames, findFrames, type PageSource } from './page_source.ts';
import { PinnedPages, type PageSpan } from './pinned_pages.ts';

/** One access that holds pages `start..last`; several users share it when the range is exactly the same. */
class PageAccess extends IntervalNode<number> {
  users = 1;
}

/** Pages that an area keeps in its domains; `revoke` takes them out, while the area stays. */
export class DomainPages extends IntervalNode<number> {
  readonly revoke: () => void;

  constructor(first: number, last: number, revoke: () => void) {
    super(first, last);
    this.revoke = revoke;
  }
}

/** What pages need of the machine. */
export interface PageWorld {
  readonly memory: ClientMemory;
  readonly faults: Faults;
  readonly sim: Sim;
  /** Guards all pages objects: what is done to them is short. */
  readonly pagesLock: Mutex;
}

/**
 * A linear stretch of pages that areas of one or several address spaces share (struct iopt_pages of pages.c). Pages are
 * found and pinned when an access or a domain first needs them, once each however many need them, and never before:
 * mapping a terabyte costs this object. Indexes count pages of 4 KiB from the first.
 */
export class Pages {
  readonly npages: number;
  readonly writable: boolean;
  source: PageSource;
  payer: Payer;
  accountMode: AccountMode;
  /** Pages that are charged: all that are pinned, outside of a call. */
  charged = 0;
  revoked = false;
  private readonly world: PageWorld;
  private references = 1;
  // Made at the first pin: most pages of an address space without a domain never have one.
  private pinned_: PinnedPages | undefined = undefined;
  private accesses: IntervalTree<number, PageAccess> | undefined = undefined;
  private domains: IntervalTree<number, DomainPages> | undefined = undefined;

  constructor(
    world: PageWorld,
    source: PageSource,
    npages: number,
    writable: boolean,
    payer: Payer,
    accountMode: AccountMode,
  ) {
    if (world.faults.point('alloc'))
      throw new ErrnoError('ENOMEM', 'no memory for the pages object');
    this.world = world;
    this.source = source;
    this.npages = npages;
    this.writable = writable;
    this.payer = payer;
    this.accountMode = accountMode;
    if (source.kind === 'dmabuf') source.buffer.attach(this);
    if (source.kind === 'file') source.file?.hold?.();
  }

  get(): this {
    this.references++;
    return this;
  }

  put(): void {
    if (--this.references > 0) return;
    const { source } = this;
    if (source.kind === 'dmabuf') source.buffer.detach(this);
    if (source.kind === 'file') source.file?.drop?.();
  }

  /** The exporter takes its DMA-buf back: domains lose the pages, which stay dead even if it is lent out again. */
  revoke(): void {
    locked(this.world.pagesLock, () => this.revokeLocked());
  }

  private revokeLocked(): void {
    if (this.revoked) return;
    // Only afterwards: areas of revoked pages have nothing to unmap.
    for (const held of this.domains ?? []) held.revoke();
    this.revoked = true;
  }

  /**
   * Holds pages `first..last` for an access (one more user where the same range is held already).
   * @throws ErrnoError EFAULT, EINVAL, ENOMEM; nothing is held then
   */
  addAccess(first: number, last: number): void {
    locked(this.world.pagesLock, () => this.addAccessLocked(first, last));
  }

  private addAccessLocked(first: number, last: number): void {
    const accesses = (this.accesses ??= new IntervalTree<number, PageAccess>(1));
    const same = this.exactAccess(first, last);
    if (same) {
      same.users++;
      return;
    }
    if (this.world.faults.point('alloc'))
      throw new ErrnoError('ENOMEM', 'no memory for the access');
    this.acquire(first, last);
    accesses.insert(new PageAccess(first, last));
  }

  removeAccess(first: number, last: number): void {
    locked(this.world.pagesLock, () => this.removeAccessLocked(first, last));
  }

  private removeAccessLocked(first: number, last: number): void {
    const access = this.exactAccess(first, last);
    if (!access) throw new Error(`no access holds pages ${first}..${last}`);
    if (--access.users > 0) return;
    this.accesses?.remove(access);
    this.releaseUnused(first, last);
  }

  /** Holds the pages of an area that fills domains. Throws as {@link addAccess}; undo with {@link removeDomain}. */
  addDomain(held: DomainPages): void {
    locked(this.world.pagesLock, () => this.addDomainLocked(held));
  }

  private addDomainLocked(held: DomainPages): void {
    this.acquire(held.start, held.last);
    (this.domains ??= new IntervalTree<number, DomainPages>(1)).insert(held);
  }

  removeDomain(held: DomainPages): void {
    locked(this.world.pagesLock, () => this.removeDomainLocked(held));
  }

  private removeDomainLocked(held: DomainPages): void {
    this.domains?.remove(held);
    this.releaseUnused(held.start, held.last);
  }

  /** The frames of pinned pages `first..last`, in order. */
  frames(first: number, last: number): FrameRun[] {
    const { source } = this;
    if (source.kind === 'dmabuf') {
      return [dmabufFrames(source.buffer, source.start, first, last)];
    }
    return this.pinned.frames(first, last);
  }

  /**
   * Copies between `data` and the pages from byte `startByte` on, as `current` sees it: through the client's own
   * addresses where it maps them itself (and `slow` does not forbid that), else page by page.
   * Source: iopt_pages_rw_access() of pages.c.
   */
  copy(startByte: number, data: Uint8Array, write: boolean, slow: boolean, current: Mm): void {
    if (write && !this.writable) throw new ErrnoError('EPERM', 'the pages are mapped read-only');
    const { source } = this;
    if (source.kind === 'dmabuf')
      throw new ErrnoError('EINVAL', 'a DMA-buf can not be read or written here');
    if (source.kind === 'user' && !slow && source.mm === current) {
      const at = source.address + BigInt(startByte);
      if (write ? source.mm.copyOut(at, data) : source.mm.copyIn(at, data)) return;
      throw new ErrnoError(
        'EFAULT',
        `the client's memory 0x${at.toString(16)}+0x${data.length.toString(16)} is not all ${write ? 'writable' : 'readable'}`,
      );
    }
    const first = Math.floor(startByte / PAGE_SIZE);
    const last = Math.floor((startByte + data.length - 1) / PAGE_SIZE);
    // One page of a process is looked up there anew, even where another one is pinned by now, and write permission asked for only
    // where it writes. Of several, pinned ones are taken, and the others looked up as they would be pinned.
    const single = first === last && source.kind === 'user' && source.mm.alive;
    locked(this.world.pagesLock, () => {
      const runs = single ? this.find(first, last, write) : this.resolve(first, last);
      this.copyPages(runs, startByte, data, write);
    });
  }

  private copyPages(
    runs: readonly FrameRun[],
    startByte: number,
    data: Uint8Array,
    write: boolean,
  ): void {
    let done = 0;
    let offset = startByte % PAGE_SIZE;
    for (const run of runs) {
      const part = data.subarray(done, done + run.frames * FRAME_SIZE - offset);
      const copied = write
        ? this.world.memory.write(run.frame, offset, part)
        : this.world.memory.read(run.frame, offset, part);
      if (!copied) throw new ErrnoError('EFAULT', 'the pages can not be reached');
      done += part.length;
      offset = 0;
    }
  }

  /** The frames of pages `first..last`, pinned or not, without pinning any. */
  private resolve(first: number, last: number): FrameRun[] {
    return [...this.pinned.spans(first, last)].flatMap(({ used, start, last: end }) =>
      used ? this.pinned.frames(start, end) : this.find(start, end, this.writable),
    );
  }

  private find(first: number, last: number, write: boolean): FrameRun[] {
    return findFrames(this.world.memory, this.source, first, last, write);
  }

  /** Makes sure that pages `first..last` are pinned and charged; on failure everything is as before. */
  private acquire(first: number, last: number): void {
    if (this.source.kind === 'dmabuf') return;
    try {
      for (const { used, start, last: end } of [...this.pinned.spans(first, last)]) {
        if (!used) this.pinPages(start, end);
      }
      this.settle();
    } catch (error) {
      this.releaseUnused(first, last);
      throw error;
    }
  }

  private pinPages(first: number, last: number): void {
    if (this.world.faults.point('pin')) {
      throw new ErrnoError('EFAULT', 'a page could not be pinned');
    }
    this.pinned.add(first, this.find(first, last, this.writable));
  }

  /** Unpins those of pages `first..last` that neither an access nor a domain holds. */
  private releaseUnused(first: number, last: number): void {
    if (!this.pinned_) return;
    this.pinned_.release(first, last, (from, to) => this.unusedSpans(from, to));
    this.settle();
  }

  private unusedSpans(first: number, last: number): PageSpan[] {
    const unused: PageSpan[] = [];
    for (const outer of this.accesses?.spans(first, last) ?? [
      { used: false, start: first, last },
    ]) {
      if (outer.used) continue;
      for (const inner of this.domains?.spans(outer.start, outer.last) ?? [outer]) {
        if (!inner.used) unused.push({ start: inner.start, last: inner.last });
      }
    }
    return unused;
  }

  /** Brings the charge in step with the pages pinned. */
  private settle(): void {
    const pinned = this.pinned.count;
    const more = pinned - this.charged;
    if (more < 0) uncharge(this.payer, this.accountMode, -more);
    if (more > 0) {
      const error = charge(this.payer, this.accountMode, more);
      if (error === -Errno.ENOMEM) throw new ErrnoError('ENOMEM', this.overLimit(more));
      if (error) throw new ErrnoError('EINVAL', 'the address space to charge is gone');
    }
    this.charged = pinned;
  }

  private overLimit(more: number): string {
    const { user, mm, process } = this.payer;
    const byUser = this.accountMode === AccountMode.USER;
    const used = byUser ? user.lockedPages : mm.locked.lockedPages;
    const whose = byUser ? `user ${user.uid}` : 'the address space';
    const limit = process.memlockPages();
    return `${more} more pages would exceed RLIMIT_MEMLOCK: ${whose} has ${used} locked of ${limit} pages`;
  }

  private exactAccess(first: number, last: number): PageAccess | undefined {
    const { accesses } = this;
    for (let node = accesses?.first(first, last); node; node = accesses?.next(node, first, last)) {
      if (node.start === first && node.last === last) return node;
    }
    return undefined;
  }

  private get pinned(): PinnedPages {
    return (this.pinned_ ??= new PinnedPages(this.world.memory));
  }
}
