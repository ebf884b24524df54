// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../base/errno.ts';
import { explainFrame } from '../../generic_pt/explain.ts';
import { amdv1 } from '../../generic_pt/fmt/amdv1.ts';
import { Table } from '../../generic_pt/table.ts';
import type { IommuCore } from '../../iommu/core.ts';
import { isBlocked } from '../../iommu/base_domain.ts';
import { type Device, IommuDevice, NO_PASID } from '../../iommu/device.ts';
import { type Domain, isFaultCapable, Prot } from '../../iommu/domain.ts';
import { DomainFlags, type DomainRequest, IommuCap, type IommuOps } from '../../iommu/ops.ts';
import { type ResvRegion, ResvType } from '../../iommu/reserved.ts';
import { FRAME_SHIFT } from '../../memory/frame.ts';
import type { Mm } from '../../memory/mm.ts';
import { Ram } from '../../memory/ram.ts';
import { translateInDomain } from '../../pci/domain_translation.ts';
import {
  type DmaAccess,
  type ExplainedWay,
  type InvalidationNotice,
  type TranslatedRun,
  type TranslationFault,
  type Translator,
} from '../../pci/translator.ts';
import type { PciFunction } from '../../pci/function.ts';
import { PagingAts } from './paging_ats.ts';
import {
  PagingBlockedDomain,
  type PagingHardware,
  PagingSvaDomain,
  PagingTableDomain,
} from './paging_domain.ts';

/** Levels 0 to 3: 48 bits of address. */
const TOP_LEVEL = 3;

/** PASIDs have 20 bits. */
const MAX_PASIDS = 2 ** 20;

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
 * without nesting. It has PASIDs, ATS and page requests for functions that have them. For devices that do real DMA, until the models of real hardware are there.
 */
export class PagingIommu implements Translator, PagingHardware {
  readonly core: IommuCore;
  readonly ram: Ram;
  readonly ops: IommuOps;
  readonly iommu: IommuDevice;
  readonly ats: PagingAts;
  /** Its device table: what each device's requests go through. No entry blocks. */
  readonly #table = new Map<Device, Domain>();
  /** The same for requests with a PASID. */
  readonly #pasids = new Map<Device, Map<number, Domain>>();
  /** The devices behind it, with the key of their group. */
  readonly #devices = new Map<Device, unknown>();

