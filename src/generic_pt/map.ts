// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { NO_MEMORY } from '../memory/ram.ts';
import type { IotlbGather } from './gather.ts';
import { isPresent, isTable, oaFrame } from './item.ts';
import { ctzFrames, POW2 } from './lg2.ts';
import { Prot } from './prot.ts';
import type { Table } from './table.ts';
import { unmap } from './unmap.ts';

/** An item that a map changed on the way to its leaves, as it was. */
interface Change {
  /** Its table and index. */
  readonly at: number;
  readonly index: number;
  readonly lanes: Uint32Array;
  readonly lane: number;
  readonly lo: number;
  readonly hi: number;
  /** The table that was made for it, or NO_MEMORY. */
  readonly made: number;
}

/** One map under way: what it has changed beside its leaves. */
class MapOp {
  readonly table: Table;
  /** Bits of every leaf. */
  readonly lo: number;
  readonly hi: number;
  readonly changes: Change[] = [];
  /** Empty tables that large entries have taken the place of. */
  readonly replaced: number[] = [];
  readonly top: number;
  readonly topLevel: number;

  constructor(table: Table, prot: number) {
    const { format } = table;
    const coherent = table.forceCoherent ? format.coherent : { lo: 0, hi: 0 };
    const read = (prot & Prot.READ) !== 0 ? format.read : { lo: 0, hi: 0 };
    const isWritable = (prot & Prot.WRITE) !== 0;
    const write = isWritable ? format.write : { lo: 0, hi: 0 };
    const writable = isWritable ? format.writableBits : { lo: 0, hi: 0 };
    this.table = table;
    this.lo = format.leafBits.lo | coherent.lo | read.lo | write.lo | writable.lo;
    this.hi = format.leafBits.hi | coherent.hi | read.hi | write.hi | writable.hi;
    this.top = table.top;
    this.topLevel = table.topLevel;
  }
}

/**
 * Maps `frames` frames from `start` to those from `oa` on, with the largest pages that fit. 0, or a negative errno with every table
 * as it was, byte for byte: -EINVAL (no permission, no length), -EOVERFLOW, -ERANGE (an address that the table cannot hold), -ENXIO (not
 * aligned to the smallest page), -EADDRINUSE (something is mapped), -ENOMEM. Tables that large entries take the place of are added
 * to `gather`: they are empty, and go after a flush. Source: Linux iommu_pt.h `map_range()`.
 */
export function map(
  table: Table,
  start: number,
  frames: number,
  oa: number,
  prot: number,
  gather: IotlbGather,
): number {
  if ((prot & (Prot.READ | Prot.WRITE)) === 0) return -Errno.EINVAL;
  if (!(oa >= 0 && oa + frames <= table.oaEnd)) return -Errno.ERANGE;
  if (!(frames > 0)) return -Errno.EINVAL;
  if (start + frames > 2 ** 53) return -Errno.EOVERFLOW;
  const aligned = Math.min(ctzFrames(start), ctzFrames(oa), ctzFrames(frames));
  if ((table.bestSize[aligned] ?? -1) < 0) return -Errno.ENXIO;
  const op = new MapOp(table, prot);
  const rc = mapPages(op, start, frames, oa);
  if (rc === 0 && op.replaced.length > 0) {
    for (const replaced of op.replaced) gather.addTable(replaced);
    // Where the hardware may still walk them.
    gather.addRange(start, frames);
  }
  return rc;
}

