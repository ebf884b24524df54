// SPDX-License-Identifier: Apache-2.0
import { IntervalNode, IntervalTree } from '../base/interval_tree.ts';
import type { FileMemory } from './file_memory.ts';
import {
  CLIENT_FIRST_FRAME,
  CLIENT_LAST_FRAME,
  FRAME_SIZE,
  FRAMES_PER_PAGE,
  type FrameRun,
} from './frame.ts';
import { PAGE_SHIFT, PAGE_SIZE, type Mapping, type Mm } from './mm.ts';
import type { PinObserver } from './pin_observer.ts';
import { type Backing, Segment } from './segment.ts';

/** Private pages are known by their address space, shared ones by their file: that is a page's identity. */
type Owner = Mm | FileMemory;

/** Pages `start..last` of an owner (by index) stand in contiguous frames from `frame` on. */
class Placement extends IntervalNode<number> {
  readonly frame: number;

  constructor(page: number, pages: number, frame: number) {
    super(page, page + pages - 1);
    this.frame = frame;
  }

  frameOf(page: number): number {
    return this.frame + (page - this.start) * FRAMES_PER_PAGE;
  }
}

/** A stretch of frames held: its pages stay what they are until it is unpinned. */
export class Pin extends IntervalNode<number> {
  get frames(): number {
    return this.last - this.start + 1;
  }
}

/** Why a page can not be had: Linux answers EFAULT. */
export interface BadPage {
  readonly address: bigint;
  readonly reason:
    | 'not mapped'
    | 'not readable'
    | 'not writable'
    | 'beyond the end of its file'
    | 'of a process that is gone';
}

export const isBadPage = (found: FrameRun[] | BadPage): found is BadPage => 'reason' in found;

/** Frames follow the client's addresses modulo this, so that contiguous pages can become large entries. */
const ALIGN_PAGES = 2 ** (30 - PAGE_SHIFT);

/** Owners of pages are looked through for forgotten ones no sooner than at so many. */
const PRUNE_LEAST = 64;

const LAST_BYTE = 2n ** 64n - 1n;

const pageOf = (byte: bigint): number => Number(byte >> BigInt(PAGE_SHIFT));
const byteOf = (page: number): bigint => BigInt(page) << BigInt(PAGE_SHIFT);

/**
 * The pages of all clients as frames. A frame is made when a page is first looked up and lasts while the page is
 * mapped or pinned; a range that is contiguous for the client is contiguous in frames. Nothing is kept per page.
 */
export class ClientMemory {
  private readonly segments = new IntervalTree<number, Segment>(1);
  private readonly pins = new IntervalTree<number, Pin>(1);
  private readonly placements = new Map<Owner, IntervalTree<number, Placement>>();

  /** Owners known when the next {@link prune} is due. */
  private pruneAt = PRUNE_LEAST;

  /** Stretches of frames that are pinned now (for leak checks). */
  get pinCount(): number {
    return this.pins.size;
  }

  /** Stretches of frames that exist now (for leak checks). */
  get segmentCount(): number {
    return this.segments.size;
  }

  /**
   * The frames of `pages` pages from a page-aligned address, as runs in order, or the first page that is not mapped, not
   * readable, or not writable though `write` asks for it.
   */
  lookup(mm: Mm, address: bigint, pages: number, write: boolean): FrameRun[] | BadPage {
    if (!mm.alive) return { address, reason: 'of a process that is gone' };
    const runs: FrameRun[] = [];
    const end = address + byteOf(pages);
    for (let at = address; at < end;) {
      const mapping = mm.mappingAt(at);
      if (!mapping) return { address: at, reason: 'not mapped' };
      if (write && !mapping.writable) return { address: at, reason: 'not writable' };
      if (!write && !mapping.readable) return { address: at, reason: 'not readable' };
      const last = mapping.last < end - 1n ? mapping.last : end - 1n;
      if (!this.lookupMapping(mm, mapping, at, last, runs)) {
        return { address: at, reason: 'beyond the end of its file' };
      }
      at = last + 1n;
    }
    return runs;
  }

