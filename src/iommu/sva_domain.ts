// SPDX-License-Identifier: Apache-2.0
import { isPresent, isTable, oaFrame } from '../generic_pt/item.ts';
import { x8664 } from '../generic_pt/fmt/x86_64.ts';
import { Table } from '../generic_pt/table.ts';
import { FRAME_SHIFT } from '../memory/frame.ts';
import type { Mm } from '../memory/mm.ts';
import type { MmTables } from '../memory/mm_tables.ts';
import type { Ram } from '../memory/ram.ts';
import { BaseDomain } from './base_domain.ts';
import { type Device, NO_PASID } from './device.ts';
import { type Domain, DomainType, type SvaDomain } from './domain.ts';

/** Bit 63 of an item, in its high lane: not to be executed. */
const XD_HI = 0x8000_0000;

/**
 * The address space of a process, by the process's own tables: for drivers whose hardware walks x86-64 tables in RAM. It is told of what goes
 * from them, and of their end, after which it is as good as blocked.
 */
export abstract class SvaTableDomain
  extends BaseDomain<typeof DomainType.SVA>
  implements SvaDomain
{
  readonly mm: Mm;
  /** As the hardware sees it: it maps nothing through this. */
  readonly table: Table;
  readonly apertureStart = 0n;
  /** The half of user addresses. */
  readonly apertureLast: bigint;
  /** Accessed and dirty bits are set when a page is made present. */
  readonly isTracking = false;
  #isReleased = false;
  readonly #unsubscribe: () => void;

  constructor(mm: Mm, tables: MmTables, ram: Ram) {
    super(DomainType.SVA);
    this.mm = mm;
    const top = Number(tables.root >> BigInt(FRAME_SHIFT));
    this.table = Table.view(x8664, ram, top, { topLevel: tables.levels - 1, signExtend: true });
    this.apertureLast = (1n << (tables.levels === 4 ? 47n : 56n)) - 1n;
    this.#unsubscribe = tables.subscribe({
      invalidate: (start, last) => this.flush(start, last),
      release: () => {
        this.#isReleased = true;
        this.flush(0n, this.apertureLast);
      },
    });
  }

  /** The process is gone: nothing is translated any more. */
  get isReleased(): boolean {
    return this.#isReleased;
  }

  /** It is for requests with a PASID. */
  override attachDev(device: Device, _old: Domain | undefined): number {
    return this.enter(device, NO_PASID);
  }

  override setDevPasid(device: Device, pasid: number, _old: Domain | undefined): number {
    return this.enter(device, pasid);
  }

  /** Whether what is at an address may be executed. */
  allowsExecution(iova: bigint): boolean {
    const { table } = this;
    const frame = Number(iova >> BigInt(FRAME_SHIFT));
    let at = table.top;
    for (let level = table.topLevel; level >= 0; level--) {
      const lanes = table.ram.lanesOf(at);
      const lane = table.ram.laneOf(at) + 2 * table.index(frame, level);
      const [lo, hi] = [lanes[lane] ?? 0, lanes[lane + 1] ?? 0];
      if (!isPresent(table.format, lo, hi) || (hi & XD_HI) !== 0) return false;
      if (!isTable(table.format, lo, level)) return true;
      at = oaFrame(table.format, lo, hi);
    }
    return false;
  }

  override free(): void {
    this.#unsubscribe();
  }

  protected abstract enter(device: Device, pasid: number): number;

  /** Every device that keeps translations of it forgets a range of bytes, `last` inclusive. */
  protected abstract flush(start: bigint, last: bigint): void;
}
