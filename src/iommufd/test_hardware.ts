// SPDX-License-Identifier: Apache-2.0
import type { Device } from '../iommu/device.ts';

/** The IOMMU of the test driver, which IOMMU_TEST_CMD makes devices on. `drivers/mock` implements it. */
export interface TestHardware {
  /** A new device in a group of its own; -EINVAL for unknown MOCK_FLAGS_DEVICE_*, -ENOMEM. */
  createDevice(flags: number): Device | number;
  destroyDevice(device: Device): void;
  /** An entry of the device's cache; undefined where there is none of that id, or the device is none of ours. */
  cacheEntry(device: Device, id: number): number | undefined;
}
