// SPDX-License-Identifier: Apache-2.0
import {
  iommu_hwpt_invalidate_selftest,
  iommu_hwpt_selftest,
  IOMMU_TEST_INVALIDATE_FLAG_ALL,
  MOCK_NESTED_DOMAIN_IOTLB_ID_MAX,
  MOCK_NESTED_DOMAIN_IOTLB_NUM,
} from '../../abi/iommufd_test.ts';
import {
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
} from '../../abi/iommufd_test_types.ts';
import { Errno } from '../../base/errno.ts';
import { BaseDomain } from '../../iommu/base_domain.ts';
import type { Device } from '../../iommu/device.ts';
import { type Domain, DomainType, type NestedDomain } from '../../iommu/domain.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import {
  copyStructFromUser,
  fillStructFromUser,
  type Invalidation,
  type UserData,
  type UserDataArray,
} from '../../iommu/user_data.ts';
import { attachMock, setMockPasid } from './mock_attach.ts';
import type { MockViommu } from './mock_viommu.ts';

const ENTRY = iommu_hwpt_invalidate_selftest;
const ENTRY_LEAST = ENTRY.offsetofend('iotlb_id');
/** The entry that is being carried out. */
const entryBytes = new Uint8Array(ENTRY.size);
const entryFields = ENTRY.on(new DataView(entryBytes.buffer));

/** A guest's translation of the test driver: nothing but a cache to invalidate. Counterpart of `struct mock_iommu_domain_nested`. */
export class MockNestedDomain extends BaseDomain<typeof DomainType.NESTED> implements NestedDomain {
  /** What the cache holds; an invalidated entry is 0. */
  readonly iotlb: Uint32Array;
  /** The virtual IOMMU that it was made through. */
  readonly viommu: MockViommu | undefined;

  private constructor(iotlb: number, viommu: MockViommu | undefined) {
    super(DomainType.NESTED);
    this.iotlb = new Uint32Array(MOCK_NESTED_DOMAIN_IOTLB_NUM).fill(iotlb);
    this.viommu = viommu;
  }

  /** From the client's `iommu_hwpt_selftest`; or -EOPNOTSUPP (flags, another type of data), -EINVAL, -EFAULT, -ENOMEM. */
  static create(
    flags: number,
    userData: UserData,
    options: { readonly allocFails: () => boolean; readonly viommu?: MockViommu },
  ): MockNestedDomain | number {
    if ((flags & ~DomainFlags.PASID) !== 0) return -Errno.EOPNOTSUPP;
    if (userData.type !== IOMMU_HWPT_DATA_SELFTEST) return -Errno.EOPNOTSUPP;
    const { size } = iommu_hwpt_selftest;
    const least = iommu_hwpt_selftest.offsetofend('iotlb');
    const bytes = copyStructFromUser(userData, IOMMU_HWPT_DATA_SELFTEST, size, least);
    if (typeof bytes === 'number') return bytes;
    if (options.allocFails()) return -Errno.ENOMEM;
    const { iotlb } = iommu_hwpt_selftest.on(new DataView(bytes.buffer));
    return new MockNestedDomain(iotlb, options.viommu);
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    return attachMock(this, device);
  }

  override setDevPasid(device: Device, pasid: number, old: Domain | undefined): number {
    return setMockPasid(this, device, pasid, old);
  }

  /** One entry after another: what is before a bad one is done. */
  invalidate(array: UserDataArray): Invalidation {
    if (array.type !== IOMMU_HWPT_INVALIDATE_DATA_SELFTEST)
      return { result: -Errno.EINVAL, handled: 0 };
    for (let index = 0; index < array.entryCount; index++) {
      const result = this.invalidateOne(array.entry(index));
      if (result !== 0) return { result, handled: index };
    }
    return { result: 0, handled: array.entryCount };
  }

  private invalidateOne(entry: UserData): number {
    const type = IOMMU_HWPT_INVALIDATE_DATA_SELFTEST;
    const error = fillStructFromUser(entry, type, entryBytes, ENTRY_LEAST);
    if (error !== 0) return error;
    const { flags, iotlb_id: id } = entryFields;
    if ((flags & ~IOMMU_TEST_INVALIDATE_FLAG_ALL) !== 0) return -Errno.EOPNOTSUPP;
    if (id > MOCK_NESTED_DOMAIN_IOTLB_ID_MAX) return -Errno.EINVAL; // even where all are meant
    if (flags & IOMMU_TEST_INVALIDATE_FLAG_ALL) this.iotlb.fill(0);
    else this.iotlb[id] = 0;
    return 0;
  }
}
