// SPDX-License-Identifier: Apache-2.0
/** The model's address spaces: which IOVA shows which page. Addresses are bytes, `last` belongs to the range. */
import {
  type AccountMode,
  type File,
  HALF,
  type Page,
  PAGE,
  type Payer,
  refuse,
} from './memory.ts';
import type { Access, Device, Hwpt } from './objects.ts';

export const LAST = 2n ** 64n - 1n;
const PAGE_N = BigInt(PAGE);
const HUGE = 2n * 1024n * 1024n;

export interface Range {
  readonly start: bigint;
  readonly last: bigint;
}

export const meets = (a: Range, b: Range): boolean => a.start <= b.last && b.start <= a.last;

export interface DmaBuf {
  readonly kind: 'dmabuf';
  readonly pages: readonly Page[];
  revoked: boolean;
}

/** Memory that areas show (struct iopt_pages): the pages that are pinned, and who pays for them. */
export interface Source {
  readonly from:
    | { readonly kind: 'user'; readonly mm: Payer['mm']; readonly page: number }
    | { readonly kind: 'file'; readonly file: File | undefined; readonly page: number }
    | { readonly kind: 'dmabuf'; readonly buffer: DmaBuf; readonly page: number };
  readonly writable: boolean;
  readonly mode: AccountMode;
  payer: Payer;
  /** Its DMA-buf was taken back. */
  dead: boolean;
  readonly pinned: Map<number, Page>;
  readonly areas: Set<Area>;
}

/** Pages `first..last` of an area that an access holds. */
export interface Piece {
  readonly area: Area;
  readonly first: number;
  readonly last: number;
  /** It is not taken away by an unmap. */
  readonly locks: boolean;
}

export interface Area extends Range {
  readonly space: Ioas;
  readonly source: Source;
  /** Bytes from the start of the source. */
  readonly startByte: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly pieces: Set<Piece>;
}

export const byteAt = (area: Area, iova: bigint): number =>
  Number(iova - area.start) + area.startByte;
export const pageAt = (area: Area, iova: bigint): number => Math.floor(byteAt(area, iova) / PAGE);
export const length = ({ start, last }: Range): bigint => last - start + 1n;

/** The page that byte `iova` of an area translates to in a domain, with the half of it; undefined where nothing is mapped. */
export function translate(area: Area, iova: bigint): { page: Page; half: number } | undefined {
  const { source } = area;
  if (source.dead) return undefined;
  const byte = byteAt(area, iova);
  const index = Math.floor(byte / PAGE);
  const { from } = source;
  const page =
    from.kind === 'dmabuf' ? from.buffer.pages[from.page + index] : source.pinned.get(index);
  if (!page) throw new Error(`the model lost page ${index} of a filled area`);
  return { page, half: Math.floor((byte % PAGE) / HALF) };
}

export interface Reserved extends Range {
  /** Who asked for it; undefined: the test driver, until the address space ends. */
  readonly owner: Hwpt | Device | undefined;
}

export class Ioas {
  readonly kind = 'IOAS';
  readonly id: number;
  /** In order of their addresses. */
  areas: Area[] = [];
  reserved: Reserved[] = [];
  allowed: Range[] = [];
  readonly hwpts: Hwpt[] = [];
  readonly accesses: Access[] = [];
  noLargePages = false;

  constructor(id: number) {
    this.id = id;
  }

  get users(): number {
    return 1 + this.hwpts.length + this.accesses.length;
  }

  /** Domains carry a copy of the map. */
  get filled(): boolean {
    return this.hwpts.length > 0;
  }

  /** The largest of what large pages, domains and accesses ask for. */
  get alignment(): bigint {
    return this.alignmentWith(1n);
  }

  alignmentWith(granule: bigint): bigint {
    let alignment = this.noLargePages && granule < PAGE_N ? PAGE_N : granule;
    for (const hwpt of this.hwpts) if (hwpt.granule > alignment) alignment = hwpt.granule;
    for (const { pins } of this.accesses) if (pins && alignment < PAGE_N) alignment = PAGE_N;
    return alignment;
  }

