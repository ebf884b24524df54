// SPDX-License-Identifier: Apache-2.0
/** Page tables as bytes, and a reading of the test driver's format that shares nothing with the engine's walker. */
import type { Table } from '../../src/generic_pt/table.ts';
import { Prot } from '../../src/iommu/domain.ts';
import { HALF, PAGE } from './memory.ts';

/** What one leaf, contiguous ones as a whole, maps: frames of 2 KiB. */
export interface Leaf {
  readonly iova: number;
  readonly frame: number;
  readonly frames: number;
  readonly prot: number;
  /** Frames of each of its items: one, or as many as lie side by side. */
  readonly itemFrames: number;
  /** Any of its items says that it was written to. */
  readonly dirty: boolean;
}

const ITEMS = 512;
/** Bits of an item of the test driver's format, whose granule is 2 KiB: see fmt/amdv1.ts for what they are. */
const PRESENT = 1;
const DIRTY = 1 << 6;
const READ_HI = 1 << 29;
const WRITE_HI = 1 << 30;
const LEAF_OF_ITS_SIZE = 0;
const LEAF_OF_SEVERAL = 7;

/** Every leaf of a table in order of address. */
export function leavesOf(table: Table): Leaf[] {
  const leaves: Leaf[] = [];
  read(table, table.top, table.topLevel, 0, leaves);
  return leaves;
}

function read(table: Table, at: number, level: number, base: number, leaves: Leaf[]): void {
  const { ram } = table;
  const lanes = ram.lanesOf(at);
  const lane = ram.laneOf(at);
  const step = ITEMS ** level;
  for (let index = 0; index < ITEMS; index++) {
    const lo = lanes[lane + 2 * index] ?? 0;
    if ((lo & PRESENT) === 0) continue;
    const hi = lanes[lane + 2 * index + 1] ?? 0;
    const iova = base + index * step;
    const code = (lo >>> 9) & 7;
    const address = (hi & 0xf_ffff) * 2 ** 20 + (lo >>> 12);
    const prot = (hi & READ_HI ? Prot.READ : 0) | (hi & WRITE_HI ? Prot.WRITE : 0);
    if (level > 0 && code !== LEAF_OF_ITS_SIZE && code !== LEAF_OF_SEVERAL) {
      read(table, address, level - 1, iova, leaves);
      continue;
    }
    if (code !== LEAF_OF_SEVERAL) {
      const dirty = (lo & DIRTY) !== 0;
      leaves.push({ iova, frame: address, frames: step, prot, itemFrames: step, dirty });
      continue;
    }
    // n ones at the low end of the address say 2^(n+1) frames.
    let frames = 2;
    for (let rest = address; rest % 2 === 1; rest = (rest - 1) / 2) frames *= 2;
    if (iova % frames !== 0) continue; // a further item of the leaf before
    let dirty = false;
    for (let each = index; each < index + frames / step; each++)
      if ((lanes[lane + 2 * each] ?? 0) & DIRTY) dirty = true;
    const frame = address - (frames / 2 - 1);
    leaves.push({ iova, frame, frames, prot, itemFrames: step, dirty });
  }
}

/** The tables of a domain as they were: each table's bytes by its frame. */
export interface Snapshot {
  readonly top: number;
  readonly topLevel: number;
  readonly tables: ReadonlyMap<number, Uint8Array>;
}

const TABLE_FRAMES = PAGE / HALF;

/** The tables as they are now; `before` itself where they are the same frames with the same bytes. */
export function takeSnapshot(table: Table, before: Snapshot | undefined): Snapshot {
  const { ram, top, topLevel } = table;
  const frames: number[] = [];
  table.forEachTable(top, topLevel, (frame) => frames.push(frame));
  const isSame =
    before?.top === top &&
    before.tables.size === frames.length &&
    frames.every((frame) => {
      const bytes = before.tables.get(frame);
      return bytes && Buffer.compare(ram.bytes(frame, TABLE_FRAMES), bytes) === 0;
    });
  if (isSame) return before;
  const tables = new Map(frames.map((frame) => [frame, ram.bytes(frame, TABLE_FRAMES).slice()]));
  return { top, topLevel, tables };
}

/**
 * Whether two states are the same byte for byte but for tables in which nothing is mapped, and the items that point to them: a map
 * that fails after a part of it was done may leave such tables, as on Linux. They are the domain's, and go with it.
 */
export function isSameMapped(a: Snapshot, b: Snapshot): boolean {
  const [before, now] = [mapped(a), mapped(b)];
  if (before.size !== now.size) return false;
  for (const [frame, bytes] of before) {
    const other = now.get(frame);
    if (!other || Buffer.compare(bytes, other) !== 0) return false;
  }
  return true;
}

/** The tables in which anything is mapped, with items that point to others cleared; the top in any case. */
function mapped({ top, topLevel, tables }: Snapshot): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  const visit = (at: number, level: number): boolean => {
    const bytes = tables.get(at)?.slice();
    if (!bytes) throw new Error('a table is in no snapshot');
    const view = new DataView(bytes.buffer);
    let isUsed = level === topLevel;
    for (let item = 0; item < ITEMS; item++) {
      const lo = view.getUint32(8 * item, true);
      if ((lo & PRESENT) === 0) continue;
      const hi = view.getUint32(8 * item + 4, true);
      const code = (lo >>> 9) & 7;
      const isTable = level > 0 && code !== LEAF_OF_ITS_SIZE && code !== LEAF_OF_SEVERAL;
      const address = (hi & 0xf_ffff) * 2 ** 20 + (lo >>> 12);
      if (!isTable || visit(address, level - 1)) isUsed = true;
      else view.setBigUint64(8 * item, 0n);
    }
    if (isUsed) found.set(at, bytes);
    return isUsed;
  };
  visit(top, topLevel);
  return found;
}
