// SPDX-License-Identifier: Apache-2.0
import { walkAccess } from '../generic_pt/access.ts';
import type { GuestTable } from '../iommu/domain.ts';
import type { PtDomain } from '../iommu/pt_domain.ts';
import { FRAME_SIZE, FRAMES_PER_PAGE } from '../memory/frame.ts';
import type { FrameBytes } from '../memory/physical_memory.ts';
import type { Translated } from '../pci/dma.ts';
import { allows, byteOf, type Entry, entryOf, pageOf, pagesOf, Rights } from './first_stage.ts';
import { type Expectation, frameIn, hex, readRaw } from './stale_expectation.ts';
import type { EntryReads } from './watched_memory.ts';

/** An entry that hardware may have: where it leads, what the way there allows, and when hardware could last find it. */
interface Kept extends Entry {
  seen: number;
  /** Pages of the tables on the way to it, the top first. */
  readonly way: readonly number[];
}

/** What the guest has asked to forget, and was told that it is done. */
export interface GuestRequest {
  /** Pages of 4 KiB of its addresses, `last` inclusive. */
  readonly first: number;
  readonly last: number;
  /** Entries that lead to tables may stay. */
  readonly leavesOnly: boolean;
}

interface Done extends GuestRequest {
  /** What was kept before this time is gone. */
  readonly since: number;
}

/** What an address leads to. */
interface Look {
  /** By the tables as they are. */
  readonly now: Entry | undefined;
  /** By whatever hardware may have kept. */
  readonly all: readonly Entry[];
  /** It may lead nowhere. */
  readonly hasHole: boolean;
  /** Addresses of the second stage on the way. */
  readonly below: readonly bigint[];
}

const isWhole = ({ first, last, leavesOnly }: GuestRequest): boolean =>
  first === 0 && last === Infinity && !leavesOnly;

/** Bits of a page number of 64-bit addresses. */
const PAGE_SHIFT = 12n;
/** More than any cache of the models has. */
const MOST_KEPT = 20_000;
const MOST_REQUESTS = 1000;

/**
 * What hardware may use of a guest's table. The guest changes it in its own memory, tells nobody, and until it has invalidated, the old is
 * as right as the new, also in parts: a table that was replaced leads to what is in it now. Hardware finds nothing but when it is asked,
 * so what the tables say at each request is kept here, with its time; an invalidation, once it is done, ends what was last there before
 * it was asked for. Nothing is kept of the second stage, whose changes the driver sees to by itself: addresses go through it as it is,
 * and what was read of a table that it has lost is gone.
 */
export class GuestTranslations {
  readonly parent: PtDomain;
  /** How many groups and PASIDs are attached to it. */
  places = 0;
  readonly #table: GuestTable;
  readonly #memory: FrameBytes;
  readonly #most: { readonly kept: number; readonly requests: number };
  /** By level and address; those that were used last come last. */
  readonly #kept = new Map<number, Kept[]>();
  #count = 0;
  #requests: Done[] = [];
  /** Requests for invalidation that have begun. */
  #time = 0;
  /** Hardware may have entries up to this time that are not known here. */
  #unknownUntil = -1;

  /** `most`: what is remembered; where that is not enough, less is certain, and nothing wrong. */
  constructor(
    table: GuestTable,
    parent: PtDomain,
    memory: FrameBytes,
    most = { kept: MOST_KEPT, requests: MOST_REQUESTS },
  ) {
    this.#table = table;
    this.parent = parent;
    this.#memory = memory;
    this.#most = most;
  }

  /** Requests were made that nobody looked at. */
  missed(): void {
    this.#unknownUntil = this.#time;
  }

  /** The guest asks to forget something: whoever is called when that is done. */
  invalidating(): (requests: readonly GuestRequest[]) => void {
    const since = ++this.#time;
    return (requests) => {
      // No more than are remembered anyway.
      const from = requests.length - this.#most.requests;
      for (const [index, request] of requests.entries())
        if (index >= from || isWhole(request)) this.#forget({ ...request, since });
    };
  }

