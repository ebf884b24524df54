// SPDX-License-Identifier: Apache-2.0
/** First-stage tables (x86-64) in memory, read for a checker: a reading of its own, beside those of the hardware and of who made them. */
import { hi as hiOf, lo as loOf } from '../base/u64.ts';
import { type DmaAccess, RequestMode } from '../pci/translator.ts';

/** What the entries on the way to a page allow together. */
export const Rights = { WRITE: 1, USER: 2, EXECUTE: 4, ALL: 7 } as const;

/** What an entry leads to: a page of 4 KiB with a table, or the first page that a leaf maps. */
export interface Entry {
  readonly page: number;
  readonly isLeaf: boolean;
  /** Bits of {@link Rights}. */
  readonly rights: number;
}

/** Reads an entry, 8 bytes, of the page of a table, from a byte on; undefined where there is no such memory. */
export type ReadTable = (page: number, byte: number) => bigint | undefined;

const ENTRIES = 512;
const LARGE = 0x80;
const PAGES_IN_4_GIB = 2 ** 20;

/** Pages that an entry of a level translates. */
export const pagesOf = (level: number): number => ENTRIES ** level;

/** The page of an address without the bits that repeat the highest one; undefined where they do not (it is not canonical). */
export function pageOf(address: bigint, levels: number): number | undefined {
  const bits = 12 + 9 * levels;
  if (BigInt.asUintN(64, BigInt.asIntN(bits, address)) !== address) return undefined;
  return Number(BigInt.asUintN(bits, address) >> 12n);
}

/** The byte of a table of `level` (0: of leaves) where the entry for a page is. */
export const byteOf = (level: number, page: number): number =>
  (Math.floor(page / pagesOf(level)) % ENTRIES) * 8;

/** An entry of a table of `level`; undefined where nothing is present. */
export function entryOf(raw: bigint, level: number): Entry | undefined {
  const [lo, hi] = [loOf(raw), hiOf(raw)];
  if ((lo & 1) === 0) return undefined;
  const isLeaf = level === 0 || (lo & LARGE) !== 0;
  const to = (hi & 0xf_ffff) * PAGES_IN_4_GIB + (lo >>> 12);
  const rights =
    ((lo & 2) !== 0 ? Rights.WRITE : 0) |
    ((lo & 4) !== 0 ? Rights.USER : 0) |
    (hi >>> 31 === 0 ? Rights.EXECUTE : 0);
  // The lowest bits of a large leaf are no address.
  return { page: isLeaf ? to - (to % pagesOf(level)) : to, isLeaf, rights };
}

/** Whether rights are enough. `protectsWrites`: read-only is also for those who are privileged (WPE). */
export function allows(
  rights: number,
  access: DmaAccess,
  mode: number,
  protectsWrites: boolean,
): boolean {
  const isPrivileged = (mode & RequestMode.PRIVILEGED) !== 0;
  if (!isPrivileged && (rights & Rights.USER) === 0) return false;
  if ((mode & RequestMode.EXECUTE) !== 0 && (rights & Rights.EXECUTE) === 0) return false;
  if (access === 'read' || (rights & Rights.WRITE) !== 0) return true;
  return isPrivileged && !protectsWrites;
}

/** Where tables as they are now lead; undefined: nowhere. */
export function walkFirstStage(
  read: ReadTable,
  root: number,
  levels: number,
  address: bigint,
): Omit<Entry, 'isLeaf'> | undefined {
  const page = pageOf(address, levels);
  if (page === undefined) return undefined;
  let [table, rights]: [number, number] = [root, Rights.ALL];
  for (let level = levels - 1; level >= 0; level--) {
    const entry = entryOf(read(table, byteOf(level, page)) ?? 0n, level);
    if (!entry) return undefined;
    rights &= entry.rights;
    if (entry.isLeaf) return { page: entry.page + (page % pagesOf(level)), rights };
    table = entry.page;
  }
  return undefined;
}
