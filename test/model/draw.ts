// SPDX-License-Identifier: Apache-2.0
/** Draws what steps are made of: addresses, lengths, references, mostly to what the model has. */
import { Prng } from '../../src/base/prng.ts';
import type { By } from './commands.ts';
import { PAGE } from './memory.ts';
import { Access, type Device, Hwpt, Nested, type Table } from './objects.ts';
import { type Area, LAST } from './space.ts';
import { WINDOW, type World } from './world.ts';

export const PAGE_N = BigInt(PAGE);
/** Where the aperture of a mock domain begins. */
const BASE = 0x100_0000n;
/** IOVA are drawn from so many pages, so that maps meet each other. */
const SPAN_PAGES = 160;

export class Draw {
  protected readonly world: World;
  protected readonly prng: Prng;
  /** Nothing but whole pages is mapped: what hardware queues need. */
  protected wholePages = false;

  constructor(world: World, seed: number) {
    this.world = world;
    this.prng = new Prng(seed);
  }

  protected below(n: number): number {
    return this.prng.below(n);
  }

  /** One in n. */
  protected chance(n: number): boolean {
    return this.prng.below(n) === 0;
  }

  protected pick<T>(items: readonly T[]): T | undefined {
    return items.length > 0 ? items[this.below(items.length)] : undefined;
  }

  /** A reference, seldom to something that is not there or of another kind. */
  protected ref(): number {
    return this.chance(50) ? -1 - this.below(12) : this.below(64);
  }

  protected by(): By {
    return this.chance(4) ? 1 : 0;
  }

  protected bytes(): bigint {
    if (this.chance(60)) return this.pick([0n, 1n, LAST, LAST - 1n, 1n << 40n]) ?? 0n;
    const pages = this.pick([1, 1, 1, 2, 2, 3, 4, 8, 16, 32]) ?? 1;
    let bytes = BigInt(pages) * PAGE_N;
    if (this.chance(6) && !this.wholePages) bytes -= 2048n;
    if (this.chance(60)) bytes += 1n;
    return bytes;
  }

  protected iova(): bigint {
    if (this.chance(50)) {
      return (
        this.pick([
          0n,
          0x1000n,
          0x7fff_f000n,
          0x8000_0000n,
          LAST,
          LAST - PAGE_N,
          1n << 37n,
          1n << 38n,
        ]) ?? 0n
      );
    }
    let iova = BASE + BigInt(this.below(SPAN_PAGES)) * PAGE_N;
    if (this.chance(3)) iova &= ~0xffffn;
    if (this.chance(10) && !this.wholePages) iova += 2048n;
    if (this.chance(60)) iova += 1n;
    return iova;
  }

  protected va(): bigint {
    let page = WINDOW.first + this.below(WINDOW.pages);
    if (this.chance(2)) page &= ~7;
    let va = BigInt(page) * PAGE_N;
    if (this.chance(10) && !this.wholePages) va += 2048n;
    if (this.chance(80)) va += 1n;
    if (this.chance(100)) va = this.pick([0n, LAST, LAST - PAGE_N, 0xdead_f000n]) ?? va;
    return va;
  }

  protected flags(): number {
    if (this.chance(60)) return this.pick([0, 1, 8, 7 | (1 << 17)]) ?? 0;
    return (this.chance(4) ? 0 : 1) | (this.pick([6, 6, 6, 4, 2]) ?? 6);
  }

  /** An area of the address space that a reference means, or of any. */
  protected area(ioas?: number): Area | undefined {
    const id = ioas === undefined ? 0 : this.world.idOf(ioas, 'IOAS');
    return this.pick(this.world.areas().filter(({ space }) => id === 0 || space.id === id));
  }

  /** A range that is mapped, as a whole or in part, or any other. */
  protected range(ioas: number, whole: number): { iova: bigint; length: bigint } {
    const area = this.area(ioas);
    if (!area || this.chance(12)) return { iova: this.iova(), length: this.bytes() };
    const length = area.last - area.start + 1n;
    if (this.chance(10))
      return { iova: BigInt.asUintN(64, area.start - PAGE_N), length: length + 2n * PAGE_N };
    if (this.below(100) < whole) return { iova: area.start, length };
    const pages = Math.max(1, Math.min(32, Number(length / PAGE_N)));
    const skip = BigInt(this.below(pages)) * PAGE_N;
    const left = length - skip;
    const wanted = BigInt(1 + this.below(pages)) * PAGE_N;
    return {
      iova: area.start + skip,
      length: left > 0n && wanted > left && !this.chance(8) ? left : wanted,
    };
  }

  /** A mock device, mostly one with PASIDs. */
  protected mock(): number {
    const mocks = this.world.of('SELFTEST');
    const fitting = this.pick(mocks.filter(({ device }) => device.pasids > 1));
    return fitting && !this.chance(12) ? mocks.indexOf(fitting) : this.ref();
  }

  /** Seldom one that is out of range. */
  protected pasid(): number {
    return this.chance(30) ? 2 ** 20 : (this.pick([0, 1, 1, 2, 2, 3]) ?? 1);
  }

  /** An IOAS or a table, mostly a table of which something is true. */
  protected table(fits: (table: Table) => boolean): number {
    const targets = this.world
      .sorted()
      .filter(({ kind }) => kind === 'IOAS' || kind === 'HWPT_PAGING' || kind === 'HWPT_NESTED');
    const tables = targets.filter((each) => each instanceof Hwpt || each instanceof Nested);
    const fitting = this.pick(tables.filter(fits));
    return fitting && !this.chance(6) ? targets.indexOf(fitting) : this.ref();
  }

  /** A device of which something is true, mostly. */
  protected device(fits: (device: Device) => boolean): number {
    const { devices } = this.world;
    const fitting = this.chance(12) ? undefined : this.pick(devices.filter(fits));
    return fitting ? devices.indexOf(fitting) : this.below(64);
  }

  /** An access that is there, the process that has it, and its reference. */
  protected access(): { by: By; fd: number; access: Access | undefined } {
    const by = this.by();
    const fd = this.ref();
    const open = this.world.processes[by].fds.get(this.world.fdOf(fd, by, ['ACCESS']));
    if (open instanceof Access) return { by, fd, access: open };
    const other: By = by === 0 ? 1 : 0;
    if (this.chance(8)) return { by, fd, access: undefined };
    const there = this.world.processes[other].fds.get(this.world.fdOf(fd, other, ['ACCESS']));
    return { by: other, fd, access: there instanceof Access ? there : undefined };
  }

  protected pages(): { page: number; pages: number } {
    const page = WINDOW.first + this.below(WINDOW.pages - 8);
    return { page, pages: 1 + this.below(8) };
  }
}
