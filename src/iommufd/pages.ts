// SPDX-License-Identifier: Apache-2.0
import { Errno, ErrnoError } from '../base/errno.ts';
import { IntervalNode, IntervalTree } from '../base/interval_tree.ts';
import { AccountMode, charge, type Payer, uncharge } from '../memory/accounting.ts';
import { type ClientMemory, isBadPage, type Pin } from '../memory/client_memory.ts';
import type { FileMemory } from '../memory/file_memory.ts';
import { FRAME_SIZE, type FrameRun, FRAMES_PER_PAGE } from '../memory/frame.ts';
import { type Mm, PAGE_SHIFT, PAGE_SIZE } from '../memory/mm.ts';
import type { Faults } from '../sim/faults.ts';
import type { Mutex } from '../sim/lock.ts';
import type { Sim } from '../sim/sim.ts';
import type { DmaBuf } from './dma_buf.ts';
import { locked } from './locks.ts';

/** Where pages come from; addresses and offsets are those of the first page, page aligned. */
export type PageSource =
  | { readonly kind: 'user'; readonly mm: Mm; readonly address: bigint }
  /** `file` is undefined for descriptors whose pages nobody can pin (a device, a pipe): Linux finds out at the pin. */
  | { readonly kind: 'file'; readonly file: FileMemory | undefined; readonly start: bigint }
  | { readonly kind: 'dmabuf'; readonly buffer: DmaBuf; readonly start: bigint };

/** One access that holds pages `start..last`; several users share it when the range is exactly the same. */
class PageAccess extends IntervalNode<number> {
  users = 1;
}

/** Pages `start..last` (by index) that are pinned, and the frames they are. */
class PinnedRange extends IntervalNode<number> {
  readonly pin: Pin;

