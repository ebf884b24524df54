// SPDX-License-Identifier: Apache-2.0
import type { Mm } from '../memory/mm.ts';
import type { Device } from './device.ts';
import type { Domain, NestedDomain, PagingDomain, SvaDomain } from './domain.ts';
import type { FaultHandler, PageResponse } from './fault.ts';
import type { ResvRegion } from './reserved.ts';
import type { UserData } from './user_data.ts';
import type { ViommuDriver, ViommuHost } from './viommu_ops.ts';

/** What core and iommufd ask of a driver about a device. The numbers are Linux's enum iommu_cap. */
export const IommuCap = {
  CACHE_COHERENCY: 0,
  NOEXEC: 1,
  PRE_BOOT_PROTECTION: 2,
  ENFORCE_CACHE_COHERENCY: 3,
  DEFERRED_FLUSH: 4,
  DIRTY_TRACKING: 5,
  PCI_ATS_SUPPORTED: 6,
} as const;
export type IommuCap = (typeof IommuCap)[keyof typeof IommuCap];

/** How a user wants its paging domain; the numbers are the UAPI's IOMMU_HWPT_ALLOC_* (FAULT_ID_VALID never reaches a driver). */
export const DomainFlags = { NEST_PARENT: 1, DIRTY_TRACKING: 2, PASID: 8 } as const;

/** A user's request for a domain, beyond what every driver can do (A1). */
export interface DomainRequest {
  /** Bits of {@link DomainFlags}. */
  readonly flags: number;
  /** The domain to nest on: then the result is a nested domain. */
  readonly parent?: Domain | undefined;
  readonly userData?: UserData | undefined;
  /** Present where the domain shall be fault-capable (A2); a driver may look, core keeps it. */
  readonly faultHandler?: FaultHandler | undefined;
}

/** What a driver tells of its hardware: `type` is the UAPI's enum iommu_hw_info_type, `data` its structure. */
export interface HwInfo {
  readonly type: number;
  readonly data: Uint8Array;
}

/**
 * What a driver implements. A result is a value, or a negative errno. A driver has one of the two paging forms and what else
 * it can (A1); an absent operation is one that its hardware has not.
 */
export interface IommuOps {
  readonly name: string;
  /** A driver that can do nothing but map. */
  domainAllocPaging?(device: Device): PagingDomain | number;
  /** Dirty tracking, nesting parents, PASID, a user's choices: EOPNOTSUPP for what it has not. */
  domainAllocPagingFlags?(device: Device, request: DomainRequest): PagingDomain | number;
  domainAllocNested?(
    device: Device,
    request: DomainRequest & { readonly parent: Domain },
  ): NestedDomain | number;
  domainAllocSva?(device: Device, mm: Mm): SvaDomain | number;
  domainAllocIdentity?(device: Device): Domain | number;

  /** Always there and always attachable; set once. */
  readonly blockedDomain?: Domain;
  readonly identityDomain?: Domain;
  /** Where set, the default domain of all groups. */
  readonly defaultDomain?: Domain;
  /** Attached to a device that leaves. */
  readonly releaseDomain?: Domain;

  /** Prepares a device that has appeared; 0 or a negative errno (ENODEV: not one of mine). */
  probeDevice?(device: Device): number;
  releaseDevice?(device: Device): void;
  /** Key of the group that the device belongs to: devices with the same key on one IOMMU share a group; undefined: its own. */
  deviceGroup?(device: Device): unknown;
  capable?(device: Device, cap: IommuCap): boolean;
  /** Whether the device can wait for a page fault (PRI or stall): A3. Absent: none can. */
  canFault?(device: Device): boolean;
  /** `type` is what was asked for, 0 for whatever there is; EOPNOTSUPP for a type that the driver has not. */
  hwInfo?(device: Device, type: number): HwInfo | number;
  getResvRegions?(device: Device): readonly ResvRegion[];
  /** The faults of a PASID without a domain go to the RID's nested domain. */
  readonly userPasidTable?: boolean;
  /**
   * One more user of a device's page requests, beside fault-capable domains: a handler registered on the device (fault_registration.ts). 0 or
   * a negative errno. Absent: there are none beside domains.
   */
  enableFaults?(device: Device): number;
  /** Takes back one `enableFaults`. */
  disableFaults?(device: Device): void;
  /** Answers a group of page requests; called once for each, with nothing to report back. Absent: no device can fault. */
  pageResponse?(device: Device, response: PageResponse): void;

  /** Whether it can make virtual IOMMUs of a type (the UAPI's enum iommu_viommu_type) for a device. */
  hasViommu?(device: Device, type: number): boolean;
  /** Makes the driver's part of a virtual IOMMU on a nesting parent; or a negative errno. */
  viommuInit?(
    viommu: ViommuHost,
    parent: PagingDomain,
    userData: UserData | undefined,
  ): ViommuDriver | number;
}
