// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { x8664 } from '../generic_pt/fmt/x86_64.ts';
import { IotlbGather } from '../generic_pt/gather.ts';
import { isPresent, isTable, oaFrame } from '../generic_pt/item.ts';
import { map } from '../generic_pt/map.ts';
import { Prot } from '../generic_pt/prot.ts';
import { Table } from '../generic_pt/table.ts';
import { unmap } from '../generic_pt/unmap.ts';
import type { LockedMemory } from '../memory/accounting.ts';
import { FRAME_SHIFT, FRAME_SIZE, FRAMES_PER_PAGE } from '../memory/frame.ts';
import { type Mapping, type Mm, PAGE_SHIFT, PAGE_SIZE, type PageAccess } from '../memory/mm.ts';
import type { MmObserver, MmTables } from '../memory/mm_tables.ts';
import type { PinObserver } from '../memory/pin_observer.ts';
import { NO_MEMORY, type Ram } from '../memory/ram.ts';
import {
  allows,
  clip,
  full,
  overlaps,
  pageOf,
  type ProcessProt,
  type Range,
  type Vma,
} from './vma.ts';

export type { ProcessProt } from './vma.ts';

/** Bit 63 of an item: what is there cannot be executed. In the high lane. */
const XD_HI = 0x8000_0000;
const PAGE_LG2 = PAGE_SHIFT - FRAME_SHIFT;
const OFFSET = BigInt(PAGE_SIZE - 1);
const EVERYTHING = 2n ** 64n - 1n;

export interface ProcessMmOptions {
  /** Levels of its tables: 4 (unless told) are 47 bits of user addresses, 5 are 56. */
  readonly levels?: 4 | 5;
}

/**
 * The address space of a simulated process, whose page tables lie in RAM that hardware can walk (SVA): private memory of zeroes, present
 * page by page as it is touched. What real processes have in the kernel, and `host/` cannot reach.
 */
export class ProcessMm implements Mm, MmTables {
  readonly locked: LockedMemory = { lockedPages: 0, pinnedPages: 0 };
  readonly format = 'x86_64';
  readonly levels: 4 | 5;
  readonly ram: Ram;
  pinObserver: PinObserver | undefined = undefined;
  /** Faults that made a page present. */
  pageFaults = 0;
  readonly #table: Table;
  /** Ascending, apart from each other. */
  #vmas: Vma[] = [];
  /** First frames of the pages that were touched, by the number of the page; present in the table or not. */
  readonly #pages = new Map<number, number>();
  readonly #observers = new Set<MmObserver>();
  #alive = true;
  #changes = 0;

  private constructor(ram: Ram, table: Table, levels: 4 | 5) {
    this.ram = ram;
    this.levels = levels;
    this.#table = table;
  }

  /** An address space with nothing in it, or -ENOMEM. */
  static create(ram: Ram, options: ProcessMmOptions = {}): ProcessMm | number {
    const { levels = 4 } = options;
    const table = Table.create(x8664, ram, {
      topLevel: levels - 1,
      signExtend: true,
      pgsizeBitmap: BigInt(PAGE_SIZE),
    });
    return typeof table === 'number' ? table : new ProcessMm(ram, table, levels);
  }

  get alive(): boolean {
    return this.#alive;
  }

  get isChanging(): boolean {
    return this.#changes > 0;
  }

  get tables(): MmTables {
    return this;
  }

