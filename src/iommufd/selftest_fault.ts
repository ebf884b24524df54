// SPDX-License-Identifier: Apache-2.0
/** Page requests of the test driver's devices (selftest.c). */
import { ErrnoError } from '../base/errno.ts';
import { NO_PASID } from '../iommu/device.ts';
import { PageRequestFlags } from '../iommu/fault.ts';
import { reportDeviceFault } from '../iommu/io_pgfault.ts';
import { IommufdDevice } from './device.ts';
import type { TestCall } from './selftest.ts';

/** IOMMU_TEST_OP_TRIGGER_IOPF: a group of one request. What becomes of it does not show in the result. */
export function triggerIopf({ call, arg }: TestCall<'trigger_iopf'>): void {
  const { addr, dev_id: id, grpid, pasid, perm } = arg;
  call.context.withObject(id, IommufdDevice, 'a device', ({ device }) => {
    if (!call.context.iommufd.testHardware?.owns(device))
      throw new ErrnoError('EINVAL', `${device.name} is no device of the test driver`);
    const { LAST_PAGE, PASID_VALID } = PageRequestFlags;
    const flags = pasid === NO_PASID ? LAST_PAGE : LAST_PAGE | PASID_VALID;
    reportDeviceFault(device, { flags, pasid, grpid, perm, addr });
  });
}
