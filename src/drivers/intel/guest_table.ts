// SPDX-License-Identifier: Apache-2.0
/** For tests of the driver: what domains and guests map, beside plain Maps that say the same. */
import type { SharedMemory } from '../../kernel/hardware.ts';
import type { Ram } from '../../memory/ram.ts';
import type { IntelPagingDomain } from './paging_domain.ts';

const RW = 3;
const [ACCESSED, DIRTY] = [0x20, 0x40];

/** What a domain maps, by page: the frame's page and whether it can be written. */
export type Model = Map<number, { readonly page: number; readonly writes: boolean }>;

export interface Paging {
  readonly name: string;
  readonly domain: IntelPagingDomain;
  readonly model: Model;
}

/** A first stage as a guest writes it, in pages that the parent maps one to one from `GUEST_RAM` on. */
export class GuestTable {
  readonly model: Model = new Map();
  readonly top: bigint;
  readonly #marks: number;
  readonly #mem: SharedMemory;
  readonly #ram: Ram;
  readonly #parent: Paging;
  #next: number;

  /** `isMarked`: entries are accessed and dirty from the beginning, for walks that do not snoop can not write that. */
  constructor(mem: SharedMemory, parent: Paging, firstPage: number, isMarked: boolean) {
    this.#marks = isMarked ? ACCESSED | DIRTY : 0;
    this.#mem = mem;
    this.#ram = mem.ram;
    this.#parent = parent;
    this.#next = firstPage;
    this.top = this.#newPage();
  }

  /** A page of the guest's memory for a table, which the parent maps and nobody unmaps. Its guest-physical address. */
  #newPage(): bigint {
    const page = this.#next++;
    const frame = this.#ram.alloc(1);
    const iova = BigInt(page) << 12n;
    if (this.#parent.domain.map(iova, frame, 2, RW) !== 0) throw new Error('not mapped');
    this.#parent.model.set(page, { page: frame / 2, writes: true });
    this.#flush(iova);
    return iova;
  }

  /** What a guest does for hardware that does not look into the processor's cache. */
  #flush(table: bigint): void {
    const at = this.#parent.model.get(Number(table >> 12n))?.page ?? 0;
    this.#mem.flush(at * 2, 0, 4096);
  }

  /** Writes a leaf, with the tables that lead to it. */
  set(page: number, to: number, writes: boolean): void {
    let table = this.top;
    for (let level = 3; level > 0; level--) {
      const [lanes, lane] = this.#item(table, page, level);
      if (((lanes[lane] ?? 0) & 1) === 0) {
        const below = this.#newPage();
        lanes[lane] = Number(below & 0xffff_f000n) | 7 | (this.#marks & ACCESSED);
        lanes[lane + 1] = Number(below >> 32n);
        this.#flush(table);
      }
      table = (BigInt(lanes[lane + 1] ?? 0) << 32n) | BigInt(((lanes[lane] ?? 0) & ~0xfff) >>> 0);
    }
    const [lanes, lane] = this.#item(table, page, 0);
    lanes[lane] = ((to % 2 ** 20) * 4096 + ((writes ? 7 : 5) | this.#marks)) >>> 0;
    lanes[lane + 1] = Math.floor(to / 2 ** 20);
    this.#flush(table);
    this.model.set(page, { page: to, writes });
  }

  clear(page: number): void {
    let table = this.top;
    for (let level = 3; level >= 0; level--) {
      const [lanes, lane] = this.#item(table, page, level);
      const lo = lanes[lane] ?? 0;
      if ((lo & 1) === 0) return;
      if (level === 0) {
        lanes[lane] = 0;
        lanes[lane + 1] = 0;
        this.#flush(table);
      }
      table = (BigInt(lanes[lane + 1] ?? 0) << 32n) | BigInt((lo & ~0xfff) >>> 0);
    }
    this.model.delete(page);
  }

  #item(table: bigint, page: number, level: number): [Uint32Array, number] {
    const at = this.#parent.model.get(Number(table >> 12n))?.page ?? 0;
    const ram = this.#ram;
    const index = Math.floor(page / 512 ** level) % 512;
    return [ram.lanesOf(at * 2), ram.laneOf(at * 2) + 2 * index];
  }
}
