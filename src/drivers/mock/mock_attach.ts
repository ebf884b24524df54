// SPDX-License-Identifier: Apache-2.0
/** What every domain of the test driver does when it is attached: nothing to hardware, and the book-keeping of a real driver. */
import { Errno } from '../../base/errno.ts';
import { IOMMU_TEST_PASID_RESERVED } from '../../abi/iommufd_test.ts';
import type { Device } from '../../iommu/device.ts';
import { type Domain, DomainType, isFaultCapable, isPagingDomain } from '../../iommu/domain.ts';
import { MockDevice } from './mock_device.ts';
import type { MockViommu } from './mock_viommu.ts';

/** A domain of this driver as seen here; the nested one may belong to a virtual IOMMU. */
type MockDomain = Domain & { readonly viommu?: MockViommu | undefined };

/** 0; -EINVAL (dirty tracking and a device without), -ENOENT (a virtual IOMMU that does not have the device), -ENOMEM. */
export function attachMock(domain: MockDomain, device: Device): number {
  if (!(device instanceof MockDevice)) return -Errno.ENODEV;
  if (isPagingDomain(domain) && domain.dirty && !device.hasDirtyTracking) return -Errno.EINVAL;
  const { viommu } = domain;
  const virtualId = viommu?.host.virtualIdOf(device);
  if (viommu && virtualId === undefined) return -Errno.ENOENT;
  // Before anything else changes, since it can fail (B3); Linux's own order leaves the virtual IOMMU behind.
  const rc = enableFaults(device, domain);
  if (rc !== 0) return rc;
  // The id is looked up when the virtual IOMMU changes, so it grows stale where the guest gives the device another.
  if (viommu !== device.viommu) {
    device.viommu = viommu;
    device.virtualId = virtualId ?? 0n;
  }
  disableFaults(device, device.domain);
  device.domain = domain;
  return 0;
}

/**
 * PASID 1024 is for tests of a failing replace: of the calls for it, the second fails with ENOMEM, unless it blocks. A third
 * works again, as the way back from a failed replace must.
 */
export function setMockPasid(
  domain: Domain,
  device: Device,
  pasid: number,
  old: Domain | undefined,
): number {
  if (!(device instanceof MockDevice)) return -Errno.ENODEV;
  if (pasid === IOMMU_TEST_PASID_RESERVED) {
    const fails = device.pasidFakeError && domain.type !== DomainType.BLOCKED;
    device.pasidFakeError = domain.type !== DomainType.BLOCKED && !device.pasidFakeError;
    if (fails) return -Errno.ENOMEM;
  }
  const rc = enableFaults(device, domain);
  if (rc !== 0) return rc;
  disableFaults(device, old);
  return 0;
}

/** C1, C5: faults are on while any fault-capable domain is attached, and on before the switch to one. 0 or a negative errno. */
const enableFaults = (device: MockDevice, domain: Domain): number =>
  isFaultCapable(domain) ? addFaultUser(device) : 0;

/** C4: there is no hardware queue to drain: a page request is with its handler as soon as the device sends it. */
function disableFaults(device: MockDevice, domain: Domain | undefined): void {
  if (domain && isFaultCapable(domain)) removeFaultUser(device);
}

/** The first turns a device's faults on. 0 or a negative errno. */
export function addFaultUser(device: MockDevice): number {
  if (device.faultUsers === 0) {
    const rc = device.pageRequests?.addDevice(device) ?? -Errno.ENODEV;
    if (rc !== 0) return rc;
  }
  device.faultUsers++;
  return 0;
}

/** The last turns them off. */
export function removeFaultUser(device: MockDevice): void {
  if (--device.faultUsers === 0) device.pageRequests?.removeDevice(device);
}
