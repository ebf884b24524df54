// SPDX-License-Identifier: Apache-2.0
/** What iommufd's virtual IOMMU and a driver's part of it ask of each other (`struct iommufd_viommu_ops`). */
import type { Device } from './device.ts';
import type { NestedDomain } from './domain.ts';
import type { Invalidation, UserData, UserDataArray } from './user_data.ts';

/** Pages that the driver shares with the client, which maps them through the descriptor of /dev/iommu. */
export interface SharedPages {
  /** For the client's mmap, in bytes. */
  readonly offset: bigint;
  readonly length: number;
  /** Reads and writes bytes from `at` on. */
  read(at: number, into: Uint8Array): void;
  write(at: number, from: Uint8Array): void;
  /** Gives them back; no client has them mapped any more. */
  free(): void;
}

/** What a driver can ask of the virtual IOMMU that its part belongs to. */
export interface ViommuHost {
  /** The UAPI's enum iommu_viommu_type. */
  readonly kind: number;
  /** The device that the guest knows by an id. */
  deviceOf(virtualId: bigint): Device | undefined;
  /** What the guest calls a device; undefined where the guest does not have it. */
  virtualIdOf(device: Device): bigint | undefined;
  /** Tells the guest of an event; `type` is the UAPI's enum iommu_veventq_type. 0, -EOPNOTSUPP (no queue for it), -ENOMEM. */
  reportEvent(type: number, data: Uint8Array): number;
  /** Pages (of 4 KiB) to share with the client, all 0; or -ENOMEM. */
  sharePages(pages: number): SharedPages | number;
}

/** A queue of the guest's in memory that hardware reads itself; its pages are pinned. */
export interface HwQueueHost {
  /** Where it is, in the addresses of the nesting parent; in bytes. */
  readonly baseAddress: bigint;
  readonly length: bigint;
  /** Another queue needs this one, which can not go until `release`. */
  hold(): void;
  release(): void;
}

/** A driver's part of something that iommufd destroys. */
export interface DriverPart {
  destroy(): void;
}

/** A driver's part of a virtual IOMMU. What is absent is EOPNOTSUPP. */
export interface ViommuDriver {
  destroy?(): void;
  /** A guest's translation, on the nesting parent. `flags` as of `DomainRequest`. Or a negative errno. */
  allocDomainNested?(flags: number, userData: UserData): NestedDomain | number;
  /** As `NestedDomain.invalidate`, for all that the hardware caches for the guest. */
  invalidate?(array: UserDataArray): Invalidation;
  /** Told before a device becomes the guest's: what to undo at its end, or a negative errno. */
  vdeviceInit?(device: Device, virtualId: bigint): DriverPart | number;
  hasHwQueue?(type: number): boolean;
  /** `basePhys`: where the queue is in physical memory, contiguous. Or a negative errno. */
  hwQueueInit?(queue: HwQueueHost, index: number, basePhys: bigint): DriverPart | number;
}