function mapPages(op: MapOp, start: number, frames: number, oa: number): number {
  const { table } = op;
  let done = 0;
  let rc = 0;
  while (done < frames && rc === 0) {
    const [va, to, left] = [start + done, oa + done, frames - done];
    const sizeLg2 = table.bestPage(va, to, left);
    const level = table.levelOf(sizeLg2);
    if (done === 0) rc = growTop(op, start, start + frames, level);
    if (rc !== 0) break;
    const at = descend(op, va, level);
    if (at < 0) {
      rc = at;
      break;
    }
    const stepLg2 = sizeLg2 - (table.itemLg2[level] ?? 0);
    const index = table.index(va, level);
    const room = (table.indexMask + 1 - index) >>> stepLg2;
    const pages = Math.min(room, table.countPages(va, to, left, sizeLg2));
    rc = clearItems(op, at, level, index, pages << stepLg2);
    if (rc !== 0) break;
    writeLeaves(op, at, level, index, pages, stepLg2, to);
    done += pages * (POW2[sizeLg2] ?? 0);
  }
  if (rc !== 0) undo(op, start, done);
  return rc;
}

/** Tables on top until the range is in reach and the top is not below the leaves. 0, or -ERANGE, -ENOMEM. */
function growTop(op: MapOp, start: number, end: number, leafLevel: number): number {
  const { table } = op;
  const { format } = table;
  while (!table.reaches(start, end) || leafLevel > table.topLevel) {
    const level = table.topLevel + 1;
    if (!table.dynamicTop || level > format.maxTopLevel) return -Errno.ERANGE;
    if ((POW2[table.itemLg2[level] ?? 0] ?? 0) >= table.endOf(format.maxTopLevel))
      return -Errno.ERANGE;
    const made = table.allocTable();
    if (made === NO_MEMORY) return -Errno.ENOMEM;
    op.changes.push(linkTable(op, made, 0, level, table.top, made));
    table.setTop(made, level);
  }
  return 0;
}

/** The table of a level that a frame's item is in, made where it is missing; or -EADDRINUSE, -ENOMEM. */
function descend(op: MapOp, va: number, leafLevel: number): number {
  const { table } = op;
  const { format, ram } = table;
  let at = table.top;
  for (let level = table.topLevel; level > leafLevel; level--) {
    const lanes = ram.lanesOf(at);
    const index = table.index(va, level);
    const lane = ram.laneOf(at) + 2 * index;
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (isPresent(format, lo, hi)) {
      if (!isTable(format, lo, level)) return -Errno.EADDRINUSE;
      at = oaFrame(format, lo, hi);
      continue;
    }
    const made = table.allocTable();
    if (made === NO_MEMORY) return -Errno.ENOMEM;
    op.changes.push(linkTable(op, at, index, level, made, made));
    at = made;
  }
  return at;
}

/** Writes an item that points to a table. */
function linkTable(
  op: MapOp,
  at: number,
  index: number,
  level: number,
  below: number,
  made: number,
): Change {
  const { format, ram } = op.table;
  const lanes = ram.lanesOf(at);
  const lane = ram.laneOf(at) + 2 * index;
  const change = { at, index, lanes, lane, lo: lanes[lane] ?? 0, hi: lanes[lane + 1] ?? 0, made };
  const code = format.tableCodeOfLevel * level;
  const hiUnits = Math.floor(below / format.oaHiFrames);
  const loUnits = (below - hiUnits * format.oaHiFrames) / format.granuleFrames;
  lanes[lane] = format.tableBits.lo | (code << format.codeShift) | (loUnits << format.oaShift);
  lanes[lane + 1] = format.tableBits.hi | hiUnits;
  op.table.onWrite?.(at, index, 1);
  return change;
}

/**
 * Sees that items can take leaves: empty, or pointing to tables in which nothing is mapped, which are taken out. 0, or -EADDRINUSE.
 */
