// SPDX-License-Identifier: Apache-2.0
/** The test driver's look into the cache of a nested table (selftest.c). */
import { ErrnoError } from '../base/errno.ts';
import { HwptNested } from './hw_pagetable_nested.ts';
import type { TestCall } from './selftest.ts';

/** IOMMU_TEST_OP_MD_CHECK_IOTLB: EINVAL where the entry is not what the caller expects. */
export function checkIotlb({ call, cmd, arg: { id, iotlb } }: TestCall<'check_iotlb'>): void {
  call.context.withObject(cmd.id, HwptNested, 'a nested table', ({ domain }) => {
    const nested = call.context.iommufd.testHardware?.nested(domain);
    if (!nested) throw new ErrnoError('EINVAL', `nested table ${cmd.id} is not the test driver's`);
    const found = nested.iotlb[id];
    if (found === iotlb) return;
    throw new ErrnoError('EINVAL', `cache entry ${id} is ${found ?? 'not there'}, not ${iotlb}`);
  });
}
