// SPDX-License-Identifier: Apache-2.0
import {
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  IOMMU_VTD_INV_FLAGS_LEAF,
  IOMMU_VTD_S1_EAFE,
  IOMMU_VTD_S1_SRE,
  IOMMU_VTD_S1_WPE,
} from '../../abi/iommufd.ts';
import { Errno } from '../../base/errno.ts';
import { BaseDomain } from '../../iommu/base_domain.ts';
import type { Device } from '../../iommu/device.ts';
import {
  type Domain,
  DomainType,
  type GuestTable,
  isFaultCapable,
  type NestedDomain,
} from '../../iommu/domain.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import {
  copyStructFromUser,
  type Invalidation,
  type UserData,
  type UserDataArray,
} from '../../iommu/user_data.ts';
import { type Attachable, attachDomain, Attachments, attachPasidDomain } from './attachments.ts';
import type { DevicePasid } from './device_pasid.ts';
import { type InfoOf, IntelPagingDomain } from './paging_domain.ts';
import type { FirstStage, Translation } from './translation.ts';
import type { Unit } from './unit.ts';

const PAGE_MASK = 0xfffn;
const ALL_PAGES = 2n ** 64n - 1n;
const BITS_4_LEVELS = 48;
const BITS_5_LEVELS = 57;
/** Frames of the whole of 2^64, and one more. */
const EVERYTHING = { start: 0, last: -1 };

/** What the client says of the guest's table. */
interface Description {
  readonly flags: bigint;
  readonly topAddress: bigint;
  readonly bits: number;
}

/**
 * A guest's first stage, in the guest's memory, on a second stage of ours. Counterpart of the nested part of `struct dmar_domain`;
 * source: Linux drivers/iommu/intel/nested.c.
 */