  constructor(page: number, pin: Pin) {
    super(page, page + pin.frames / FRAMES_PER_PAGE - 1);
    this.pin = pin;
  }
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
  /** Pages pinned now, and those of them that are charged. */
  npinned = 0;
  charged = 0;
  revoked = false;
  private readonly world: PageWorld;
  private references = 1;
  // Made at the first pin: most pages of an address space without a domain never have one.
  private pinned: IntervalTree<number, PinnedRange> | undefined = undefined;
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
  }

  get(): this {
    this.references++;
    return this;
  }

  put(): void {
    if (--this.references === 0 && this.source.kind === 'dmabuf') this.source.buffer.detach(this);
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
    if (source.kind === 'dmabuf')
      return [this.dmabufFrames(source.buffer, source.start, first, last)];
    const runs: FrameRun[] = [];
    const { pinned } = this;
    for (let range = pinned?.first(first, last); range; range = pinned?.next(range, first, last)) {
      const from = Math.max(first, range.start);
      const to = Math.min(last, range.last);
      const frame = range.pin.start + (from - range.start) * FRAMES_PER_PAGE;
      runs.push({ frame, frames: (to - from + 1) * FRAMES_PER_PAGE });
    }
    return runs;
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
    const runs: FrameRun[] = [];
    for (const span of this.pinnedTree().spans(first, last)) {
      runs.push(
        ...(span.used
          ? this.frames(span.start, span.last)
          : this.find(span.start, span.last, this.writable)),
      );
    }
    return runs;
  }

  /** Makes sure that pages `first..last` are pinned and charged; on failure everything is as before. */
  private acquire(first: number, last: number): void {
    if (this.source.kind === 'dmabuf') return;
    try {
      const holes = [...this.pinnedTree().spans(first, last)].filter((span) => !span.used);
      for (const hole of holes) this.pinPages(hole.start, hole.last);
      this.settle();
    } catch (error) {
      this.releaseUnused(first, last);
      throw error;
    }
  }

  private pinPages(first: number, last: number): void {
    if (this.world.faults.point('pin'))
      throw new ErrnoError('EFAULT', 'a page could not be pinned');
    let page = first;
    for (const run of this.find(first, last, this.writable)) {
      const range = new PinnedRange(page, this.world.memory.pin(run));
      this.pinnedTree().insert(range);
      page = range.last + 1;
    }
    this.npinned += last - first + 1;
  }

  private find(first: number, last: number, write: boolean): FrameRun[] {
    const { source, world } = this;
    const offset = BigInt(first) << BigInt(PAGE_SHIFT);
    switch (source.kind) {
      case 'user': {
        const found = world.memory.lookup(
          source.mm,
          source.address + offset,
          last - first + 1,
          write,
        );
        if (!isBadPage(found)) return found;
        const at = found.address.toString(16);
        throw new ErrnoError('EFAULT', `the page at 0x${at} of the client is ${found.reason}`);
      }
      case 'file':
        return this.findInFile(source.file, source.start + offset, last - first + 1);
      case 'dmabuf':
        return [this.dmabufFrames(source.buffer, source.start, first, last)];
    }
  }

  /** Source: memfd_pin_folios(). */
  private findInFile(file: FileMemory | undefined, at: bigint, pages: number): FrameRun[] {
    if (!file?.pinnable) {
      throw new ErrnoError(
        'EINVAL',
        'the file is no memfd, shared memory or hugetlbfs: its pages can not be pinned',
      );
    }
    const end = at + (BigInt(pages) << BigInt(PAGE_SHIFT));
    if (end > file.size()) {
      const [byte, size] = [end.toString(16), file.size().toString(16)];
      throw new ErrnoError('EINVAL', `${file.name} ends at 0x${size}, before byte 0x${byte}`);
    }
    return this.world.memory.lookupFile(file, Number(at >> BigInt(PAGE_SHIFT)), pages);
  }

  private dmabufFrames(buffer: DmaBuf, start: bigint, first: number, last: number): FrameRun {
    const page = Number(start >> BigInt(PAGE_SHIFT)) + first;
    const frame = buffer.run.frame + page * FRAMES_PER_PAGE;
    return { frame, frames: (last - first + 1) * FRAMES_PER_PAGE };
  }

  /** Unpins those of pages `first..last` that neither an access nor a domain holds. */
  private releaseUnused(first: number, last: number): void {
    const { pinned } = this;
    if (!pinned) return;
    for (let range = pinned.first(first, last); range;) {
      const following = pinned.next(range, first, last);
      this.trim(pinned, range, Math.max(first, range.start), Math.min(last, range.last));
      range = following;
    }
    this.settle();
  }

  private trim(
    pinned: IntervalTree<number, PinnedRange>,
    range: PinnedRange,
    first: number,
    last: number,
  ): void {
    const unused = this.unusedSpans(first, last);
    if (unused.length === 0) return;
    pinned.remove(range);
    let { pin } = range;
    let page = range.start;
    for (const { start, last: end } of unused) {
      const frame = pin.start + (start - page) * FRAMES_PER_PAGE;
      const rest = this.world.memory.unpinPart(
        pin,
        frame,
        frame + (end - start + 1) * FRAMES_PER_PAGE - 1,
      );
      this.npinned -= end - start + 1;
      const before = start > page ? rest.shift() : undefined;
      if (before) pinned.insert(new PinnedRange(page, before));
      page = end + 1;
      const after = rest[0];
      if (!after) return;
      pin = after;
    }
    pinned.insert(new PinnedRange(page, pin));
  }

  private unusedSpans(first: number, last: number): { start: number; last: number }[] {
    const unused: { start: number; last: number }[] = [];
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
    const more = this.npinned - this.charged;
    if (more < 0) uncharge(this.payer, this.accountMode, -more);
    if (more > 0) {
      const error = charge(this.payer, this.accountMode, more);
      if (error === -Errno.ENOMEM) throw new ErrnoError('ENOMEM', this.overLimit(more));
      if (error) throw new ErrnoError('EINVAL', 'the address space to charge is gone');
    }
    this.charged = this.npinned;
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

  private pinnedTree(): IntervalTree<number, PinnedRange> {
    return (this.pinned ??= new IntervalTree<number, PinnedRange>(1));
  }
}
