// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { BaseDomain } from '../../iommu/base_domain.ts';
import type { Device } from '../../iommu/device.ts';
import { type Domain, DomainType } from '../../iommu/domain.ts';
import { type Attachable, attachDomain, attachPasidDomain } from './attachments.ts';
import type { DevicePasid } from './device_pasid.ts';
import type { InfoOf } from './paging_domain.ts';
import { PASS_THROUGH_DID, type Translation } from './translation.ts';

/** All DMA is refused: the entry is not present. */
export class IntelBlockedDomain extends BaseDomain<typeof DomainType.BLOCKED> {
  readonly #infoOf: InfoOf;

  constructor(infoOf: InfoOf) {
    super(DomainType.BLOCKED);
    this.#infoOf = infoOf;
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    const info = this.#infoOf(device);
    return info ? attachDomain(info.rid, undefined) : -Errno.ENODEV;
  }

  override setDevPasid(device: Device, pasid: number, _old: Domain | undefined): number {
    return attachPasidDomain(this.#infoOf(device), pasid, undefined);
  }
}

/** Addresses are physical ones (pass-through). All devices share one domain id, whose translations nothing changes. */
export class IntelIdentityDomain
  extends BaseDomain<typeof DomainType.IDENTITY>
  implements Attachable
{
  readonly #infoOf: InfoOf;

  constructor(infoOf: InfoOf) {
    super(DomainType.IDENTITY);
    this.#infoOf = infoOf;
  }

  /** -EINVAL where the unit has no pass-through. */
  override attachDev(device: Device, _old: Domain | undefined): number {
    const info = this.#infoOf(device);
    return info ? attachDomain(info.rid, this) : -Errno.ENODEV;
  }

  override setDevPasid(device: Device, pasid: number, _old: Domain | undefined): number {
    return attachPasidDomain(this.#infoOf(device), pasid, this);
  }

  takesFaultsOf(): boolean {
    return false;
  }

  accepts({ info: { unit } }: DevicePasid): number {
    return unit.caps.ecap.pt === 1 ? 0 : -Errno.EINVAL;
  }

  acquire(): number {
    return 0;
  }

  release(): void {}

  translationOn({ info: { unit } }: DevicePasid): Translation {
    const { caps } = unit;
    return {
      kind: 'pass-through',
      did: PASS_THROUGH_DID,
      forcesSnoop: false,
      aw: caps.widestAw,
      snoopsWalk: caps.ecap.smpwc === 1,
    };
  }
}
