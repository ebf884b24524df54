// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { FRAME_SHIFT } from '../memory/frame.ts';
import { NO_MEMORY, type Ram } from '../memory/ram.ts';
import { type Encoding, itemLg2, type TableFormat } from './format.ts';
import { geometryOf } from './geometry.ts';
import { isPresent, isTable, oaFrame } from './item.ts';
import { ctzFrames, floorLg2, POW2 } from './lg2.ts';

export type TableWrite = (table: number, index: number, items: number) => void;

export interface TableOptions {
  readonly topLevel: number;
  /** The top grows when an address needs it. */
  readonly dynamicTop?: boolean;
  /** What the hardware can do of the format's maximum, in bits of an address in bytes. */
  readonly maxVaLg2?: number;
  readonly maxOaLg2?: number;
  /** Leaves force coherent accesses. */
  readonly forceCoherent?: boolean;
  /** Page sizes to use, of those that the format has; bit n: 2^n bytes. */
  readonly pgsizeBitmap?: bigint;
  /**
   * The highest bit of an address is repeated in all above it: the table is two halves, at the low and at the high end of 2^64.
   * `maxVaLg2` counts that bit.
   */
  readonly signExtend?: boolean;
  /**
   * The hardware does not look into the processor's cache: told what has been written, `items` items of 8 bytes from item `index`
   * of the table at a frame on, to be flushed before the hardware may see what refers to it. Told in the right order: a table
   * before the item that points to it.
   */
  readonly onWrite?: TableWrite;
  /** The hardware must be told before anything is mapped under a new top. */
  readonly onTopChange?: (top: number, topLevel: number) => void;
}

/**
 * A page table in RAM: its top and the numbers that walks need, worked out once. What works on it: walk.ts, map.ts,
 * unmap.ts, dirty.ts. Addresses in here are frame numbers of 2 KiB (also input addresses), and `end` is exclusive.
 */
export class Table {
  readonly format: Encoding;
  readonly ram: Ram;
  readonly dynamicTop: boolean;
  /** Of what is mapped from now on. */
  forceCoherent: boolean;
  readonly maxVaLg2: number;
  /** Frames of output addresses. */
  readonly oaEnd: number;
  readonly pgsizeBitmap: bigint;
  readonly onWrite: TableWrite | undefined;
  readonly onTopChange: ((top: number, topLevel: number) => void) | undefined;
  /** By level: frames that an item maps, as a power of two, and its inverse, which turns a frame into an index. */
  readonly itemLg2: Int8Array;
  readonly scale: Float64Array;
  readonly indexMask: number;
  /** By n: the largest page of at most 2^n frames, the next larger one than 2^n frames, in frames; -1 where there is none. */
  readonly bestSize: Int8Array;
  readonly nextSize: Int8Array;
  /** The top table's frame and level, and the first frame that it cannot reach. */
  top: number;
  topLevel: number;
  end: number;
  /** The first frame of the upper half of a table that extends the sign; Infinity where there is none. */
  readonly upperStart: number;

  private constructor(format: TableFormat, ram: Ram, top: number, options: TableOptions) {
    this.ram = ram;
    this.dynamicTop = options.dynamicTop ?? false;
    this.forceCoherent = options.forceCoherent ?? false;
    this.onTopChange = options.onTopChange;
    this.onWrite = options.onWrite;
    const geometry = geometryOf(format, options);
    this.format = geometry.encoding;
    this.maxVaLg2 = geometry.maxVaLg2;
    this.oaEnd = geometry.oaEnd;
    this.itemLg2 = geometry.itemLg2;
    this.scale = geometry.scale;
    this.indexMask = geometry.indexMask;
    this.pgsizeBitmap = geometry.pgsizeBitmap;
    this.bestSize = geometry.bestSize;
    this.nextSize = geometry.nextSize;
    this.top = top;
    this.topLevel = options.topLevel;
    const half = 2 ** (this.maxVaLg2 - 1 - FRAME_SHIFT);
    this.upperStart = (options.signExtend ?? false) ? 2 ** 53 - half : Infinity;
    this.end = this.endOf(this.topLevel);
    this.onWrite?.(top, 0, this.indexMask + 1);
  }

