// SPDX-License-Identifier: Apache-2.0
/** Which pages are pinned: exactly those that a domain or an access holds, once for each source that shows them. */
import { account, book, type Mm, type Page, PAGE, refuse, type User } from './memory.ts';
import { type Area, pageAt, type Source } from './space.ts';

/** The page behind an index of a source; throws as a pin of it would. */
export function findPage({ from, writable }: Source, index: number): Page {
  switch (from.kind) {
    case 'user':
      return (
        (from.mm.alive ? from.mm.find(from.page + index, writable) : undefined) ?? refuse('EFAULT')
      );
    case 'file': {
      const { file, page } = from;
      if (!file?.pinnable || (page + index + 1) * PAGE > file.size) return refuse('EINVAL');
      return file.pages[page + index] ?? refuse('EINVAL');
    }
    case 'dmabuf':
      return from.buffer.pages[from.page + index] ?? refuse('no such page');
  }
}

/** Pages that are to be pinned together or not at all: nothing changes before `commit`. */
export class Pinning {
  private readonly wanted = new Map<Source, Map<number, Page>>();
  private readonly charges = new Map<Mm | User, number>();

  /** Throws EFAULT, EINVAL or ENOMEM where pages `first..last` can not be had beside what is wanted already. */
  hold(source: Source, first: number, last: number): void {
    if (source.from.kind === 'dmabuf') return;
    const pages = this.wanted.get(source) ?? new Map<number, Page>();
    this.wanted.set(source, pages);
    let more = 0;
    for (let index = first; index <= last; index++) {
      if (source.pinned.has(index) || pages.has(index)) continue;
      pages.set(index, findPage(source, index));
      more++;
    }
    if (more > 0) this.charge(source, more);
  }

  /** A page that is pinned, or will be. */
  page(source: Source, index: number): Page | undefined {
    return this.wanted.get(source)?.get(index) ?? source.pinned.get(index);
  }

  /** For a domain, which maps nothing that can be neither read nor written. */
  holdArea(area: Area): void {
    this.hold(area.source, pageAt(area, area.start), pageAt(area, area.last));
    if (!area.readable && !area.writable) refuse('EINVAL');
  }

  private charge({ payer, mode }: Source, more: number): void {
    if (mode === 'mm' && !payer.mm.alive) refuse('EINVAL');
    const limited = account(payer, mode);
    if (!limited) return;
    const planned = (this.charges.get(limited) ?? 0) + more;
    if (limited.locked + planned > payer.memlock) refuse('ENOMEM');
    this.charges.set(limited, planned);
  }

  commit(): void {
    for (const [source, pages] of this.wanted) {
      for (const [index, page] of pages) {
        source.pinned.set(index, page);
        page.pins++;
      }
      book(source.payer, source.mode, pages.size);
    }
  }
}

/** Unpins what nobody holds any more. */
export function settle(source: Source): void {
  let gone = 0;
  for (const [index, page] of source.pinned) {
    if (isHeld(source, index)) continue;
    source.pinned.delete(index);
    page.pins--;
    gone++;
  }
  book(source.payer, source.mode, -gone);
}

function isHeld(source: Source, index: number): boolean {
  for (const area of source.areas) {
    if (area.space.filled && pageAt(area, area.start) <= index && index <= pageAt(area, area.last))
      return true;
    for (const { first, last } of area.pieces) if (first <= index && index <= last) return true;
  }
  return false;
}
