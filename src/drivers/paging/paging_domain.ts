// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { iovaOfFrame } from '../../generic_pt/iova.ts';
import type { Table } from '../../generic_pt/table.ts';
import { BaseDomain } from '../../iommu/base_domain.ts';
import { type Device, NO_PASID } from '../../iommu/device.ts';
import { type Domain, DomainType, type IotlbGather } from '../../iommu/domain.ts';
import { PtDomain } from '../../iommu/pt_domain.ts';
import { SvaTableDomain } from '../../iommu/sva_domain.ts';
import type { Mm } from '../../memory/mm.ts';
import type { MmTables } from '../../memory/mm_tables.ts';
import type { Ram } from '../../memory/ram.ts';

/** The hardware, as its domains need it. */
export interface PagingHardware {
  /** Writes a domain into the device's table at a PASID: 0, or -ENODEV for a device that is not behind it, or what faults refuse. */
  enter(device: Device, pasid: number, domain: Domain): number;
  /** Devices that keep translations of the domain forget those of `first` to `last`, in bytes. */
  flush(domain: Domain, first: bigint, last: bigint): void;
}

/** A page table of a `PagingIommu`. */
export class PagingTableDomain extends PtDomain {
  readonly #hardware: PagingHardware;

  constructor(
    table: Table,
    options: { readonly dirtyTracking: boolean; readonly hardware: PagingHardware },
  ) {
    super(table, { dirtyTracking: options.dirtyTracking });
    this.#hardware = options.hardware;
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    return this.#hardware.enter(device, NO_PASID, this);
  }

  override setDevPasid(device: Device, pasid: number, _old: Domain | undefined): number {
    return this.#hardware.enter(device, pasid, this);
  }

  /** Every leaf says so from the beginning, and no DMA here goes past a cache. */
  enforceCacheCoherency(): boolean {
    return true;
  }

  protected override flush({ start, last }: IotlbGather): void {
    if (last >= start) this.#hardware.flush(this, iovaOfFrame(start), iovaOfFrame(last + 1) - 1n);
  }

  /** What devices keep was given out when writes were recorded, or not. */
  protected override changeTracking(): number {
    this.#hardware.flush(this, 0n, 2n ** 64n - 1n);
    return 0;
  }
}

export class PagingBlockedDomain extends BaseDomain<typeof DomainType.BLOCKED> {
  readonly #hardware: PagingHardware;

  constructor(hardware: PagingHardware) {
    super(DomainType.BLOCKED);
    this.#hardware = hardware;
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    return this.#hardware.enter(device, NO_PASID, this);
  }

  override setDevPasid(device: Device, pasid: number, _old: Domain | undefined): number {
    return this.#hardware.enter(device, pasid, this);
  }
}

/** The address space of a process, walked in its own tables. */
export class PagingSvaDomain extends SvaTableDomain {
  readonly #hardware: PagingHardware;

  constructor(mm: Mm, tables: MmTables, options: { ram: Ram; hardware: PagingHardware }) {
    super(mm, tables, options.ram);
    this.#hardware = options.hardware;
  }

  protected override enter(device: Device, pasid: number): number {
    return pasid === NO_PASID ? -Errno.EINVAL : this.#hardware.enter(device, pasid, this);
  }

  protected override flush(start: bigint, last: bigint): void {
    this.#hardware.flush(this, start, last);
  }
}
