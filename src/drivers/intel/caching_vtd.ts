// SPDX-License-Identifier: Apache-2.0
import { FakeVtd } from './fake_vtd.ts';

/**
 * For tests of the driver: a unit that translates, as plainly as can be, and that never forgets. Everything that it has once read of an
 * entry or a table it goes on using until an invalidation names it, and of those each takes only what it names. So what it answers is
 * right only where the driver asks for all that is needed. A naive reading of the tables from memory alone.
 */

interface PageEntry {
  readonly frame: bigint;
  readonly reads: boolean;
  readonly writes: boolean;
}

/** What was remembered of a requester. */
interface Requester {
  readonly did: number;
  readonly words: readonly number[];
}

/** Which cache a translation is in: by domain id, and for what has a first stage by PASID too. */
interface Place {
  readonly did: number;
  readonly pasid: number | undefined;
  readonly isNested: boolean;
}

interface Cached<T> extends Place {
  /** The address, in pages, and how many it is good for, as a power of two. */
  readonly page: bigint;
  readonly lg2: number;
  readonly value: T;
}

export type Answer = { readonly frame: bigint; readonly offset: bigint } | string;

const ADDRESS = 0xf_ffff_ffff_f000n;

/** What a device keeps of one page. */
interface Kept {
  readonly sourceId: number;
  readonly pasid: number;
  readonly page: bigint;
}

function answer(found: PageEntry | string, address: bigint, isWrite: boolean): Answer {
  if (typeof found === 'string') return found;
  if (isWrite ? !found.writes : !found.reads) return isWrite ? 'not writable' : 'not readable';
  return { frame: found.frame, offset: address & 0xfffn };
}

export class CachingVtd extends FakeVtd {
  readonly #requesters = new Map<string, Requester>();
  #pages: Cached<PageEntry>[] = [];
  #tables: (Cached<bigint> & { readonly level: number; readonly stage: number })[] = [];

  /** Whether it drops what it remembers of requesters now, as any cache may at any time; undefined never does. */
  dropsRequesters: (() => boolean) | undefined = undefined;

  /** What devices keep, which have caches of their own: by requester and PASID. */
  #kept: (Kept & { readonly value: PageEntry })[] = [];

  /** What becomes of an access: where it leads, or why it is refused. `pasid` 0: without one. */
  access(sourceId: number, address: bigint, isWrite: boolean, pasid = 0): Answer {
    return answer(this.#translate(sourceId, address, pasid), address, isWrite);
  }

  /** The same of a device that keeps every translation that it was ever given, until it is told otherwise. */
  accessByCache(sourceId: number, address: bigint, isWrite: boolean, pasid = 0): Answer {
    const page = address >> 12n;
    const known = this.#kept.find(
      (one) => one.sourceId === sourceId && one.pasid === pasid && one.page === page,
    );
    const found = known?.value ?? this.#translate(sourceId, address, pasid);
    if (!known && typeof found !== 'string')
      this.#kept.push({ sourceId, pasid, page, value: found });
    return answer(found, address, isWrite);
  }