  constructor(core: IommuCore, options: PagingIommuOptions) {
    this.core = core;
    this.ram = options.ram ?? new Ram({ faults: core.sim.faults });
    this.ops = this.#makeOps(options.name);
    this.ats = new PagingAts(core, (device, pasid) => this.#domainAt(device, pasid));
    this.iommu = new IommuDevice(options.name, this.ops, { maxPasids: MAX_PASIDS });
  }

  /** A device appears behind it; devices with the same `group` share one. 0, or -ENOMEM. */
  addDevice(device: Device, group?: unknown): number {
    this.#devices.set(device, group);
    const rc = this.core.probeDevice(device, this.iommu);
    if (rc !== 0) this.#devices.delete(device);
    return rc;
  }

  /** The same for a function, whose PASIDs, ATS and PRI it uses. */
  addFunction(fn: PciFunction, group?: unknown): number {
    const rc = this.addDevice(fn.device, group);
    if (rc === 0) this.ats.add(fn);
    return rc;
  }

  /** It goes away; nothing is attached to it any more. */
  removeDevice(device: Device): void {
    this.core.releaseDevice(device);
    this.ats.remove(device);
    this.#devices.delete(device);
    this.#table.delete(device);
    this.#pasids.delete(device);
  }

  set onInvalidation(told: ((notice: InvalidationNotice) => void) | undefined) {
    this.ats.onInvalidation = told;
  }

  explain(device: Device, pasid: number, iova: bigint): ExplainedWay {
    const domain = this.#domainAt(device, pasid);
    const lines =
      domain instanceof PagingTableDomain || domain instanceof PagingSvaDomain
        ? explainFrame(domain.table, Number(iova >> BigInt(FRAME_SHIFT)))
        : ['refused: nothing is attached, so the device is blocked'];
    return { lines, address: iova };
  }

  translate(
    device: Device,
    pasid: number,
    iova: bigint,
    access: DmaAccess,
  ): TranslatedRun | TranslationFault {
    return translateInDomain(this.#domainAt(device, pasid), iova, access);
  }

  #makeOps(name: string): IommuOps {
    const blocked = new PagingBlockedDomain(this);
    return {
      name,
      blockedDomain: blocked,
      releaseDomain: blocked,
      probeDevice: (device) => (this.#devices.has(device) ? 0 : -Errno.ENODEV),
      deviceGroup: (device) => this.#devices.get(device),
      capable: (_device, cap) => CAPS.has(cap),
      getResvRegions: () => [MSI_WINDOW],
      domainAllocPagingFlags: (_device, request) => this.#allocPaging(request),
      domainAllocSva: (_device, mm) => this.#allocSva(mm),
      canFault: (device) => this.ats.canFault(device),
      enableFaults: (device) => this.ats.addFaultUser(device),
      disableFaults: (device) => this.ats.removeFaultUser(device),
      pageResponse: (device, response) => this.ats.respond(device, response),
    };
  }

  #allocPaging({ flags, userData }: DomainRequest): PagingTableDomain | number {
    const unknown = flags & ~(DomainFlags.DIRTY_TRACKING | DomainFlags.PASID);
    if (unknown !== 0 || userData) return -Errno.EOPNOTSUPP;
    if (this.core.allocFails()) return -Errno.ENOMEM;
    const table = Table.create(amdv1, this.ram, { topLevel: TOP_LEVEL, forceCoherent: true });
    if (typeof table === 'number') return table;
    const dirtyTracking = (flags & DomainFlags.DIRTY_TRACKING) !== 0;
    return new PagingTableDomain(table, { dirtyTracking, hardware: this });
  }

  /** -EOPNOTSUPP for a process whose tables are out of reach. */
  #allocSva(mm: Mm): PagingSvaDomain | number {
    const { tables } = mm;
    const isWithinReach = tables && this.ram.has(Number(tables.root >> BigInt(FRAME_SHIFT)));
    if (!tables || !isWithinReach) return -Errno.EOPNOTSUPP;
    if (this.core.allocFails()) return -Errno.ENOMEM;
    return new PagingSvaDomain(mm, tables, { ram: this.ram, hardware: this });
  }

  /** For its domains: faults are on before the switch, and what the device keeps of the old is gone after it. */
  enter(device: Device, pasid: number, domain: Domain): number {
    if (!this.#devices.has(device)) return -Errno.ENODEV;
    const before = this.#domainAt(device, pasid);
    const rc = this.ats.enableFaults(device, domain);
    if (rc !== 0) return rc;
    this.#set(device, pasid, domain);
    if (before) this.ats.forget(device, pasid);
    // C4: what the device asked for before the change is with its handler, or answered, and from the change on it comes to nobody.
    if (before && isFaultCapable(before)) this.ats.drain(device);
    this.ats.disableFaults(device, before);
    return 0;
  }

  flush(domain: Domain, first: bigint, last: bigint): void {
    this.ats.flush(domain, first, last, (device) => [
      NO_PASID,
      ...(this.#pasids.get(device)?.keys() ?? []),
    ]);
  }

  #domainAt(device: Device, pasid: number): Domain | undefined {
    return pasid === NO_PASID ? this.#table.get(device) : this.#pasids.get(device)?.get(pasid);
  }

  #set(device: Device, pasid: number, domain: Domain): void {
    if (pasid === NO_PASID) {
      this.#table.set(device, domain);
      return;
    }
    const all = this.#pasids.get(device) ?? new Map<number, Domain>();
    this.#pasids.set(device, all);
    if (isBlocked(domain)) all.delete(pasid);
    else all.set(pasid, domain);
  }
}