  get root(): bigint {
    return BigInt(this.#table.top) * BigInt(FRAME_SIZE);
  }

  subscribe(observer: MmObserver): () => void {
    this.#observers.add(observer);
    return () => void this.#observers.delete(observer);
  }

  /**
   * Maps pages; none is there before it is touched. 0, or -EINVAL (not made of pages), -ENOMEM (beyond a user's addresses, or the process
   * is gone), -EEXIST (something is mapped there).
   */
  mmap(address: bigint, length: number, prot: ProcessProt): number {
    const range = this.#range(address, length);
    if (typeof range === 'number') return range;
    if (this.#vmas.some((vma) => overlaps(vma, range))) return -Errno.EEXIST;
    this.#insert([{ ...range, ...full(prot) }]);
    return 0;
  }

  /** Unmaps pages, mapped or not. 0, or -EINVAL, -ENOMEM as `mmap`. */
  munmap(address: bigint, length: number): number {
    const range = this.#range(address, length);
    if (typeof range === 'number') return range;
    this.#carve(range);
    this.#zap(range, (page) => this.#pages.delete(page));
    return 0;
  }

  /** Changes what may be done with pages. 0, or -EINVAL, -ENOMEM as `mmap` and where a part is not mapped: then nothing has changed. */
  mprotect(address: bigint, length: number, prot: ProcessProt): number {
    const range = this.#range(address, length);
    if (typeof range === 'number') return range;
    const inside = this.#vmas.filter((vma) => overlaps(vma, range)).map((vma) => clip(vma, range));
    const mapped = inside.reduce((sum, { start, last }) => sum + (last - start + 1n), 0n);
    if (mapped !== BigInt(length)) return -Errno.ENOMEM;
    this.#carve(range);
    this.#insert(inside.map(({ start, last }) => ({ start, last, ...full(prot) })));
    this.#zap(range);
    return 0;
  }

  /** Pages are not present any more, and keep what is in them: the next access faults (as after reclaim). */
  reclaim(address: bigint, length: number): number {
    const range = this.#range(address, length);
    if (typeof range === 'number') return range;
    this.#zap(range);
    return 0;
  }

  handleFault(address: bigint, access: PageAccess): boolean {
    const vma = this.#vmaAt(address);
    if (!vma || !allows(vma, access)) return false;
    const page = pageOf(address);
    const frame = this.#pages.get(page) ?? this.ram.alloc(PAGE_LG2);
    if (frame === NO_MEMORY) return false;
    const isNew = !this.#pages.has(page);
    const rc = this.#makePresent(page, frame, vma);
    if (rc !== 0) {
      if (isNew) this.ram.free(frame);
      return false;
    }
    this.#pages.set(page, frame);
    this.pageFaults++;
    return true;
  }

  /** The last task ends: hardware is told first, then everything goes. */
  exit(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#tell((observer) => observer.release(), { start: 0n, last: EVERYTHING });
    this.pinObserver?.gone();
    this.#vmas = [];
    for (const frame of this.#pages.values()) this.ram.free(frame);
    this.#pages.clear();
    this.#table.free();
  }

  copyIn(address: bigint, into: Uint8Array): boolean {
    const access = { read: true, write: false, execute: false };
    return this.#copy(address, into, access, (page, bytes) => bytes.set(page));
  }

  copyOut(address: bigint, from: Uint8Array): boolean {
    const access = { read: false, write: true, execute: false };
    return this.#copy(address, from, access, (page, bytes) => page.set(bytes));
  }

  mappingAt(address: bigint): Mapping | undefined {
    const vma = this.#vmaAt(address);
    return vma && { ...vma, shared: undefined };
  }

  readPinned(address: bigint, into: Uint8Array): boolean {
    return this.#copy(address, into, undefined, (page, bytes) => bytes.set(page));
  }

  writePinned(address: bigint, from: Uint8Array): boolean {
    return this.#copy(address, from, undefined, (page, bytes) => page.set(bytes));
  }

  /** Page by page through the pages themselves; without `access` protections do not count. */
  #copy(
    address: bigint,
    bytes: Uint8Array,
    access: PageAccess | undefined,
    move: (page: Uint8Array, bytes: Uint8Array) => void,
  ): boolean {
    for (let done = 0; done < bytes.length;) {
      const at = address + BigInt(done);
      const vma = this.#vmaAt(at);
      if (!vma || (access && !allows(vma, access))) return false;
      const page = pageOf(at);
      const needed = access ?? { read: false, write: false, execute: false };
      if (!this.#pages.has(page) && !this.handleFault(at, needed)) return false;
      const offset = Number(at & OFFSET);
      const length = Math.min(PAGE_SIZE - offset, bytes.length - done);
      const frame = this.#pages.get(page) ?? NO_MEMORY;
      const whole = this.ram.bytes(frame, FRAMES_PER_PAGE);
      move(whole.subarray(offset, offset + length), bytes.subarray(done, done + length));
      done += length;
    }
    return true;
  }

  /** 0 or -ENOMEM. A page that nobody may read, write or execute is in no table. */
  #makePresent(page: number, frame: number, vma: Vma): number {
    const { readable, writable, executable } = vma;
    const start = page * FRAMES_PER_PAGE;
    unmap(this.#table, start, FRAMES_PER_PAGE, undefined);
    if (!readable && !writable && !executable) return 0;
    const prot = Prot.READ | (writable ? Prot.WRITE : 0);
    const gather = new IotlbGather();
    const rc = map(this.#table, start, FRAMES_PER_PAGE, frame, prot, gather);
    if (rc === 0 && !executable) this.#forbidExecution(start);
    return rc;
  }

  #forbidExecution(start: number): void {
    const { format, ram } = this.#table;
    let at = this.#table.top;
    for (let level = this.#table.topLevel; level >= 0; level--) {
      const lanes = ram.lanesOf(at);
      const lane = ram.laneOf(at) + 2 * this.#table.index(start, level);
      const [lo, hi] = [lanes[lane] ?? 0, lanes[lane + 1] ?? 0];
      if (!isPresent(format, lo, hi)) return;
      if (isTable(format, lo, level)) at = oaFrame(format, lo, hi);
      else lanes[lane + 1] = (hi | XD_HI) >>> 0;
    }
  }

  /** Takes a range out of the tables, tells hardware, and then gives back the pages that `drop` lets go of, and the tables. */
  #zap(range: Range, drop?: (page: number) => void): void {
    const [first, last] = [pageOf(range.start), pageOf(range.last)];
    const gather = new IotlbGather();
    const dropped: number[] = [];
    for (const [page, frame] of this.#pages) {
      if (page < first || page > last) continue;
      unmap(this.#table, page * FRAMES_PER_PAGE, FRAMES_PER_PAGE, gather);
      if (drop) dropped.push(frame);
      drop?.(page);
    }
    this.#tell((observer) => observer.invalidate(range.start, range.last), range);
    for (const table of gather.tables) this.ram.free(table);
    for (const frame of dropped) this.ram.free(frame);
  }

  /** Each makes its hardware forget; then all know that it is forgotten. */
  #tell(forget: (observer: MmObserver) => void, { start, last }: Range): void {
    this.#changes++;
    for (const observer of [...this.#observers]) forget(observer);
    this.#changes--;
    for (const observer of [...this.#observers]) observer.forgotten?.(start, last);
  }

  #range(address: bigint, length: number): Range | number {
    const bytes = BigInt(Number.isInteger(length) ? length : 0);
    if ((address & OFFSET) !== 0n || bytes <= 0n || (bytes & OFFSET) !== 0n) return -Errno.EINVAL;
    const last = address + bytes - 1n;
    const end = 1n << (this.levels === 4 ? 47n : 56n);
    if (!this.#alive || address < 0n || last >= end) return -Errno.ENOMEM;
    return { start: address, last };
  }

  #vmaAt(address: bigint): Vma | undefined {
    return this.#vmas.find(({ start, last }) => start <= address && address <= last);
  }

  #insert(vmas: readonly Vma[]): void {
    this.#vmas = [...this.#vmas, ...vmas].toSorted((a, b) => (a.start < b.start ? -1 : 1));
  }

  /** Removes a range from the mappings, cutting those that stick out. */
  #carve(range: Range): void {
    this.#vmas = this.#vmas.flatMap((vma) => {
      if (!overlaps(vma, range)) return [vma];
      const kept: Vma[] = [];
      if (vma.start < range.start) kept.push({ ...vma, last: range.start - 1n });
      if (vma.last > range.last) kept.push({ ...vma, start: range.last + 1n });
      return kept;
    });
  }
}
