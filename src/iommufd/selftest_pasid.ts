// SPDX-License-Identifier: Apache-2.0
/** The test driver's attachment of PASIDs (selftest.c). */
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { attachDevice, detachDevice, replaceDevice } from './change_pt.ts';
import { HwPagetable } from './hw_pagetable.ts';
import { IommufdObject } from './objects.ts';
import type { TestCall } from './selftest.ts';
import { withMockDevice } from './selftest_device.ts';

/** IOMMU_TEST_OP_PASID_ATTACH */
export function pasidAttach({ call, cmd, arg }: TestCall<'pasid_attach'>): void {
  withMockDevice(call.context, cmd.id, (device) => {
    withCleanup((cleanup) => {
      arg.pt_id = attachDevice(device, arg.pasid, arg.pt_id);
      cleanup.defer(() => detachDevice(call.context, device, arg.pasid));
      call.respond();
    });
  });
}

/** IOMMU_TEST_OP_PASID_REPLACE */
export function pasidReplace({ call, cmd, arg }: TestCall<'pasid_replace'>): void {
  withMockDevice(call.context, cmd.id, (device) => {
    arg.pt_id = replaceDevice(device, arg.pasid, arg.pt_id);
    call.respond();
  });
}

/** IOMMU_TEST_OP_PASID_DETACH: never fails for a device that is there. */
export function pasidDetach({ call, cmd, arg }: TestCall<'pasid_detach'>): void {
  withMockDevice(call.context, cmd.id, (device) => detachDevice(call.context, device, arg.pasid));
}

/** IOMMU_TEST_OP_PASID_CHECK_HWPT: EINVAL where another table is attached than the caller expects (0: none). */
export function pasidCheck({ call, cmd, arg }: TestCall<'pasid_check'>): void {
  withMockDevice(call.context, cmd.id, (device) => {
    const attached = device.group.attachments.get(arg.pasid)?.hwpt;
    if (arg.hwpt_id !== 0) {
      call.context.withObject(arg.hwpt_id, IommufdObject, 'an object', (expected) => {
        if (expected instanceof HwPagetable) return;
        throw new ErrnoError('EINVAL', `object ${arg.hwpt_id} is no hardware page table`);
      });
    }
    const found = attached?.id ?? 0;
    if (found === arg.hwpt_id) return;
    throw new ErrnoError('EINVAL', `PASID ${arg.pasid} has hardware page table ${found}`);
  });
}