export class NestedGuestDomain
  extends BaseDomain<typeof DomainType.NESTED>
  implements NestedDomain, Attachable
{
  readonly parent: IntelPagingDomain;
  readonly attachments: Attachments;
  readonly #table: Description;
  readonly #infoOf: InfoOf;

  private constructor(parent: IntelPagingDomain, table: Description, infoOf: InfoOf) {
    super(DomainType.NESTED);
    this.parent = parent;
    this.attachments = new Attachments(true, parent.attachments.tags);
    this.#table = table;
    this.#infoOf = infoOf;
    parent.guests.add(this);
  }

  /**
   * From the client's `iommu_hwpt_vtd_s1`; or, in this order: -EOPNOTSUPP (no nesting, flags, another type of data), -EINVAL (the parent
   * is none), -EINVAL or -EFAULT (the data), -ENOMEM. What the data says is checked when a device is attached.
   */
  static create(
    unit: Unit,
    parent: Domain,
    flags: number,
    userData: UserData,
    infoOf: InfoOf,
  ): NestedGuestDomain | number {
    if (!unit.caps.hasNesting || (flags & ~DomainFlags.PASID) !== 0) return -Errno.EOPNOTSUPP;
    if (userData.type !== IOMMU_HWPT_DATA_VTD_S1) return -Errno.EOPNOTSUPP;
    if (!(parent instanceof IntelPagingDomain) || !parent.isNestingParent) return -Errno.EINVAL;
    const { size } = iommu_hwpt_vtd_s1;
    const bytes = copyStructFromUser(userData, IOMMU_HWPT_DATA_VTD_S1, size, size);
    if (typeof bytes === 'number') return bytes;
    if (unit.allocFails()) return -Errno.ENOMEM;
    const cmd = iommu_hwpt_vtd_s1.on(new DataView(bytes.buffer));
    const table = {
      flags: cmd.flags,
      topAddress: cmd.pgtbl_addr,
      bits: cmd.addr_width,
    };
    return new NestedGuestDomain(parent, table, infoOf);
  }

  get guestTable(): GuestTable {
    const { topAddress, bits, flags } = this.#table;
    return {
      parent: this.parent,
      root: Number(topAddress >> 12n),
      levels: bits === BITS_5_LEVELS ? 5 : 4,
      protectsWrites: (flags & BigInt(IOMMU_VTD_S1_WPE)) !== 0n,
    };
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    const info = this.#infoOf(device);
    return info ? attachDomain(info.rid, this) : -Errno.ENODEV;
  }

  override setDevPasid(device: Device, pasid: number, _old: Domain | undefined): number {
    return attachPasidDomain(this.#infoOf(device), pasid, this);
  }

  takesFaultsOf(): boolean {
    return isFaultCapable(this);
  }

  accepts(at: DevicePasid): number {
    return this.parent.accepts(at);
  }

  acquire(at: DevicePasid): number {
    return this.attachments.acquire(at);
  }

  release(at: DevicePasid): void {
    this.attachments.release(at);
  }

  /** Or -EINVAL: a width, supervisor requests or extended accessed flags that the unit has not. Source: `intel_pasid_setup_nested()`. */
  translationOn({ info: { unit } }: DevicePasid): Translation | number {
    const { caps } = unit;
    const { flags, topAddress, bits } = this.#table;
    const hasFiveLevels = bits === BITS_5_LEVELS;
    if (!hasFiveLevels && bits !== BITS_4_LEVELS) return -Errno.EINVAL;
    if (hasFiveLevels && caps.cap.fl5lp === 0) return -Errno.EINVAL;
    const has = (flag: number): boolean => (flags & BigInt(flag)) !== 0n;
    const first: FirstStage = {
      topAddress,
      hasFiveLevels,
      supervisor: has(IOMMU_VTD_S1_SRE),
      writeProtect: has(IOMMU_VTD_S1_WPE),
      extendedAccess: has(IOMMU_VTD_S1_EAFE),
    };
    if (first.supervisor && caps.ecap.srs === 0) return -Errno.EINVAL;
    if (first.extendedAccess && caps.ecap.eafs === 0) return -Errno.EINVAL;
    return {
      kind: 'nested',
      did: this.attachments.didOn(unit),
      forcesSnoop: this.parent.forcesSnoop,
      first,
      second: this.parent.asSecondStage(),
    };
  }

  /** Each entry is read when its turn comes: what is before a bad one is done. */
  invalidate(array: UserDataArray): Invalidation {
    if (array.type !== IOMMU_HWPT_INVALIDATE_DATA_VTD_S1) {
      return { result: -Errno.EINVAL, handled: 0 };
    }
    for (let index = 0; index < array.entryCount; index++) {
      const result = this.#invalidateOne(array.entry(index));
      if (result !== 0) return { result, handled: index };
    }
    return { result: 0, handled: array.entryCount };
  }

  override free(): void {
    this.parent.guests.delete(this);
  }

  #invalidateOne(entry: UserData): number {
    const layout = iommu_hwpt_vtd_s1_invalidate;
    const type = IOMMU_HWPT_INVALIDATE_DATA_VTD_S1;
    const bytes = copyStructFromUser(entry, type, layout.size, layout.size);
    if (typeof bytes === 'number') return bytes;
    const { addr, npages, flags, __reserved: reserved } = layout.on(new DataView(bytes.buffer));
    if ((flags & ~IOMMU_VTD_INV_FLAGS_LEAF) !== 0 || reserved !== 0) return -Errno.EOPNOTSUPP;
    if ((addr & PAGE_MASK) !== 0n || (npages === ALL_PAGES && addr !== 0n)) return -Errno.EINVAL;
    const { start, last } = framesOf(addr, npages);
    const leavesOnly = (flags & IOMMU_VTD_INV_FLAGS_LEAF) !== 0;
    return this.attachments.tags.flushRange(start, last, leavesOnly);
  }
}

/**
 * Iova frames of pages. The end is computed modulo 2^64, as Linux does: what wraps is everything, and so is no page at address 0; no
 * page elsewhere is the page and the one before it.
 */
function framesOf(addr: bigint, npages: bigint): { start: number; last: number } {
  const last = BigInt.asUintN(64, addr + (npages << 12n) - 1n);
  const [low, high] = addr <= last ? [addr, last] : [last, addr];
  if (npages >= 2n ** 52n) return EVERYTHING;
  return { start: Number(low >> 11n), last: Number(high >> 11n) };
}