  private lookupMapping(
    mm: Mm,
    mapping: Mapping,
    at: bigint,
    last: bigint,
    runs: FrameRun[],
  ): boolean {
    const pages = pageOf(last + 1n - at);
    const { shared } = mapping;
    if (!shared) {
      const whole = { first: pageOf(mapping.start), last: pageOf(mapping.last) };
      this.place(mm, pageOf(at), pages, whole, runs);
      return true;
    }
    const offset = shared.offset + (at - mapping.start);
    const filePages = pageOf(shared.file.size() + BigInt(PAGE_SIZE - 1));
    const first = pageOf(offset);
    if (first + pages > filePages) return false; // the client itself would get SIGBUS there
    const mappedLast = pageOf(shared.offset + (mapping.last - mapping.start));
    const whole = { first: pageOf(shared.offset), last: Math.min(mappedLast, filePages - 1) };
    this.place(shared.file, first, pages, whole, runs);
    return true;
  }

  /** The frames of pages of a file, by page index; the caller has checked that the file holds them. */
  lookupFile(file: FileMemory, page: number, pages: number): FrameRun[] {
    const runs: FrameRun[] = [];
    const last = Math.max(pageOf(file.size() + BigInt(PAGE_SIZE - 1)), page + pages) - 1;
    this.place(file, page, pages, { first: 0, last }, runs);
    return runs;
  }

  /** RAM of the machine's own that clients can map (a DMA-buf): pages that no client owns. */
  allocate(pages: number): FrameRun {
    const frames = pages * FRAMES_PER_PAGE;
    const frame = this.findFrames(0, frames);
    const bytes = new Uint8Array(frames * FRAME_SIZE);
    this.segments.insert(new Segment(frame, frames, { kind: 'ram', bytes, owned: true }));
    return { frame, frames };
  }

  /** Gives back what `allocate` gave; frames still pinned stay until they are unpinned. */
  free(run: FrameRun): void {
    this.orphan(run.frame, run.frame + run.frames - 1, (segment) => {
      return new Segment(segment.start, segment.frames, disown(segment.backing));
    });
  }

  /** Holds frames; every pin is given back exactly once, to `unpin`. */
  pin(run: FrameRun): Pin {
    const pin = new Pin(run.frame, run.frame + run.frames - 1);
    this.pins.insert(pin);
    return pin;
  }

  unpin(pin: Pin): void {
    this.pins.remove(pin);
    this.dropOrphans(pin.start, pin.last);
  }

  /** Gives back frames `start..last` of a pin and returns what stays pinned, in order. */
  unpinPart(pin: Pin, start: number, last: number): Pin[] {
    this.pins.remove(pin);
    const rest: Pin[] = [];
    if (pin.start < start) rest.push(this.pin({ frame: pin.start, frames: start - pin.start }));
    if (last < pin.last) rest.push(this.pin({ frame: last + 1, frames: pin.last - last }));
    this.dropOrphans(start, last);
    return rest;
  }

  /** How many pins hold this frame: Linux's pin count of the page. */
  pinsOf(frame: number): number {
    let count = 0;
    for (let pin = this.pins.first(frame, frame); pin; pin = this.pins.next(pin, frame, frame))
      count++;
    return count;
  }

  /** Reads bytes `offset` bytes after the start of a frame, across frames; false where they can not be reached. */
  read(frame: number, offset: number, into: Uint8Array): boolean {
    return this.copy(frame, offset, into, 'read');
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    return this.copy(frame, offset, from, 'write');
  }

  private copy(frame: number, offset: number, bytes: Uint8Array, way: 'read' | 'write'): boolean {
    let at = frame * FRAME_SIZE + offset;
    for (let done = 0; done < bytes.length;) {
      const current = Math.floor(at / FRAME_SIZE);
      const segment = this.segments.first(current, current);
      if (!segment) return false;
      const inside = at - segment.start * FRAME_SIZE;
      const room = (segment.last - segment.start + 1) * FRAME_SIZE - inside;
      const part = bytes.subarray(done, done + Math.min(room, bytes.length - done));
      if (!segment[way](inside, part)) {
        if (way === 'read' || !this.detach(segment, current, inside, part.length)) return false;
        continue;
      }
      done += part.length;
      at += part.length;
    }
    return true;
  }

