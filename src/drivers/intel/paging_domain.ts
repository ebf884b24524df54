// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { vtdss } from '../../generic_pt/fmt/vtdss.ts';
import { x8664 } from '../../generic_pt/fmt/x86_64.ts';
import { frameOfIova, iovaOfFrame } from '../../generic_pt/iova.ts';
import { Table, type TableOptions } from '../../generic_pt/table.ts';
import type { Device } from '../../iommu/device.ts';
import { type Domain, type IotlbGather, isFaultCapable, Prot } from '../../iommu/domain.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { PtDomain } from '../../iommu/pt_domain.ts';
import { type Attachable, attachDomain, Attachments, attachPasidDomain } from './attachments.ts';
import { SIZE_1G } from './capabilities.ts';
import type { DeviceInfo } from './device_info.ts';
import type { DevicePasid } from './device_pasid.ts';
import type { NestedGuestDomain } from './nested_domain.ts';
import type { SecondStage, Translation } from './translation.ts';
import type { Unit } from './unit.ts';

export type Stage = 'first' | 'second';

/** Finds what the driver knows of a device; undefined where it is not behind it. */
export type InfoOf = (device: Device) => DeviceInfo | undefined;

const SIZE_2M = 1n << 21n;

/** A page table of the driver's: a first or a second stage. Counterpart of `struct dmar_domain`. */
export class IntelPagingDomain extends PtDomain implements Attachable {
  readonly stage: Stage;
  readonly isNestingParent: boolean;
  readonly attachments: Attachments;
  /** The guests' tables that lie on this one. */
  readonly guests = new Set<NestedGuestDomain>();
  /** Its tables are flushed out of the processor's cache. */
  readonly isIncoherent: boolean;
  /** The hardware has to be told of what is mapped where nothing was. */
  readonly needsMapFlush: boolean;
  forcesSnoop = false;
  readonly #infoOf: InfoOf;
  /** Tracking as the entries have it, ahead of `isTracking` while that changes. */
  #tracks = false;

  private constructor(table: Table, stage: Stage, unit: Unit, flags: number, infoOf: InfoOf) {
    super(table, { dirtyTracking: (flags & DomainFlags.DIRTY_TRACKING) !== 0 });
    const { caps } = unit;
    this.stage = stage;
    this.isNestingParent = (flags & DomainFlags.NEST_PARENT) !== 0;
    this.isIncoherent = table.onWrite !== undefined;
    this.needsMapFlush = caps.flushesWriteBuffer || (stage === 'second' && caps.hasCachingMode);
    this.attachments = new Attachments(stage === 'first');
    this.#infoOf = infoOf;
  }

  /**
   * A table for what a user wants of devices behind a unit: a first stage where the unit has one and it does, else a second. Or
   * -EOPNOTSUPP, -ENOMEM. Source: Linux `intel_iommu_domain_alloc_paging_flags()`.
   */
  static create(unit: Unit, flags: number, infoOf: InfoOf): IntelPagingDomain | number {
    const { caps } = unit;
    const wantsFirst = (flags & ~DomainFlags.PASID) === 0 && caps.hasFirstStage;
    const stage = wantsFirst ? 'first' : 'second';
    if (stage === 'second') {
      const known = DomainFlags.NEST_PARENT | DomainFlags.DIRTY_TRACKING | DomainFlags.PASID;
      if ((flags & ~known) !== 0) return -Errno.EOPNOTSUPP;
      if ((flags & DomainFlags.NEST_PARENT) !== 0 && !caps.hasNesting) return -Errno.EOPNOTSUPP;
      if ((flags & DomainFlags.DIRTY_TRACKING) !== 0 && !caps.hasDirty) return -Errno.EOPNOTSUPP;
      if (!caps.hasSecondStage) return -Errno.EOPNOTSUPP;
    }
    const width = stage === 'first' ? caps.firstStageWidth() : caps.secondStageWidth();
    if (!width) return -Errno.EOPNOTSUPP;
    if (unit.allocFails()) return -Errno.ENOMEM;
    const options: TableOptions = {
      topLevel: width.topLevel,
      maxVaLg2: width.bits,
      pgsizeBitmap: stage === 'first' ? caps.firstStageSizes : caps.secondStageSizes,
      signExtend: stage === 'first',
      ...(caps.walksCoherently ? {} : { onWrite: unit.flushItems }),
    };
    const table = Table.create(stage === 'first' ? x8664 : vtdss, unit.ram, options);
    if (typeof table === 'number') return table;
    return new IntelPagingDomain(table, stage, unit, flags, infoOf);
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    const info = this.#infoOf(device);
    return info ? attachDomain(info.rid, this) : -Errno.ENODEV;
  }

