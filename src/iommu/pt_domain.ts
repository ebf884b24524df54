// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import { readDirty } from '../generic_pt/dirty.ts';
import { frameOfIova, iovaOfFrame, isAligned } from '../generic_pt/iova.ts';
import { map } from '../generic_pt/map.ts';
import type { Table } from '../generic_pt/table.ts';
import { unmap } from '../generic_pt/unmap.ts';
import { forEachRun, translate } from '../generic_pt/walk.ts';
import { FRAME_SIZE, type FrameRun } from '../memory/frame.ts';
import { BaseDomain } from './base_domain.ts';
import {
  DIRTY_NO_CLEAR,
  type DirtyOps,
  DomainType,
  IotlbGather,
  NO_FRAME,
  NOT_MAPPED,
  type PagingDomain,
} from './domain.ts';

export interface PtDomainOptions {
  /** The addresses to offer, in bytes, where they are fewer than the table's. */
  readonly apertureStart?: bigint;
  readonly apertureLast?: bigint;
  /** It was allocated for dirty tracking. */
  readonly dirtyTracking?: boolean;
}

/** Told when a domain's flush is over. */
export interface DomainWatcher {
  /** From now on nobody uses what was in `gather`'s range before. */
  synced(domain: PtDomain, gather: IotlbGather): void;
}

/**
 * A paging domain whose table is one of generic_pt: what nearly every driver's is. A driver adds how devices are attached
 * and, where its hardware caches translations, how they are flushed.
 */
export abstract class PtDomain
  extends BaseDomain<PagingDomain['type']>
  implements PagingDomain, DirtyOps
{
  readonly table: Table;
  readonly pgsizeBitmap: bigint;
  readonly apertureStart: bigint;
  readonly apertureLast: bigint;
  readonly dirty: DirtyOps | undefined;
  /** Who wants to know what software takes for forgotten by all hardware. */
  watcher: DomainWatcher | undefined = undefined;
  #isTracking = false;
  #flushes = 0;
  /** For whole operations, which leave nothing in it. */
  readonly #gather = new IotlbGather();

  constructor(table: Table, options: PtDomainOptions = {}) {
    super(DomainType.UNMANAGED);
    this.table = table;
    this.pgsizeBitmap = table.pgsizeBitmap;
    this.apertureStart = options.apertureStart ?? 0n;
    const highest = table.dynamicTop ? table.format.maxTopLevel : table.topLevel;
    this.apertureLast = options.apertureLast ?? iovaOfFrame(table.endOf(highest)) - 1n;
    this.dirty = options.dirtyTracking ? this : undefined;
  }

  /** True while writes are to be recorded. */
  get isTracking(): boolean {
    return this.#isTracking;
  }

  map(iova: bigint, frame: number, frames: number, prot: number): number {
    const start = frameOfIova(iova);
    if (!isAligned(iova, start)) return -Errno.ENXIO;
    const gather = this.#gather;
    const rc = map(this.table, start, frames, frame, prot, gather);
    if (rc === 0 && !gather.isEmpty) this.iotlbSync(gather);
    return rc;
  }

  unmap(iova: bigint, frames: number): number {
    const unmapped = this.unmapGathered(iova, frames, this.#gather);
    this.iotlbSync(this.#gather);
    return unmapped;
  }

  unmapGathered(iova: bigint, frames: number, gather: IotlbGather): number {
    const start = frameOfIova(iova);
    return isAligned(iova, start) ? unmap(this.table, start, frames, gather) : 0;
  }

  /** The hardware is being told of what has changed: it may still use what was there before. */
  get isFlushing(): boolean {
    return this.#flushes > 0;
  }

  iotlbSync(gather: IotlbGather): void {
    if (gather.isEmpty) return;
    this.#flushes++;
    this.flush(gather);
    this.#flushes--;
    this.watcher?.synced(this, gather);
    for (const table of gather.tables) this.table.ram.free(table);
    gather.reset();
  }

  iovaToFrame(iova: bigint): number {
    return translate(this.table, Math.floor(frameOfIova(iova)));
  }

  iovaToPhys(iova: bigint): bigint {
    const frame = this.iovaToFrame(iova);
    if (frame === NO_FRAME) return NOT_MAPPED;
    return iovaOfFrame(frame) + (iova & BigInt(FRAME_SIZE - 1));
  }

  runs(iova: bigint, frames: number): FrameRun[] | undefined {
    const found: FrameRun[] = [];
    const isWhole = forEachRun(this.table, Math.floor(frameOfIova(iova)), frames, (frame, length) =>
      found.push({ frame, frames: length }),
    );
    return isWhole ? found : undefined;
  }

  setTracking(enabled: boolean): number {
    if (enabled === this.#isTracking) return 0;
    const rc = this.changeTracking(enabled);
    if (rc === 0) this.#isTracking = enabled;
    return rc;
  }

  readAndClear(
    iova: bigint,
    frames: number,
    flags: number,
    gather: IotlbGather,
    record?: (iovaFrame: number, frames: number) => void,
  ): number {
    const keeps = (flags & DIRTY_NO_CLEAR) !== 0;
    const start = Math.floor(frameOfIova(iova));
    return readDirty(this.table, start, frames, record, keeps ? undefined : gather);
  }

  override free(): void {
    this.table.free();
  }

  /** Makes the hardware forget what `gather` holds. Nothing to do where it caches nothing. */
  protected flush(_gather: IotlbGather): void {}

  /** Makes the hardware record writes, or not. 0 or a negative errno. */
  protected changeTracking(_enabled: boolean): number {
    return 0;
  }
}
