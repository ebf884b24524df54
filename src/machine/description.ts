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

/** IOMMU hardware with its driver: so far the test driver's mock. */
export interface IommuDescription {
  readonly name: string;
  readonly driver: 'mock';
  readonly devices: readonly DeviceDescription[];
}

/** A machine as data. The test driver's devices take the shapes of `devices` in order; further ones are plain. */
export interface MachineDescription {
  readonly name: string;
  /** One line for people. */
  readonly summary: string;
  readonly iommus: readonly IommuDescription[];
}
