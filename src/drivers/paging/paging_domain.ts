// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import type { Table } from '../../generic_pt/table.ts';
import { BaseDomain } from '../../iommu/base_domain.ts';
import type { Device } from '../../iommu/device.ts';
import { type Domain, DomainType } from '../../iommu/domain.ts';
import { PtDomain } from '../../iommu/pt_domain.ts';

/** Writes a domain into the device table of the IOMMU: 0, or -ENODEV for a device that is not behind it. */
type Enter = (device: Device, domain: Domain) => number;

/** A page table of a `PagingIommu`. */
export class PagingTableDomain extends PtDomain {
  readonly #enter: Enter;

  constructor(table: Table, options: { readonly dirtyTracking: boolean; readonly enter: Enter }) {
    super(table, { dirtyTracking: options.dirtyTracking });
    this.#enter = options.enter;
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    return this.#enter(device, this);
  }

  /** Its hardware has no PASIDs. */
  override setDevPasid(_device: Device, _pasid: number, _old: Domain | undefined): number {
    return -Errno.EOPNOTSUPP;
  }

  /** Every leaf says so from the beginning, and no DMA here goes past a cache. */
  enforceCacheCoherency(): boolean {
    return true;
  }
}

export class PagingBlockedDomain extends BaseDomain<typeof DomainType.BLOCKED> {
  readonly #enter: Enter;

  constructor(enter: Enter) {
    super(DomainType.BLOCKED);
    this.#enter = enter;
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    return this.#enter(device, this);
  }

  override setDevPasid(_device: Device, _pasid: number, _old: Domain | undefined): number {
    return -Errno.EOPNOTSUPP;
  }
}