  /** Throws EADDRINUSE where a map could not be under a new, larger alignment. */
  checkAlignment(alignment: bigint): void {
    const mask = alignment - 1n;
    for (const area of this.areas) {
      if ((area.start | length(area) | BigInt(area.startByte)) & mask) refuse('EADDRINUSE');
    }
  }

  checkReserve(range: Range): void {
    if (this.areas.some((area) => meets(area, range))) refuse('EADDRINUSE');
    if (this.allowed.some((allowed) => meets(allowed, range))) refuse('EADDRINUSE');
  }

  unreserve(owner: Reserved['owner']): void {
    this.reserved = this.reserved.filter((reserved) => reserved.owner !== owner);
  }

  areaAt(iova: bigint): Area | undefined {
    return this.areas.find((area) => area.start <= iova && iova <= area.last);
  }

  insert(area: Area): void {
    this.areas.push(area);
    this.areas.sort((a, b) => (a.start < b.start ? -1 : 1));
    area.source.areas.add(area);
  }

  /** Where a map of memory at `address` goes on its own: throws as Linux does. */
  chooseIova(address: bigint, bytes: bigint): bigint {
    if (bytes >= LAST / 2n) refuse('EOVERFLOW');
    let alignment = 1n;
    while (alignment < bytes) alignment *= 2n;
    for (const limit of [address & -address, HUGE])
      if (limit && limit < alignment) alignment = limit;
    if (alignment < this.alignment) refuse('EINVAL');
    const offset = address % PAGE_N;
    const fit = ({ start, last }: Range): bigint | undefined => {
      const up = ((start + alignment - 1n) / alignment) * alignment;
      const at = up | offset;
      return start + alignment - 1n > LAST || at >= last || last - at < bytes - 1n ? undefined : at;
    };
    const all = { start: PAGE_N, last: LAST - PAGE_N };
    const places = this.allowed.length > 0 ? joined(this.allowed) : [all];
    for (const place of places) {
      const inside = { start: max(place.start, all.start), last: min(place.last, all.last) };
      if (inside.start > inside.last) continue;
      const start = fit(inside);
      if (start === undefined) continue;
      for (const free of this.freeIn({ start, last: inside.last })) {
        const found = fit(free);
        if (found !== undefined) return found;
      }
    }
    return refuse('ENOSPC');
  }

  /** What neither areas nor reservations use, in order. */
  private freeIn(within: Range): Range[] {
    const used = [...this.areas, ...this.reserved].filter((range) => meets(range, within));
    used.sort((a, b) => (a.start < b.start ? -1 : 1));
    const free: Range[] = [];
    let at = within.start;
    for (const range of used) {
      if (range.start > at) free.push({ start: at, last: range.start - 1n });
      if (range.last + 1n > at) at = range.last + 1n;
    }
    if (at <= within.last) free.push({ start: at, last: within.last });
    return free;
  }

  /** The stretches that nothing reserves: what IOMMU_IOAS_IOVA_RANGES tells. */
  ranges(): Range[] {
    const reserved = this.reserved.toSorted((a, b) => (a.start < b.start ? -1 : 1));
    const free: Range[] = [];
    let at = 0n;
    for (const range of reserved) {
      if (range.start > at) free.push({ start: at, last: range.start - 1n });
      if (range.last + 1n > at) at = range.last + 1n;
    }
    if (at <= LAST) free.push({ start: at, last: LAST });
    return free;
  }
}

/** Ranges in order, with those that touch made one. */
function joined(ranges: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const range of ranges.toSorted((a, b) => (a.start < b.start ? -1 : 1))) {
    const previous = result.at(-1);
    if (previous && previous.last + 1n === range.start)
      result[result.length - 1] = { start: previous.start, last: range.last };
    else result.push(range);
  }
  return result;
}

const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
