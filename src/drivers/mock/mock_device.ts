// SPDX-License-Identifier: Apache-2.0
import {
  IOMMU_TEST_DEV_CACHE_DEFAULT,
  MOCK_DEV_CACHE_NUM,
  MOCK_FLAGS_DEVICE_NO_DIRTY,
  MOCK_FLAGS_DEVICE_PASID,
  MOCK_PASID_WIDTH,
} from '../../abi/iommufd_test.ts';
import { Device, type DeviceOptions } from '../../iommu/device.ts';
import type { Domain } from '../../iommu/domain.ts';
import type { IopfQueue } from '../../iommu/io_pgfault.ts';
import type { MockViommu } from './mock_viommu.ts';

export interface MockDeviceOptions extends Omit<DeviceOptions, 'pasidBits'> {
  /** Devices made with the same value share a group; absent: a group of its own, as all have on Linux. */
  readonly group?: unknown;
}

/** A device of the test driver. It does no DMA of its own: tests ask what it would see. Counterpart of `struct mock_dev`. */
export class MockDevice extends Device {
  /** The n of its name. */
  readonly id: number;
  /** MOCK_FLAGS_DEVICE_*. */
  readonly flags: number;
  readonly groupKey: unknown;
  /** A stand-in for the device's own caches, which tests invalidate. */
  readonly cache = new Uint32Array(MOCK_DEV_CACHE_NUM).fill(IOMMU_TEST_DEV_CACHE_DEFAULT);
  /** What its last attach without a PASID left it in. */
  domain: Domain | undefined = undefined;
  /** See `setMockPasid` in mock_attach.ts. */
  pasidFakeError = false;
  /** Where its page requests go; the IOMMU that makes it tells. */
  pageRequests: IopfQueue | undefined = undefined;
  /** Attachments of fault-capable domains: faults are on while there are any. */
  faultUsers = 0;
  /** The virtual IOMMU of the nested domain it is in, and what the guest called it when that was attached; 0: nothing. */
  viommu: MockViommu | undefined = undefined;
  virtualId = 0n;

  constructor(id: number, flags: number, options: MockDeviceOptions = {}) {
    // Without the flag the device still says 0 bits: one PASID, which is "none".
    const pasidBits = (flags & MOCK_FLAGS_DEVICE_PASID) !== 0 ? MOCK_PASID_WIDTH : 0;
    super(`iommufd_mock${id}`, { ...options, pasidBits });
    this.id = id;
    this.flags = flags;
    this.groupKey = options.group;
  }

  get hasDirtyTracking(): boolean {
    return (this.flags & MOCK_FLAGS_DEVICE_NO_DIRTY) === 0;
  }
}