  /** The second stage has lost pages, from `first` to `last`, and all have forgotten them: what was read of tables there is gone. */
  lostBelow(first: number, last: number): void {
    const isLost = (page: number): boolean =>
      page >= first &&
      page <= last &&
      typeof walkAccess(this.parent.table, page * FRAMES_PER_PAGE, false) === 'string';
    for (const [key, list] of this.#kept) this.#drop(key, list, ({ way }) => !way.some(isLost));
  }

  /** What an access may meet; undefined where that is not known. Looks at the tables, as `look`. */
  expectationOf(
    { iova, access, mode, frame: met }: Translated,
    reads: EntryReads,
  ): Expectation | undefined {
    const { now, all, hasHole, below } = this.look(iova, reads);
    if (this.parent.isFlushing || !this.#isKnown(Number(iova >> PAGE_SHIFT))) return undefined;
    const { protectsWrites } = this.#table;
    const frameOf = (leaf: Entry | undefined): number | undefined => {
      if (!leaf || !allows(leaf.rights, access, mode, protectsWrites)) return undefined;
      const found = walkAccess(this.parent.table, frameIn(leaf.page, iova), access === 'write');
      return typeof found === 'string' ? undefined : found.frame;
    };
    const right = new Set(all.map(frameOf));
    if (hasHole) right.add(undefined);
    const current = frameOf(now);
    const text = current === undefined ? 'allow nothing' : `have frame ${hex(current)}`;
    return {
      agrees: (frame) => right.has(frame),
      text: `the guest's tables ${text}`,
      below,
      ends: all
        .filter((leaf) => frameOf(leaf) === met)
        .map(({ page }) => BigInt(page) << PAGE_SHIFT),
    };
  }

  /** Hardware was asked for an address, for which it read entries: whatever it may have found, it may keep. */
  look(address: bigint, reads: EntryReads): Look {
    const { root, levels } = this.#table;
    const page = pageOf(address, levels);
    const below: bigint[] = [];
    if (page === undefined) return { now: undefined, all: [], hasHole: true, below };
    const full = Number(address >> PAGE_SHIFT);
    const top: Kept = { page: root, isLeaf: false, rights: Rights.ALL, seen: this.#time, way: [] };
    let [now, tables]: [Kept | undefined, Kept[]] = [top, [top]];
    const leaves: Kept[] = [];
    const found: { now: Kept | undefined } = { now: undefined };
    let hasHole = false;
    for (let level = levels - 1; level >= 0; level--) {
      let next: Kept | undefined;
      const key = Math.floor(page / pagesOf(level)) * 8 + level;
      for (const table of tables) {
        below.push(BigInt(table.page) << PAGE_SHIFT);
        const { raw, more } = this.#read(table.page, byteOf(level, page), reads);
        const entry = entryOf(raw, level);
        const kept = entry && this.#keep(key, entry, table);
        if (table === now) next = kept;
        hasHole ||= !entry;
        for (const one of more) {
          const other = entryOf(one, level);
          if (other) this.#keep(key, other, table);
          hasHole ||= !other;
        }
      }
      const usable = (this.#kept.get(key) ?? []).filter((one) => !this.#isGone(one, full));
      for (const one of usable) {
        if (!one.isLeaf) continue;
        const leaf = { ...one, page: one.page + (page % pagesOf(level)) };
        leaves.push(leaf);
        below.push(BigInt(leaf.page) << PAGE_SHIFT);
        if (one === next) found.now = leaf;
      }
      now = next;
      tables = usable.filter(({ isLeaf }) => !isLeaf);
    }
    return { now: found.now, all: leaves, hasHole, below };
  }

  /** What a table has now, however old the table is. */
  #keep(key: number, { page, isLeaf, rights }: Entry, table: Kept): Kept {
    const way = [...table.way, table.page];
    const wanted = { page, isLeaf, rights: rights & table.rights, seen: this.#time, way };
    const before = this.#kept.get(key) ?? [];
    this.#kept.delete(key);
    this.#kept.set(key, before);
    const known = before.find(
      (one) =>
        one.page === page &&
        one.isLeaf === isLeaf &&
        one.rights === wanted.rights &&
        one.way.every((passed, index) => passed === way[index]),
    );
    if (known) {
      known.seen = this.#time;
      return known;
    }
    before.push(wanted);
    this.#count++;
    this.#makeRoom();
    return wanted;
  }

  #makeRoom(): void {
    for (const [key, list] of this.#kept) {
      if (this.#count <= this.#most.kept) return;
      this.#drop(key, list, () => false);
      this.#unknownUntil = Math.max(this.#unknownUntil, ...list.map(({ seen }) => seen));
    }
  }

  #drop(key: number, list: readonly Kept[], stays: (kept: Kept) => boolean): void {
    const left = list.filter(stays);
    this.#count -= list.length - left.length;
    if (left.length > 0) this.#kept.set(key, left);
    else this.#kept.delete(key);
  }

  #forget(done: Done): void {
    const { first, last, leavesOnly, since } = done;
    if (isWhole(done)) {
      for (const [key, list] of this.#kept) this.#drop(key, list, ({ seen }) => seen >= since);
      if (this.#unknownUntil < since) this.#unknownUntil = -1;
    }
    const covers = (one: Done): boolean =>
      one.since <= since &&
      first <= one.first &&
      one.last <= last &&
      (!leavesOnly || one.leavesOnly);
    this.#requests = this.#requests.filter((one) => !covers(one));
    this.#requests.push(done);
    if (this.#requests.length > this.#most.requests) this.#requests.shift();
  }

  #isGone({ seen, isLeaf }: Pick<Kept, 'seen' | 'isLeaf'>, page: number): boolean {
    return this.#requests.some(
      ({ first, last, leavesOnly, since }) =>
        since > seen && first <= page && page <= last && (isLeaf || !leavesOnly),
    );
  }

  /** Nothing that is not known here can be used for a page any more. */
  #isKnown(page: number): boolean {
    const unknown = { isLeaf: false, seen: this.#unknownUntil };
    return this.#unknownUntil < 0 || this.#isGone(unknown, page);
  }

  /** An entry as it is, 0 where it is out of reach, and as hardware read it. The guest's memory is where the second stage has it. */
  #read(page: number, byte: number, reads: EntryReads): { raw: bigint; more: readonly bigint[] } {
    const at = page * FRAMES_PER_PAGE + Math.floor(byte / FRAME_SIZE);
    const found = walkAccess(this.parent.table, at, false);
    if (typeof found === 'string') return { raw: 0n, more: [] };
    const offset = byte % FRAME_SIZE;
    const raw = readRaw(this.#memory, found.frame, offset) ?? 0n;
    return { raw, more: reads.at(found.frame, offset) };
  }
}
