// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { amdv1 } from '../../generic_pt/fmt/amdv1.ts';
import { Table } from '../../generic_pt/table.ts';
import type { IommuCore } from '../../iommu/core.ts';
import { type Device, IommuDevice, NO_PASID } from '../../iommu/device.ts';
import { type Domain, Prot } from '../../iommu/domain.ts';
import { DomainFlags, type DomainRequest, IommuCap, type IommuOps } from '../../iommu/ops.ts';
import { type ResvRegion, ResvType } from '../../iommu/reserved.ts';
import { Ram } from '../../memory/ram.ts';
import { translateInDomain } from '../../pci/domain_translation.ts';
import {
  type DmaAccess,
  TranslationCause,
  type TranslatedRun,
  type TranslationFault,
  type Translator,
} from '../../pci/translator.ts';
import { PagingBlockedDomain, PagingTableDomain } from './paging_domain.ts';

/** Levels 0 to 3: 48 bits of address. */
const TOP_LEVEL = 3;

/** Where x86 sends its interrupt messages, which no table translates. Source: Linux drivers/iommu/amd/iommu.c, intel/iommu.c. */
const MSI_WINDOW: ResvRegion = {
  start: 0xfee0_0000n,
  last: 0xfeef_ffffn,
  prot: Prot.WRITE | Prot.NOEXEC | Prot.MMIO,
  type: ResvType.MSI,
};

const CAPS: ReadonlySet<IommuCap> = new Set([
  IommuCap.CACHE_COHERENCY,
  IommuCap.ENFORCE_CACHE_COHERENCY,
  IommuCap.DIRTY_TRACKING,
]);

export interface PagingIommuOptions {
  /** As sysfs names it. */
  readonly name: string;
  readonly ram?: Ram;
}

/**
 * An IOMMU that only maps: page tables of 4 KiB and 48 bits in the format of AMD's, walked for each DMA, without a cache and
 * without PASIDs, nesting or page faults. For devices that do real DMA, until the models of real hardware are there.
 */
export class PagingIommu implements Translator {
  readonly core: IommuCore;
  readonly ram: Ram;
  readonly ops: IommuOps;
  readonly iommu: IommuDevice;
  /** Its device table: what each device's requests go through. No entry blocks. */
  readonly #table = new Map<Device, Domain>();
  /** The devices behind it, with the key of their group. */
  readonly #devices = new Map<Device, unknown>();

  constructor(core: IommuCore, options: PagingIommuOptions) {
    this.core = core;
    this.ram = options.ram ?? new Ram({ faults: core.sim.faults });
    this.ops = this.#makeOps(options.name);
    this.iommu = new IommuDevice(options.name, this.ops);
  }

  /** A device appears behind it; devices with the same `group` share one. 0, or -ENOMEM. */
  addDevice(device: Device, group?: unknown): number {
    this.#devices.set(device, group);
    const rc = this.core.probeDevice(device, this.iommu);
    if (rc !== 0) this.#devices.delete(device);
    return rc;
  }

  /** It goes away; nothing is attached to it any more. */
  removeDevice(device: Device): void {
    this.core.releaseDevice(device);
    this.#devices.delete(device);
    this.#table.delete(device);
  }

  translate(
    device: Device,
    pasid: number,
    iova: bigint,
    access: DmaAccess,
  ): TranslatedRun | TranslationFault {
    if (pasid !== NO_PASID) return { cause: TranslationCause.BLOCKED, at: iova };
    return translateInDomain(this.#table.get(device), iova, access);
  }

  #makeOps(name: string): IommuOps {
    const enter = (device: Device, domain: Domain): number => this.#enter(device, domain);
    const blocked = new PagingBlockedDomain(enter);
    return {
      name,
      blockedDomain: blocked,
      releaseDomain: blocked,
      probeDevice: (device) => (this.#devices.has(device) ? 0 : -Errno.ENODEV),
      deviceGroup: (device) => this.#devices.get(device),
      capable: (_device, cap) => CAPS.has(cap),
      getResvRegions: () => [MSI_WINDOW],
      domainAllocPagingFlags: (_device, request) => this.#allocPaging(request, enter),
    };
  }

  #allocPaging(
    request: DomainRequest,
    enter: (device: Device, domain: Domain) => number,
  ): PagingTableDomain | number {
    const { flags, userData, faultHandler } = request;
    const unknown = flags & ~DomainFlags.DIRTY_TRACKING;
    if (unknown !== 0 || userData || faultHandler) return -Errno.EOPNOTSUPP;
    if (this.core.allocFails()) return -Errno.ENOMEM;
    const table = Table.create(amdv1, this.ram, { topLevel: TOP_LEVEL, forceCoherent: true });
    if (typeof table === 'number') return table;
    const dirtyTracking = (flags & DomainFlags.DIRTY_TRACKING) !== 0;
    return new PagingTableDomain(table, { dirtyTracking, enter });
  }

  #enter(device: Device, domain: Domain): number {
    if (!this.#devices.has(device)) return -Errno.ENODEV;
    this.#table.set(device, domain);
    return 0;
  }
}