  override setDevPasid(device: Device, pasid: number, _old: Domain | undefined): number {
    return attachPasidDomain(this.#infoOf(device), pasid, this);
  }

  /** A nesting parent takes only what can be written: what a guest's first stage sets there must not fault (erratum 772415). */
  override map(iova: bigint, frame: number, frames: number, prot: number): number {
    if (this.isNestingParent && (prot & Prot.WRITE) === 0) return -Errno.EINVAL;
    const rc = super.map(iova, frame, frames, prot);
    if (rc !== 0 || !this.needsMapFlush) return rc;
    const start = frameOfIova(iova);
    const flushed = this.attachments.tags.flushMapped(start, start + frames - 1);
    if (flushed !== 0) this.unmap(iova, frames);
    return flushed;
  }

  takesFaultsOf(): boolean {
    return isFaultCapable(this);
  }

  accepts({ info: { unit } }: DevicePasid): number {
    const fits = this.stage === 'first' ? this.#fitsFirst(unit) : this.#fitsSecond(unit);
    return fits ? 0 : -Errno.EINVAL;
  }

  acquire(at: DevicePasid): number {
    return this.attachments.acquire(at);
  }

  release(at: DevicePasid): void {
    this.attachments.release(at);
  }

  translationOn({ info: { unit } }: DevicePasid): Translation {
    const { forcesSnoop } = this;
    const did = this.attachments.didOn(unit);
    if (this.stage === 'second')
      return { kind: 'second', did, forcesSnoop: false, second: this.asSecondStage() };
    const first = {
      topAddress: iovaOfFrame(this.table.top),
      hasFiveLevels: this.table.topLevel === 4,
      supervisor: false,
      writeProtect: false,
      extendedAccess: false,
    };
    const aw = unit.caps.widestAw;
    return { kind: 'first', did, forcesSnoop, first, aw, snoopsWalk: !this.isIncoherent };
  }

  /** How entries name it as the stage below. */
  asSecondStage(): SecondStage {
    const { top, topLevel } = this.table;
    return { top, aw: topLevel - 1, isTracking: this.#tracks, snoopsWalk: !this.isIncoherent };
  }

  /** Source: Linux `intel_iommu_enforce_cache_coherency_fs()` and `..._ss()`. */
  enforceCacheCoherency(): boolean {
    if (this.forcesSnoop) return true;
    const devices = [...this.attachments.devices.keys()];
    if (!devices.every(({ info: { unit } }) => unit.caps.hasSnoopControl)) return false;
    this.forcesSnoop = true;
    if (this.stage === 'second') {
      this.table.forceCoherent = true;
      return true;
    }
    const rc = this.#rewrite(devices);
    if (rc !== 0) {
      this.forcesSnoop = false;
      this.#rewrite(devices, true);
    }
    return rc === 0;
  }

  override free(): void {
    if (this.guests.size > 0 || this.attachments.devices.size > 0) {
      throw new Error('a domain is freed that devices or guests still use');
    }
    super.free();
  }

  /** One submission for each unit it is cached on. Where the hardware does not answer, the tables that it may walk stay. */
  protected override flush(gather: IotlbGather): void {
    const leavesOnly = gather.tables.length === 0;
    const rc = this.attachments.tags.flushRange(gather.start, gather.last, leavesOnly);
    if (rc !== 0) gather.tables.length = 0;
  }

  /** Every entry that leads here, also through a guest's table, says whether dirty bits are written. */
  protected override changeTracking(enabled: boolean): number {
    const guests = [...this.guests].flatMap((guest) => [...guest.attachments.devices.keys()]);
    const devices = [...this.attachments.devices.keys(), ...guests];
    this.#tracks = enabled;
    const rc = this.#rewrite(devices);
    if (rc === 0) return 0;
    this.#tracks = !enabled;
    this.#rewrite(devices, true);
    return rc;
  }

  /** Writes the entries of devices anew. 0, or the negative errno of the first that failed. */
  #rewrite(devices: readonly DevicePasid[], mustSucceed = false): number {
    for (const at of devices) {
      const translation = at.attached?.translationOn(at);
      if (translation === undefined || typeof translation === 'number') continue;
      const rc = at.slot.set(translation, mustSucceed);
      if (rc !== 0) return rc;
    }
    return 0;
  }

  /** Source: Linux `paging_domain_compatible_first_stage()`. */
  #fitsFirst({ caps }: Unit): boolean {
    if (!caps.hasFirstStage) return false;
    if (!caps.walksCoherently && !this.isIncoherent) return false;
    if (caps.cap.fl5lp === 0 && this.table.topLevel === 4) return false;
    if (caps.cap.fl1gp === 0 && (this.pgsizeBitmap & SIZE_1G) !== 0n) return false;
    return !caps.flushesWriteBuffer || this.needsMapFlush;
  }

  /** Source: Linux `paging_domain_compatible_second_stage()`. */
  #fitsSecond({ caps }: Unit): boolean {
    if (this.dirty && !caps.hasDirty) return false;
    if (this.isNestingParent && !caps.hasNesting) return false;
    if (!caps.hasSecondStage) return false;
    if (!caps.walksCoherently && !this.isIncoherent) return false;
    if (caps.maxAddressBits < this.table.maxVaLg2) return false;
    if ((caps.cap.sagaw & (1 << (this.table.topLevel - 1))) === 0) return false;
    if ((caps.cap.sllps & 1) === 0 && (this.pgsizeBitmap & SIZE_2M) !== 0n) return false;
    if ((caps.cap.sllps & 2) === 0 && (this.pgsizeBitmap & SIZE_1G) !== 0n) return false;
    const needsFlush = caps.flushesWriteBuffer || caps.hasCachingMode;
    if (needsFlush && !this.needsMapFlush) return false;
    return !this.table.forceCoherent || caps.hasSnoopControl;
  }
}
