// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { BaseDomain } from '../../iommu/base_domain.ts';
import type { Device } from '../../iommu/device.ts';
import { type Domain, DomainType, isFaultCapable, type SvaDomain } from '../../iommu/domain.ts';
import type { Mm } from '../../memory/mm.ts';
import type { MmTables } from '../../memory/mm_tables.ts';
import { type Attachable, Attachments, attachPasidDomain } from './attachments.ts';
import type { DeviceInfo } from './device_info.ts';
import type { DevicePasid } from './device_pasid.ts';
import type { InfoOf } from './paging_domain.ts';
import { PASS_THROUGH_DID, type Translation } from './translation.ts';

/** Addresses are in bytes, tags in frames of 2 KiB. */
const FRAME_SHIFT = 11n;
const EVERYTHING = 2n ** 64n - 1n;

/**
 * The address space of a process as a first stage: its own tables, which nobody here changes. All of them have one domain id: the PASID,
 * which is the same on every device, tells them apart. Counterpart of drivers/iommu/intel/svm.c.
 */
export class IntelSvaDomain
  extends BaseDomain<typeof DomainType.SVA>
  implements SvaDomain, Attachable
{
  readonly mm: Mm;
  readonly attachments = new Attachments(true, undefined, PASS_THROUGH_DID);
  readonly #tables: MmTables;
  readonly #infoOf: InfoOf;
  readonly #unsubscribe: () => void;

  private constructor(mm: Mm, tables: MmTables, infoOf: InfoOf) {
    super(DomainType.SVA);
    this.mm = mm;
    this.#tables = tables;
    this.#infoOf = infoOf;
    this.#unsubscribe = tables.subscribe({
      invalidate: (start, last) => this.#invalidate(start, last),
      release: () => this.#release(),
    });
  }

  /**
   * Or, in this order: -ENODEV (the unit can not walk a process's tables), -EINVAL (the device has no PASIDs or no ATS, or has PRI that is
   * off), -EOPNOTSUPP (the process's tables are out of reach), -ENODEV (they have five levels, the unit four), -ENOMEM. Source: Linux
   * `intel_svm_domain_alloc()`.
   */
  static create(info: DeviceInfo, mm: Mm, infoOf: InfoOf): IntelSvaDomain | number {
    const refused = refusalOf(info, mm);
    if (refused !== 0) return refused;
    if (!mm.tables || info.unit.allocFails()) return -Errno.ENOMEM;
    return new IntelSvaDomain(mm, mm.tables, infoOf);
  }

  /** It is for requests with a PASID alone. */
  override attachDev(_device: Device, _old: Domain | undefined): number {
    return -Errno.ENODEV;
  }

  override setDevPasid(device: Device, pasid: number, _old: Domain | undefined): number {
    return attachPasidDomain(this.#infoOf(device), pasid, this);
  }

  /** A device that has no PRI sees to its faults in its own way. */
  takesFaultsOf(info: DeviceInfo): boolean {
    return isFaultCapable(this) && info.fn.pri !== undefined;
  }

  accepts({ info }: DevicePasid): number {
    const refused = refusalOf(info, this.mm);
    if (refused !== 0) return refused;
    if (!info.unit.caps.hasFirstStage) return -Errno.EINVAL;
    return this.mm.alive ? 0 : -Errno.ESRCH;
  }

  acquire(at: DevicePasid): number {
    return this.attachments.acquire(at);
  }

  release(at: DevicePasid): void {
    this.attachments.release(at);
  }

  translationOn({ info: { unit } }: DevicePasid): Translation {
    return {
      kind: 'first',
      did: PASS_THROUGH_DID,
      forcesSnoop: false,
      first: {
        topAddress: this.#tables.root,
        hasFiveLevels: this.#tables.levels === 5,
        supervisor: false,
        writeProtect: false,
        extendedAccess: false,
      },
      aw: unit.caps.widestAw,
      snoopsWalk: true,
    };
  }

  override free(): void {
    if (this.attachments.devices.size > 0) {
      throw new Error('an address space is freed that devices still use');
    }
    this.#unsubscribe();
  }

  #invalidate(start: bigint, last: bigint): void {
    const { tags } = this.attachments;
    if (start === 0n && last === EVERYTHING) tags.flushAll();
    else tags.flushRange(Number(start >> FRAME_SHIFT), Number(last >> FRAME_SHIFT), false);
  }

  /** The process exits while devices use it: they are blocked, and what they still try is not reported. */
  #release(): void {
    for (const at of this.attachments.devices.keys()) at.slot.silence();
  }
}

/** 0, or why a device can not use an address space. Source: Linux `intel_iommu_sva_supported()`, `intel_svm_check()`. */
function refusalOf(info: DeviceInfo, mm: Mm): number {
  const { caps } = info.unit;
  // Processors have pages of 1 GiB, and their tables are in their caches.
  if (!caps.hasPasids || caps.ecap.smpwc === 0 || caps.cap.fl1gp === 0) return -Errno.ENODEV;
  if (!info.fn.pasid || !info.isAtsOn) return -Errno.EINVAL;
  if (info.fn.pri && !info.canFault) return -Errno.EINVAL;
  if (!mm.tables) return -Errno.EOPNOTSUPP;
  return mm.tables.levels === 5 && caps.cap.fl5lp === 0 ? -Errno.ENODEV : 0;
}