  #translate(sourceId: number, address: bigint, pasid: number): PageEntry | string {
    if (this.dropsRequesters?.() ?? false) this.#requesters.clear();
    return this.isScalable
      ? this.#scalable(sourceId, address, pasid)
      : this.#legacy(sourceId, address);
  }

  protected override carryOut(words: readonly number[]): void {
    const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = words;
    const [type, granularity, did] = [w0 & 0xf, (w0 >>> 4) & 3, w0 >>> 16];
    const page = (BigInt(w3) << 20n) | BigInt(w2 >>> 12);
    const hit = { page, lg2: w2 & 0x3f, keepsTables: (w2 & 0x40) !== 0 };
    const pasid = w1 & 0xf_ffff;
    if (type === 3 || type === 8) {
      const of = type === 3 ? { sourceId: w1, pasid: 0 } : { sourceId: w0 >>> 16, pasid };
      this.#forgetKept(of, page, (w2 & (type === 3 ? 1 : 1 << 11)) !== 0);
    } else if (type === 1) {
      this.#forgetRequesters((key) => granularity !== 3 || key === `context ${w1}`);
    } else if (type === 7) {
      this.#forgetRequesters(
        (key, one) =>
          key.startsWith('pasid') &&
          (granularity === 3 || (one.did === did && key.endsWith(`/${pasid}`))),
      );
    } else if (type === 6) {
      this.#forget(
        (one) => one.did === did && one.pasid === pasid,
        granularity === 3 ? hit : undefined,
      );
    } else if (type === 2) {
      const isOne = (one: Place): boolean => granularity === 1 || one.did === did;
      // What has a first stage goes as a whole: which of its addresses are meant is not known.
      this.#forget(
        (one) => isOne(one) && one.pasid === undefined,
        granularity === 3 ? hit : undefined,
      );
      this.#forget((one) => isOne(one) && one.isNested, undefined);
      if (granularity !== 3) this.#forget(isOne, undefined);
    }
  }

  #forgetRequesters(isMeant: (key: string, one: Requester) => boolean): void {
    for (const [key, one] of this.#requesters) if (isMeant(key, one)) this.#requesters.delete(key);
  }

  /** `several`: the lowest zero of the page number tells how many. */
  #forgetKept({ sourceId, pasid }: Omit<Kept, 'page'>, page: bigint, several: boolean): void {
    let lg2 = 0n;
    if (several) while ((page >> lg2++) & 1n) continue;
    this.#kept = this.#kept.filter(
      (one) => one.sourceId !== sourceId || one.pasid !== pasid || one.page >> lg2 !== page >> lg2,
    );
  }

  #forget(
    isMeant: (one: Place) => boolean,
    hit: { page: bigint; lg2: number; keepsTables: boolean } | undefined,
  ): void {
    const overlaps = (one: Cached<unknown>): boolean => {
      if (!hit) return true;
      const lg2 = BigInt(Math.max(one.lg2, hit.lg2));
      return one.page >> lg2 === hit.page >> lg2;
    };
    this.#pages = this.#pages.filter((one) => !isMeant(one) || !overlaps(one));
    if (hit?.keepsTables) return;
    this.#tables = this.#tables.filter((one) => !isMeant(one) || !overlaps(one));
  }

  #pointer(words: readonly number[], at = 0): bigint {
    return (BigInt(words[at + 1] ?? 0) << 32n) | BigInt(((words[at] ?? 0) & ~0xfff) >>> 0);
  }

  #context(sourceId: number): readonly number[] | string {
    const key = `context ${sourceId}`;
    const known = this.#requesters.get(key);
    if (known) return known.words;
    const [bus, devfn] = [sourceId >>> 8, sourceId & 0xff];
    const half = this.isScalable && devfn >= 128 ? 1 : 0;
    const root = this.words(this.rootTable + BigInt(bus * 16 + half * 8), 2);
    if (((root[0] ?? 0) & 1) === 0) return 'no root entry';
    const count = this.isScalable ? 8 : 4;
    const at = this.#pointer(root) + BigInt((devfn - half * 128) * count * 4);
    const words = this.words(at, count);
    if (((words[0] ?? 0) & 1) === 0) return 'no context entry';
    this.#requesters.set(key, { did: ((words[2] ?? 0) >>> 8) & 0xffff, words });
    return words;
  }

  #legacy(sourceId: number, address: bigint): PageEntry | string {
    const words = this.#context(sourceId);
    if (typeof words === 'string') return words;
    const [w0 = 0, , w2 = 0] = words;
    if (((w0 >>> 2) & 3) === 2) return { frame: address & ~0xfffn, reads: true, writes: true };
    const place = { did: (w2 >>> 8) & 0xffff, pasid: undefined, isNested: false };
    return this.#cached(place, address, () =>
      this.#walkSecond(place, this.#pointer(words), (w2 & 7) + 2, address),
    );
  }

  #scalable(sourceId: number, address: bigint, pasid: number): PageEntry | string {
    const context = this.#context(sourceId);
    if (typeof context === 'string') return context;
    if (pasid !== 0 && ((context[0] ?? 0) & 8) === 0) return 'no PASIDs';
    const key = `pasid ${sourceId}/${pasid}`;
    let known = this.#requesters.get(key);
    if (!known) {
      if (pasid >= 2 ** (13 + (((context[0] ?? 0) >>> 9) & 7))) return 'beyond the directory';
      const directory = this.words(this.#pointer(context) + BigInt((pasid >>> 6) * 8), 2);
      if (((directory[0] ?? 0) & 1) === 0) return 'no PASID table';
      const words = this.words(this.#pointer(directory) + BigInt((pasid & 63) * 64), 16);
      if (((words[0] ?? 0) & 1) === 0) return 'no PASID entry';
      known = { did: (words[2] ?? 0) & 0xffff, words };
      this.#requesters.set(key, known);
    }
    const { did, words } = known;
    const pgtt = ((words[0] ?? 0) >>> 6) & 7;
    const levels = (((words[0] ?? 0) >>> 2) & 7) + 2;
    if (pgtt === 4) return { frame: address & ~0xfffn, reads: true, writes: true };
    if (pgtt === 2) {
      const place = { did, pasid: undefined, isNested: false };
      return this.#cached(place, address, () =>
        this.#walkSecond(place, this.#pointer(words), levels, address),
      );
    }
    const place = { did, pasid, isNested: pgtt === 3 };
    const below = place.isNested
      ? (at: bigint): PageEntry | string =>
          this.#walkSecond({ ...place, pasid: undefined }, this.#pointer(words), levels, at)
      : undefined;
    const firstLevels = ((words[4] ?? 0) >>> 2) & 3 ? 5 : 4;
    return this.#cached(place, address, () =>
      this.#walkFirst(place, this.#pointer(words, 4), firstLevels, address, below),
    );
  }

  #cached(place: Place, address: bigint, walk: () => PageEntry | string): PageEntry | string {
    const page = address >> 12n;
    const known = this.#pages.find(
      (one) => one.did === place.did && one.pasid === place.pasid && one.page === page,
    );
    if (known) return known.value;
    const value = walk();
    if (typeof value !== 'string') this.#pages.push({ ...place, page, lg2: 0, value });
    return value;
  }

  /** The table of a level that an address is in, where that is remembered: then nothing above it is read. */
  #known(place: Place, stage: number, level: number, address: bigint): bigint | undefined {
    const lg2 = BigInt(12 + (level + 1) * 9);
    return this.#tables.find(
      (one) =>
        one.did === place.did &&
        one.pasid === place.pasid &&
        one.stage === stage &&
        one.level === level &&
        (one.page << 12n) >> lg2 === address >> lg2,
    )?.value;
  }

  #remember(place: Place, stage: number, level: number, address: bigint, value: bigint): bigint {
    const lg2 = (level + 1) * 9;
    const page = ((address >> 12n) >> BigInt(lg2)) << BigInt(lg2);
    this.#tables.push({ ...place, stage, level, page, lg2, value });
    return value;
  }

  #walkSecond(place: Place, top: bigint, levels: number, address: bigint): PageEntry | string {
    if (address >> BigInt(12 + 9 * levels) !== 0n) return 'beyond the second stage';
    let at = top;
    for (let level = levels - 1; ; level--) {
      const known = level > 0 ? this.#known(place, 2, level - 1, address) : undefined;
      if (known !== undefined) {
        at = known;
        continue;
      }
      const entry = this.#entry(at, level, address);
      if ((entry & 3n) === 0n) return 'nothing in the second stage';
      if (level > 0 && (entry & 0x80n) === 0n) {
        at = this.#remember(place, 2, level - 1, address, entry & ADDRESS);
        continue;
      }
      const frame = leafFrame(entry, level, address);
      return { frame, reads: (entry & 1n) !== 0n, writes: (entry & 2n) !== 0n };
    }
  }

  #walkFirst(
    place: Place,
    top: bigint,
    levels: number,
    address: bigint,
    below: ((at: bigint) => PageEntry | string) | undefined,
  ): PageEntry | string {
    const sign = address >> BigInt(11 + 9 * levels);
    if (sign !== 0n && sign !== 2n ** BigInt(53 - 9 * levels) - 1n) return 'not canonical';
    const physical = (at: bigint): bigint | string => {
      const found = below?.(at);
      if (found === undefined || typeof found === 'string') return found ?? at;
      return found.reads ? found.frame | (at & 0xfffn) : 'the second stage does not allow reading';
    };
    let at = top;
    for (let level = levels - 1; ; level--) {
      const known = level > 0 ? this.#known(place, 1, level - 1, address) : undefined;
      if (known !== undefined) {
        at = known;
        continue;
      }
      const table = physical(at);
      if (typeof table === 'string') return table;
      const entry = this.#entry(table, level, address);
      if ((entry & 1n) === 0n) return 'nothing in the first stage';
      if (level > 0 && (entry & 0x80n) === 0n) {
        at = this.#remember(place, 1, level - 1, address, entry & ADDRESS);
        continue;
      }
      const frame = leafFrame(entry, level, address);
      const writes = (entry & 2n) !== 0n;
      const found = below?.(frame);
      if (found === undefined) return { frame, reads: true, writes };
      if (typeof found === 'string') return found;
      return { frame: found.frame, reads: found.reads, writes: writes && found.writes };
    }
  }

  #entry(table: bigint, level: number, address: bigint): bigint {
    const index = (address >> BigInt(12 + 9 * level)) & 511n;
    const [lo = 0, hi = 0] = this.words(table + index * 8n, 2);
    return (BigInt(hi) << 32n) | BigInt(lo >>> 0);
  }
}

/** The page of 4 KiB in a leaf. */
function leafFrame(entry: bigint, level: number, address: bigint): bigint {
  const mask = (1n << BigInt(12 + 9 * level)) - 1n;
  return ((entry & ADDRESS & ~mask) | (address & mask)) & ~0xfffn;
}
