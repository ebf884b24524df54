// SPDX-License-Identifier: Apache-2.0
import type { FaultRegistration } from './fault_registration.ts';
import type { IommuGroup } from './group.ts';
import type { FaultParam } from './io_pgfault.ts';
import type { IommuOps } from './ops.ts';
import type { ResvRegion } from './reserved.ts';

/** DMA without a PASID. */
export const NO_PASID = 0;

/** One piece of IOMMU hardware with its driver. */
export class IommuDevice {
  readonly name: string;
  readonly ops: IommuOps;
  /** PASIDs it can tell apart; 0 where it has none. */
  readonly maxPasids: number;

  constructor(name: string, ops: IommuOps, options: { readonly maxPasids?: number } = {}) {
    this.name = name;
    this.ops = ops;
    this.maxPasids = options.maxPasids ?? 0;
  }
}

export interface DeviceOptions {
  /** Bits of a PASID that the device can send: 0 is PASID 0 alone, absent that it sends none. */
  readonly pasidBits?: number;
  /** Requests with a PASID can ask to execute, or as a privileged entity. Default false. */
  readonly pasidExecute?: boolean;
  readonly pasidPrivileged?: boolean;
  /** Interrupts of this device cannot be forged by another's DMA (B6). Default true. */
  readonly isolatedMsi?: boolean;
  /** Reserved regions that the platform states, beside those that the driver adds. */
  readonly resvRegions?: readonly ResvRegion[];
  /** It is a virtual function, and asks for pages through the PRI of its physical one, which it shares (C3). */
  readonly sharesPageRequests?: boolean;
}

/** A device that does DMA. Drivers derive their own. It has a group from its probe to its release (core.ts). */
export class Device {
  readonly name: string;
  readonly pasidBits: number | undefined;
  readonly pasidExecute: boolean;
  readonly pasidPrivileged: boolean;
  readonly isolatedMsi: boolean;
  readonly resvRegions: readonly ResvRegion[];
  /** Undefined where no IOMMU translates for it. */
  iommu: IommuDevice | undefined = undefined;
  group: IommuGroup | undefined = undefined;
  /** PASIDs that device and IOMMU can use together: valid ones are below it. */
  maxPasids = 0;
  /** It has a DIRECT region: never to be blocked, so never a user's. */
  requireDirect = false;
  readonly sharesPageRequests: boolean;
  /** Present while its page faults are on (io_pgfault.ts). */
  faultParam: FaultParam | undefined = undefined;
  /** Handlers of its faults beside those of domains, by id (fault_registration.ts). */
  readonly faultHandlers = new Map<number, FaultRegistration>();
  /** It was answered FAILURE, and shares its PRI: its page requests are answered INVALID until `resetPageRequests` (C3). */
  pageRequestsPaused = false;
  /** They were on before, so that turning them on takes no memory any more. */
  hadFaults = false;

  constructor(name: string, options: DeviceOptions = {}) {
    this.name = name;
    this.pasidBits = options.pasidBits;
    this.pasidExecute = options.pasidExecute ?? false;
    this.pasidPrivileged = options.pasidPrivileged ?? false;
    this.isolatedMsi = options.isolatedMsi ?? true;
    this.resvRegions = options.resvRegions ?? [];
    this.sharesPageRequests = options.sharesPageRequests ?? false;
  }

  /** What a reset of its own page request interface is, for a virtual function that has none (C3): its requests are delivered again. */
  resetPageRequests(): void {
    this.pageRequestsPaused = false;
  }
}
