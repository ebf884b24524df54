// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { MOCK_FLAGS_DEVICE_PASID } from '../../abi/iommufd_test.ts';
import { allocUserDomain } from '../../iommu/alloc.ts';
import { attach } from '../../iommu/attach.ts';
import { IommuCore } from '../../iommu/core.ts';
import { NO_PASID } from '../../iommu/device.ts';
import { isPagingDomain, Prot } from '../../iommu/domain.ts';
import { AttachHandle } from '../../iommu/handle.ts';
import { claimDmaOwner } from '../../iommu/ownership.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { TranslationCause } from '../../pci/translator.ts';
import { MockIommu } from './mock_iommu.ts';

const IOVA = 1n << 24n;

function setUp() {
  const mock = new MockIommu(new IommuCore());
  const device = mock.createDevice(MOCK_FLAGS_DEVICE_PASID);
  if (typeof device === 'number') throw new Error('no device');
  claimDmaOwner(device, {});
  const domain = (frame: number) => {
    const made = allocUserDomain(device, { flags: DomainFlags.PASID });
    if (typeof made === 'number' || !isPagingDomain(made)) throw new Error('no domain');
    made.map(IOVA, frame, 1, Prot.READ);
    return made;
  };
  return { mock, device, domain };
}

describe('what a DMA of a mock device would find', () => {
  it('is the domain without PASID, and that of each PASID', () => {
    const { mock, device, domain } = setUp();
    const at = (pasid: number) => mock.translate(device, pasid, IOVA + 5n, 'read');
    expect(at(NO_PASID)).toMatchObject({ cause: TranslationCause.BLOCKED });
    attach(device, NO_PASID, domain(0x100), new AttachHandle());
    attach(device, 9, domain(0x200), new AttachHandle());
    expect(at(NO_PASID)).toMatchObject({ frame: 0x100, offset: 5 });
    expect(at(9)).toMatchObject({ frame: 0x200, offset: 5 });
    expect(at(8)).toMatchObject({ cause: TranslationCause.BLOCKED });
  });

  it('ends where the aperture does, and needs permissions', () => {
    const { mock, device, domain } = setUp();
    attach(device, NO_PASID, domain(0x100), new AttachHandle());
    expect(mock.translate(device, NO_PASID, IOVA - 1n, 'read')).toMatchObject({
      cause: TranslationCause.BEYOND_APERTURE,
    });
    expect(mock.translate(device, NO_PASID, IOVA, 'write')).toMatchObject({
      cause: TranslationCause.NOT_WRITABLE,
    });
  });
});
