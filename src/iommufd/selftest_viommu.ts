// SPDX-License-Identifier: Apache-2.0
/** Events of the test driver's devices for a guest (selftest.c). */
import { ErrnoError } from '../base/errno.ts';
import { check } from './check.ts';
import { IommufdDevice } from './device.ts';
import type { TestCall } from './selftest.ts';

/** IOMMU_TEST_OP_TRIGGER_VEVENT: ENOENT for a device that is no guest's, EOPNOTSUPP where nobody listens. */
export function triggerVevent({ call, arg }: TestCall<'trigger_vevent'>): void {
  const { iommufd } = call.context;
  call.context.withObject(arg.dev_id, IommufdDevice, 'a device', ({ device }) => {
    if (!iommufd.testHardware?.owns(device))
      throw new ErrnoError('EINVAL', `${device.name} is no device of the test driver`);
    check(iommufd.testHardware.reportEvent(device), `no event of ${device.name} can be reported`);
  });
}
