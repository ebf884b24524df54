// SPDX-License-Identifier: Apache-2.0
import {
  IOMMU_HWPT_DATA_NONE,
  IOMMU_HWPT_FAULT_ID_VALID,
  type iommu_hwpt_alloc,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import { type Call, checkReserved } from './call.ts';
import { clientData } from './client_data.ts';
import type { Context } from './context.ts';
import { IommufdDevice } from './device.ts';
import { FaultQueue } from './fault.ts';
import { allocHwptPaging, type HwPagetable, HwptPaging } from './hw_pagetable.ts';
import { allocHwptNested, allocHwptViommu, type NestedRequest } from './hw_pagetable_nested.ts';
import { Ioas } from './ioas.ts';
import { locked } from './locks.ts';
import { IommufdObject } from './objects.ts';
import { Viommu } from './viommu.ts';

/** IOMMU_HWPT_ALLOC: `pt_id` says what for: an IOAS to copy, a parent to nest on, or a virtual IOMMU to nest through. */
export function hwptAlloc(call: Call<Cmd<typeof iommu_hwpt_alloc>>): void {
  const { cmd, context, task } = call;
  checkReserved(cmd.__reserved);
  const { data_type: type, data_len: length, data_uptr: address, flags } = cmd;
  if ((type === IOMMU_HWPT_DATA_NONE) !== (length === 0)) {
    throw new ErrnoError('EINVAL', `data_type ${type} and data_len ${length} do not fit together`);
  }
  const userData = length ? clientData(task.mm, type, length, address) : undefined;
  context.withObject(cmd.dev_id, IommufdDevice, 'a device', (device) => {
    const parent = getParent(context, cmd.pt_id);
    try {
      // A domain has its fault handler from its creation (A2), but a queue that is not there is the last thing to complain of.
      const wantsFault = (flags & IOMMU_HWPT_FAULT_ID_VALID) !== 0;
      const fault = wantsFault ? findFaultQueue(context, cmd.fault_id) : undefined;
      const hwpt = alloc(context, device, parent, { flags, userData, fault });
      call.newObject = hwpt;
      if (wantsFault && !fault)
        throw new ErrnoError('ENOENT', `there is no fault queue with id ${cmd.fault_id}`);
      cmd.out_hwpt_id = hwpt.id;
      call.respond();
    } finally {
      context.objects.put(parent);
    }
  });
}

function alloc(
  context: Context,
  device: IommufdDevice,
  parent: IommufdObject,
  request: NestedRequest,
): HwPagetable {
  if (parent instanceof Ioas)
    return locked(parent.mutex, () => allocHwptPaging(context, parent, device, request));
  if (parent instanceof HwptPaging) return allocHwptNested(context, parent, device, request);
  if (parent instanceof Viommu) {
    if (parent.iommu === device.device.iommu) return allocHwptViommu(context, parent, request);
    const { name } = device.device;
    throw new ErrnoError('EINVAL', `${name} is behind another IOMMU than VIOMMU ${parent.id}`);
  }
  throw new ErrnoError('EINVAL', `pt_id ${parent.id} is of type ${parent.type}`);
}

/** An unknown id is EINVAL here, and not ENOENT as elsewhere. */
function getParent(context: Context, id: number): IommufdObject {
  try {
    return context.objects.get(id, IommufdObject, 'an object');
  } catch (error) {
    if (!(error instanceof ErrnoError) || error.code !== 'ENOENT') throw error;
    throw new ErrnoError('EINVAL', `there is no object with pt_id ${id}`);
  }
}

function findFaultQueue(context: Context, id: number): FaultQueue | undefined {
  const found = context.objects.find(id);
  return found instanceof FaultQueue ? found : undefined;
}