function clearItems(op: MapOp, at: number, level: number, index: number, items: number): number {
  const { format, ram } = op.table;
  const lanes = ram.lanesOf(at);
  const first = ram.laneOf(at) + 2 * index;
  const last = first + 2 * items;
  const { lo: presentLo, hi: presentHi } = format.present;
  for (let lane = first; lane < last; lane += 2) {
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (((lo & presentLo) | (hi & presentHi)) === 0) continue;
    if (!isTable(format, lo, level)) return -Errno.EADDRINUSE;
    const below = oaFrame(format, lo, hi);
    if (!isEmpty(op.table, below, level - 1)) return -Errno.EADDRINUSE;
    op.table.forEachTable(below, level - 1, (table) => op.replaced.push(table));
    const item = (lane - ram.laneOf(at)) >>> 1;
    op.changes.push({ at, index: item, lanes, lane, lo, hi, made: NO_MEMORY });
    lanes[lane] = 0;
    lanes[lane + 1] = 0;
    op.table.onWrite?.(at, item, 1);
  }
  return 0;
}

/** Nothing is mapped in a table or below it. */
function isEmpty(table: Table, at: number, level: number): boolean {
  const { format, ram } = table;
  const lanes = ram.lanesOf(at);
  const first = ram.laneOf(at);
  for (let lane = first; lane <= first + 2 * table.indexMask; lane += 2) {
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (!isPresent(format, lo, hi)) continue;
    if (!isTable(format, lo, level)) return false;
    if (!isEmpty(table, oaFrame(format, lo, hi), level - 1)) return false;
  }
  return true;
}

/** Writes `pages` entries of 2^stepLg2 items each, from `index` on, to output frames from `oa` on. */
function writeLeaves(
  op: MapOp,
  at: number,
  level: number,
  index: number,
  pages: number,
  stepLg2: number,
  oa: number,
): void {
  const { format, ram, itemLg2 } = op.table;
  const lanes = ram.lanesOf(at);
  const { oaShift, codeShift } = format;
  const loBits = 32 - oaShift;
  const loEnd = 1 << loBits;
  // The address goes in units of the granule; one page is 2^pageLg2 of them.
  const pageLg2 = (itemLg2[level] ?? 0) - (itemLg2[0] ?? 0) + stepLg2;
  let hiUnits = Math.floor(oa / format.oaHiFrames);
  let loUnits = (oa - hiUnits * format.oaHiFrames) / format.granuleFrames;
  const loStep = pageLg2 < loBits ? 1 << pageLg2 : 0;
  const hiStep = pageLg2 < loBits ? 0 : 1 << (pageLg2 - loBits);
  // A contiguous entry of 2^n granules has n-1 ones at the low end of its address.
  const ones = stepLg2 === 0 ? 0 : (POW2[pageLg2 - 1] ?? 1) - 1;
  const hiOnes = Math.floor(ones / loEnd);
  const plainCode = level === 0 ? format.level0Code : format.leafCode;
  const code = stepLg2 === 0 ? plainCode : format.contigCode;
  const loBase = op.lo | (code << codeShift) | ((ones - hiOnes * loEnd) << oaShift);
  const hiBase = op.hi | hiOnes;
  const items = 2 << stepLg2;
  let lane = ram.laneOf(at) + 2 * index;
  for (let page = 0; page < pages; page++) {
    const lo = loBase | (loUnits << oaShift);
    const hi = hiBase | hiUnits;
    for (const end = lane + items; lane < end; lane += 2) {
      lanes[lane] = lo;
      lanes[lane + 1] = hi;
    }
    hiUnits += hiStep;
    loUnits += loStep;
    if (loUnits >= loEnd) {
      loUnits -= loEnd;
      hiUnits++;
    }
  }
  op.table.onWrite?.(at, index, pages << stepLg2);
}

/** Puts back every item: first the leaves go, then what was changed on the way, in reverse. */
function undo(op: MapOp, start: number, done: number): void {
  const { table } = op;
  if (done > 0) unmap(table, start, done, undefined);
  if (table.top !== op.top) table.setTop(op.top, op.topLevel);
  for (const { at, index, lanes, lane, lo, hi, made } of op.changes.toReversed()) {
    lanes[lane] = lo;
    lanes[lane + 1] = hi;
    table.onWrite?.(at, index, 1);
    if (made !== NO_MEMORY) table.ram.free(made);
  }
}