  /**
   * A file that nobody may write any more (a sealed memfd) can not take what a device writes to its pinned pages, which Linux lets
   * happen: the pages become the device's own. True where they have.
   */
  private detach({ backing }: Segment, frame: number, offset: number, length: number): boolean {
    if (backing.kind !== 'file') return false;
    const start = backing.at + BigInt(offset);
    this.release(backing.file, start, start + BigInt(length) - 1n);
    return this.segments.first(frame, frame)?.backing.kind === 'ram';
  }

  /**
   * The pages of `owner` at bytes `start..last` are about to disappear or be replaced (unmap, map over, discard, shrink):
   * pinned ones are copied out while they can still be read, so that the pin goes on holding the same page.
   */
  release(owner: Owner, start: bigint, last: bigint): void {
    this.unplace(owner, pageOf(start), pageOf(last), (segment) => this.save(segment));
  }

  /** The address space or file is gone and nothing can be read any more: pinned pages are lost, and read as ones. */
  gone(owner: Owner): void {
    this.unplace(owner, 0, Number.MAX_SAFE_INTEGER, (segment) => {
      return new Segment(segment.start, segment.frames, { kind: 'lost' });
    });
    this.placements.delete(owner);
  }

  /** True where pages of `owner` at bytes `start..last` are pinned. */
  hasPins(owner: Owner, start: bigint, last: bigint): boolean {
    if (this.pins.size === 0) return false;
    const tree = this.placements.get(owner);
    if (!tree) return false;
    const [first, end] = [pageOf(start), pageOf(last)];
    for (let place = tree.first(first, end); place; place = tree.next(place, first, end)) {
      const from = place.frameOf(Math.max(first, place.start));
      const to = place.frameOf(Math.min(end, place.last)) + FRAMES_PER_PAGE - 1;
      if (this.pins.first(from, to)) return true;
    }
    return false;
  }

  private save(segment: Segment): Segment {
    const bytes = new Uint8Array(segment.frames * FRAME_SIZE);
    const saved = segment.read(0, bytes);
    const backing: Backing = saved ? { kind: 'ram', bytes, owned: false } : { kind: 'lost' };
    return new Segment(segment.start, segment.frames, backing);
  }

  private place(
    owner: Owner,
    page: number,
    pages: number,
    whole: { readonly first: number; readonly last: number },
    runs: FrameRun[],
  ): void {
    let tree = this.placements.get(owner);
    if (!tree) {
      tree = new IntervalTree<number, Placement>(1);
      if (this.placements.size >= this.pruneAt) this.prune();
      this.placements.set(owner, tree);
      owner.pinObserver = this.observe(owner);
    }
    const last = page + pages - 1;
    for (let at = page; at <= last;) {
      const found = tree.first(at, at) ?? this.placeNew(tree, owner, at, whole);
      const until = Math.min(last, found.last);
      addRun(runs, found.frameOf(at), (until - at + 1) * FRAMES_PER_PAGE);
      at = until + 1;
    }
  }

  /** Forgets owners whose pages nobody holds; one that comes back gets frames anew. */
  private prune(): void {
    for (const owner of [...this.placements.keys()]) {
      if (!this.hasPins(owner, 0n, LAST_BYTE)) this.gone(owner);
    }
    this.pruneAt = Math.max(PRUNE_LEAST, 2 * this.placements.size);
  }

  private observe(owner: Owner): PinObserver {
    return {
      hasPins: () => this.hasPins(owner, 0n, LAST_BYTE),
      release: (start, last) => this.release(owner, start, last),
      gone: () => this.gone(owner),
    };
  }

