// SPDX-License-Identifier: Apache-2.0
import { ResvType } from '../iommu/reserved.ts';

/** Kinds of reserved regions by the names that sysfs uses, and `sw-msi` apart from `msi`. */
export const reservedKinds = {
  direct: ResvType.DIRECT,
  'direct-relaxable': ResvType.DIRECT_RELAXABLE,
  reserved: ResvType.RESERVED,
  msi: ResvType.MSI,
  'sw-msi': ResvType.SW_MSI,
} as const;

/** IOVA that a device does not leave free; bytes, `last` inclusive. */
export interface ReservedDescription {
  readonly start: bigint;
  readonly last: bigint;
  readonly kind: keyof typeof reservedKinds;
}

export interface DeviceDescription {
  /** For people, and for error messages; unique in the machine. */
  readonly name: string;
  /** Devices of one IOMMU that name the same group share it; absent: a group of its own. */
  readonly group?: string;
  /** It can send PASIDs (20 bits, as the test driver's devices). */
  readonly pasid?: boolean;
  /** Its IOMMU tracks what it writes. Default true. */
  readonly dirtyTracking?: boolean;
  readonly reserved?: readonly ReservedDescription[];
}

/** Device models that do DMA, by the names that a machine file uses. */
export const deviceModels = ['edu', 'iommu_test'] as const;
export type DeviceModel = (typeof deviceModels)[number];

/** A PCI function that is there from the beginning. */
export interface PciDeviceDescription {
  /** For people, and for error messages; unique in the machine. */
  readonly name: string;
  readonly model: DeviceModel;
  /** `0000:00:02.0`; unique in the machine. */
  readonly address: string;
  /** Functions of one IOMMU that name the same group share it; absent: what the topology says (src/pci/topology.ts). */
  readonly group?: string;
  /** It has Access Control Services, which keep it apart from the other functions of its device. Default false. */
  readonly acs?: boolean;
  /** iommu_test: it has ATS. Default true. */
  readonly ats?: boolean;
  /** iommu_test: page requests outstanding at most, 0 for no PRI. Default 32. */
  readonly pageRequests?: number;
  /** iommu_test: bits of a PASID, 0 for none, 20 at most. Default 20. */
  readonly pasidBits?: number;
  /** iommu_test: virtual functions that it starts with, at the addresses that follow; 0 to 7. Default 0. */
  readonly vfs?: number;
  /** Bits of its DMA addresses; absent: what the model has (edu: 28). */
  readonly dmaBits?: number;
  /** Beside what its IOMMU reserves: with `paging`, the window of x86's interrupt messages. */
  readonly reserved?: readonly ReservedDescription[];
}

/** The test driver's IOMMU: programs make its devices, which take the shapes of `devices`. */
export interface MockIommuDescription {
  readonly name: string;
  readonly driver: 'mock';
  readonly devices: readonly DeviceDescription[];
}

/** A root port, for the sake of groups: functions on its bus share one, unless it has ACS. */
export interface RootPortDescription {
  /** `0000:00:1c.0`. */
  readonly address: string;
  /** The bus below it. */
  readonly bus: number;
  /** Default true. */
  readonly acs?: boolean;
}

/** An IOMMU that only maps, with PCI functions behind it. */
export interface PagingIommuDescription {
  readonly name: string;
  readonly driver: 'paging';
  readonly rootPorts?: readonly RootPortDescription[];
  readonly devices: readonly PciDeviceDescription[];
}

/** How a VT-d unit finds tables: context entries alone, or PASID tables behind them. */
export const vtdModes = ['scalable', 'legacy'] as const;
export type VtdMode = (typeof vtdModes)[number];

/** An Intel VT-d unit, with PCI functions behind it. */
export interface VtdDescription {
  readonly name: string;
  readonly driver: 'intel-vtd';
  /** Default scalable. */
  readonly mode?: VtdMode;
  /** Scalable mode: page requests can have private data, as revisions of VT-d before 5 had it. Default false. */
  readonly privateData?: boolean;
  /** Its capability registers, as Linux prints them at boot; absent: those of the mode, which means nothing else. */
  readonly cap?: bigint;
  readonly ecap?: bigint;
  /** Single fields of the two, by the names of the specification: `{ NEST: 0, MGAW: 38 }`. */
  readonly capabilities?: Readonly<Record<string, number>>;
  /** Bits of physical addresses. Default 52. */
  readonly haw?: number;
  readonly rootPorts?: readonly RootPortDescription[];
  readonly devices: readonly PciDeviceDescription[];
}

/** An IOMMU that has PCI functions behind it. */
export type PciIommuDescription = PagingIommuDescription | VtdDescription;

/** IOMMU hardware with its driver. */
export type IommuDescription = MockIommuDescription | PciIommuDescription;

/** What becomes of page faults of virtual functions, which share the PRI of their physical one. */
export const vfPageRequestKinds = ['refuse', 'emulate'] as const;
export type VfPageRequests = (typeof vfPageRequestKinds)[number];

/** A machine as data. The test driver's devices take the shapes of the mock's `devices` in order; further ones are plain. */
export interface MachineDescription {
  readonly name: string;
  /** One line for people. */
  readonly summary: string;
  readonly iommus: readonly IommuDescription[];
  /** Page faults of virtual functions: refused as Linux does (unless told), or emulated (requirement C3). */
  readonly vfPageRequests?: VfPageRequests;
  /** How long a page request waits for its answer, in ms; 0, unless told: for ever. */
  readonly pageResponseTimeoutMs?: number;
}
