// SPDX-License-Identifier: Apache-2.0
import type { Device } from '../iommu/device.ts';
import type { NestedDomain, PagingDomain } from '../iommu/domain.ts';

/** The IOMMU of the test driver, which IOMMU_TEST_CMD makes devices on. `drivers/mock` implements it. */
export interface TestHardware {
  /** A new device in a group of its own; -EINVAL for unknown MOCK_FLAGS_DEVICE_*, -ENOMEM. */
  createDevice(flags: number): Device | number;
  destroyDevice(device: Device): void;
  /** An entry of the device's cache; undefined where there is none of that id, or the device is none of ours. */
  cacheEntry(device: Device, id: number): number | undefined;
  /** What the test driver knows of a domain of its own; undefined for any other. */
  paging(domain: PagingDomain): TestPaging | undefined;
  /** The same for a nested one. */
  nested(domain: NestedDomain): TestNested | undefined;
  /** True for a device of this hardware, which can send page requests. */
  owns(device: Device): boolean;
  /**
   * A device has an event for the guest whose it is: 0, -ENOENT (it is no guest's, or has virtual id 0), -EOPNOTSUPP (no queue for
   * it), -ENOMEM, -EINVAL (no device of this hardware).
   */
  reportEvent(device: Device): number;
}

/** A nested domain of the test driver. */
export interface TestNested {
  /** What its cache holds, 0 where invalidated. */
  readonly iotlb: ArrayLike<number>;
}

/** A paging domain of the test driver. */
export interface TestPaging {
  /** Writes are being recorded. */
  readonly isTracking: boolean;
  /** What a device does when it writes to an address: 0, or -ENOENT, -ERANGE. */
  markDirty(iova: bigint): number;
}