  /** An empty table, or -ENOMEM. Throws for a level that the format has not. */
  static create(format: TableFormat, ram: Ram, options: TableOptions): Table | number {
    const { topLevel } = options;
    if (topLevel < 1 || topLevel > format.maxTopLevel) {
      throw new RangeError(
        `${format.name}: a top at level ${topLevel}, not 1 to ${format.maxTopLevel}`,
      );
    }
    const top = ram.alloc(format.tableLg2 - FRAME_SHIFT);
    return top === NO_MEMORY ? -Errno.ENOMEM : new Table(format, ram, top, options);
  }

  /** A table that others fill and free, to be walked. */
  static view(format: TableFormat, ram: Ram, top: number, options: TableOptions): Table {
    return new Table(format, ram, top, options);
  }

  /** The first frame that a top of this level cannot reach. */
  endOf(topLevel: number): number {
    const lg2 = itemLg2(this.format, topLevel) + this.format.itemsLg2;
    const sign = this.upperStart === Infinity ? 0 : 1;
    return 2 ** (Math.min(lg2, this.maxVaLg2) - sign - FRAME_SHIFT);
  }

  /** Input frames from `start` to `end` are addresses of this table: below `end`, or all in the upper half. */
  reaches(start: number, end: number): boolean {
    return start >= 0 && (end <= this.end || (start >= this.upperStart && end <= 2 ** 53));
  }

  setTop(top: number, topLevel: number): void {
    this.top = top;
    this.topLevel = topLevel;
    this.end = this.endOf(topLevel);
    this.onTopChange?.(top, topLevel);
  }

  /** The first frame of a new empty table, or NO_MEMORY. */
  allocTable(): number {
    const table = this.ram.alloc(this.format.tableLg2 - FRAME_SHIFT);
    if (table !== NO_MEMORY) this.onWrite?.(table, 0, this.indexMask + 1);
    return table;
  }

  /** The index of a frame's item in the tables of a level: ToInt32 takes the whole part modulo 2^32, of which these bits are left. */
  index(frame: number, level: number): number {
    return (frame * (this.scale[level] ?? 0)) & this.indexMask;
  }

  /** The level whose items a page of 2^sizeLg2 frames is made of. */
  levelOf(sizeLg2: number): number {
    let level = 0;
    while (level < this.format.maxLeafLevel && (this.itemLg2[level + 1] ?? 0) <= sizeLg2) level++;
    return level;
  }

  /** The largest page that can start a mapping of `frames` frames from `va` to `oa`, or -1 where not even the smallest fits. */
  bestPage(va: number, oa: number, frames: number): number {
    const aligned = Math.min(ctzFrames(va), ctzFrames(oa), floorLg2(frames));
    return this.bestSize[aligned] ?? -1;
  }

  /** How many pages of 2^sizeLg2 frames follow until a larger one fits, or the mapping ends. */
  countPages(va: number, oa: number, frames: number, sizeLg2: number): number {
    const next = this.nextSize[sizeLg2] ?? -1;
    let span = frames;
    if (next >= 0 && ctzFrames(Math.abs(va - oa)) >= next) {
      const size = POW2[next] ?? 0;
      span = Math.min(span, (Math.floor(va / size) + 1) * size - va);
    }
    return Math.floor(span / (POW2[sizeLg2] ?? 1));
  }

  /** Calls `visit` for every table below one, and for itself, last. */
  forEachTable(table: number, level: number, visit: (table: number) => void): void {
    if (level > 0) {
      const lanes = this.ram.lanesOf(table);
      const first = this.ram.laneOf(table);
      for (let lane = first; lane < first + 2 * (this.indexMask + 1); lane += 2) {
        const lo = lanes[lane] ?? 0;
        const hi = lanes[lane + 1] ?? 0;
        if (!isPresent(this.format, lo, hi) || !isTable(this.format, lo, level)) continue;
        this.forEachTable(oaFrame(this.format, lo, hi), level - 1, visit);
      }
    }
    visit(table);
  }

  /** Gives back all its memory. The hardware no longer walks it. */
  free(): void {
    const tables: number[] = [];
    this.forEachTable(this.top, this.topLevel, (table) => tables.push(table));
    for (const table of tables) this.ram.free(table);
    this.end = 0;
  }
}
