// SPDX-License-Identifier: Apache-2.0
import { MOCK_FLAGS_DEVICE_NO_DIRTY, MOCK_FLAGS_DEVICE_PASID } from '../abi/iommufd_test.ts';
import type { MockIommu } from '../drivers/mock/mock_iommu.ts';
import type { Device } from '../iommu/device.ts';
import type { NestedDomain, PagingDomain } from '../iommu/domain.ts';
import type { TestHardware, TestNested, TestPaging } from '../iommufd/test_hardware.ts';
import type { DeviceDescription, MockIommuDescription } from './description.ts';
import { resvRegionsOf } from './reserved.ts';

/** A described device, and the device that has its shape now. */
interface Shape {
  readonly mock: MockIommu;
  readonly description: DeviceDescription;
  device: Device | undefined;
}

const flagsOf = ({ pasid = false, dirtyTracking = true }: DeviceDescription): number =>
  (pasid ? MOCK_FLAGS_DEVICE_PASID : 0) | (dirtyTracking ? 0 : MOCK_FLAGS_DEVICE_NO_DIRTY);

/**
 * The test driver's hardware on a described machine: each device that it makes takes the first described shape that no other
 * device has, and one without a shape is made on the first IOMMU.
 */
export class MockShapes implements TestHardware {
  private readonly shapes: readonly Shape[];
  private readonly first: MockIommu;

  constructor(
    iommus: readonly { readonly mock: MockIommu; readonly description: MockIommuDescription }[],
  ) {
    const [first] = iommus;
    if (!first) throw new RangeError('a machine without IOMMUs has no test hardware');
    this.first = first.mock;
    this.shapes = iommus.flatMap(({ mock, description }) =>
      description.devices.map((device) => ({ mock, description: device, device: undefined })),
    );
  }

  createDevice(flags: number): Device | number {
    const shape = this.shapes.find(({ device }) => device === undefined);
    if (!shape) return this.first.createDevice(flags);
    const { mock, description } = shape;
    const { group } = description;
    const resvRegions = resvRegionsOf(description);
    const made = mock.createDevice(flags | flagsOf(description), { group, resvRegions });
    if (typeof made !== 'number') shape.device = made;
    return made;
  }

  destroyDevice(device: Device): void {
    const shape = this.shapes.find((candidate) => candidate.device === device);
    (shape?.mock ?? this.first).destroyDevice(device);
    if (shape) shape.device = undefined;
  }

  paging(domain: PagingDomain): TestPaging | undefined {
    return this.first.paging(domain);
  }

  nested(domain: NestedDomain): TestNested | undefined {
    return this.first.nested(domain);
  }

  cacheEntry(device: Device, id: number): number | undefined {
    return this.first.cacheEntry(device, id);
  }

  owns(device: Device): boolean {
    return this.first.owns(device);
  }

  reportEvent(device: Device): number {
    return this.first.reportEvent(device);
  }
}
