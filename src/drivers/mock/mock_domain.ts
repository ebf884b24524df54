// SPDX-License-Identifier: Apache-2.0
import {
  MOCK_APERTURE_LAST,
  MOCK_APERTURE_START,
  MOCK_HUGE_PAGE_SIZE,
  MOCK_IOMMUPT_HUGE,
} from '../../abi/iommufd_test.ts';
import { setDirty } from '../../generic_pt/dirty.ts';
import { amdv1Mock } from '../../generic_pt/fmt/amdv1.ts';
import { frameOfIova } from '../../generic_pt/iova.ts';
import { Table } from '../../generic_pt/table.ts';
import { BaseDomain } from '../../iommu/base_domain.ts';
import type { Device } from '../../iommu/device.ts';
import { type Domain, DomainType } from '../../iommu/domain.ts';
import { PtDomain } from '../../iommu/pt_domain.ts';
import { PAGE_SIZE } from '../../memory/mm.ts';
import type { Ram } from '../../memory/ram.ts';
import { attachMock, setMockPasid } from './mock_attach.ts';

/** Levels 0 to 2: 38 bits of address. */
const TOP_LEVEL = 2;

/** A page table of the test driver, in real frames, which no hardware walks. Counterpart of `struct mock_iommu_domain`. */
export class MockPagingDomain extends PtDomain {
  /**
   * `type` is MOCK_IOMMUPT_*: the default kind has all page sizes and a small aperture, the huge kind two page sizes and all
   * addresses. Or -ENOMEM.
   */
  static create(ram: Ram, type: number, dirtyTracking: boolean): MockPagingDomain | number {
    const isHuge = type === MOCK_IOMMUPT_HUGE;
    // The huge kind wants huge pages only, but a domain without the CPU's page size is refused by iommufd.
    const sizes = { pgsizeBitmap: BigInt(MOCK_HUGE_PAGE_SIZE | PAGE_SIZE) };
    const table = Table.create(amdv1Mock, ram, { topLevel: TOP_LEVEL, ...(isHuge ? sizes : {}) });
    if (typeof table === 'number') return table;
    const aperture = {
      apertureStart: BigInt(MOCK_APERTURE_START),
      apertureLast: BigInt(MOCK_APERTURE_LAST),
    };
    return new MockPagingDomain(table, { dirtyTracking, ...(isHuge ? {} : aperture) });
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    return attachMock(this, device);
  }

  override setDevPasid(device: Device, pasid: number, old: Domain | undefined): number {
    return setMockPasid(this, device, pasid, old);
  }

  /** Does what a device does when it writes to an address: 0, or -ENOENT, -ERANGE. For IOMMU_TEST_OP_DIRTY. */
  markDirty(iova: bigint): number {
    return setDirty(this.table, Math.floor(frameOfIova(iova)));
  }
}

/** The test driver's one blocked domain, which is the default domain of its groups too. */
export class MockBlockedDomain extends BaseDomain<typeof DomainType.BLOCKED> {
  constructor() {
    super(DomainType.BLOCKED);
  }

  override attachDev(device: Device, _old: Domain | undefined): number {
    return attachMock(this, device);
  }

  override setDevPasid(device: Device, pasid: number, old: Domain | undefined): number {
    return setMockPasid(this, device, pasid, old);
  }
}