  /** Places the whole unplaced stretch around a page, within its mapping, so that neighbours are contiguous. */
  private placeNew(
    tree: IntervalTree<number, Placement>,
    owner: Owner,
    page: number,
    whole: { readonly first: number; readonly last: number },
  ): Placement {
    let start = whole.first;
    for (const span of tree.spans(whole.first, page)) if (span.used) start = span.last + 1;
    const next = tree.first(page, whole.last);
    const last = next ? next.start - 1 : whole.last;
    const pages = last - start + 1;
    const frame = this.findFrames(start % ALIGN_PAGES, pages * FRAMES_PER_PAGE);
    const placement = new Placement(start, pages, frame);
    tree.insert(placement);
    const at = byteOf(start);
    const backing: Backing = isMm(owner)
      ? { kind: 'user', mm: owner, at }
      : { kind: 'file', file: owner, at };
    this.segments.insert(new Segment(frame, pages * FRAMES_PER_PAGE, backing));
    return placement;
  }

  /** The lowest free frames whose page number is congruent to `residue` modulo {@link ALIGN_PAGES}. */
  private findFrames(residue: number, frames: number): number {
    const align = ALIGN_PAGES * FRAMES_PER_PAGE;
    // A run near the client's own size does not need the alignment of 1 GiB: it can not hold so large an entry.
    const step =
      frames >= align ? align : Math.max(FRAMES_PER_PAGE, 2 ** Math.floor(Math.log2(frames)));
    const want = (residue * FRAMES_PER_PAGE) % step;
    const hole = this.segments.firstHole(CLIENT_FIRST_FRAME, CLIENT_LAST_FRAME, frames + step);
    if (!hole) throw new RangeError(`no ${frames} free frames in a 52-bit physical address space`);
    const base = Math.ceil((hole.start - want) / step) * step + want;
    return base;
  }

  private unplace(
    owner: Owner,
    first: number,
    last: number,
    keep: (segment: Segment) => Segment,
  ): void {
    const tree = this.placements.get(owner);
    if (!tree) return;
    for (let place = tree.first(first, last); place; place = tree.first(first, last)) {
      tree.remove(place);
      const from = Math.max(first, place.start);
      const to = Math.min(last, place.last);
      if (place.start < from)
        tree.insert(new Placement(place.start, from - place.start, place.frame));
      if (to < place.last)
        tree.insert(new Placement(to + 1, place.last - to, place.frameOf(to + 1)));
      this.orphan(place.frameOf(from), place.frameOf(to) + FRAMES_PER_PAGE - 1, keep);
    }
    if (tree.size === 0) this.placements.delete(owner);
  }

  /** Frames that no owner has any more: pinned stretches are kept as `keep` makes them, the others are free. */
  private orphan(start: number, last: number, keep: (segment: Segment) => Segment): void {
    for (let segment = this.segments.first(start, last); segment;) {
      const from = Math.max(start, segment.start);
      const to = Math.min(last, segment.last);
      this.segments.remove(segment);
      if (segment.start < from)
        this.segments.insert(segment.slice(segment.start, from - segment.start));
      if (to < segment.last) this.segments.insert(segment.slice(to + 1, segment.last - to));
      for (const span of this.pins.spans(from, to)) {
        if (!span.used) continue;
        this.segments.insert(keep(segment.slice(span.start, span.last - span.start + 1)));
      }
      segment = to < last ? this.segments.first(to + 1, last) : undefined;
    }
  }

  /** After an unpin: frames that belong to no owner (saved or lost pages) and are not pinned any more are free. */
  private dropOrphans(start: number, last: number): void {
    for (let segment = this.segments.first(start, last); segment;) {
      const next = this.segments.next(segment, start, last);
      const unpinned = !this.pins.first(segment.start, segment.last);
      if (unpinned && isOrphan(segment.backing)) this.segments.remove(segment);
      segment = next;
    }
  }
}

const isOrphan = (backing: Backing): boolean =>
  backing.kind === 'lost' || (backing.kind === 'ram' && !backing.owned);

const disown = (backing: Backing): Backing =>
  backing.kind === 'ram' ? { ...backing, owned: false } : backing;

const isMm = (owner: Owner): owner is Mm => 'locked' in owner;

function addRun(runs: FrameRun[], frame: number, frames: number): void {
  const previous = runs.at(-1);
  if (previous && previous.frame + previous.frames === frame) {
    runs[runs.length - 1] = { frame: previous.frame, frames: previous.frames + frames };
  } else {
    runs.push({ frame, frames });
  }
}
