// SPDX-License-Identifier: Apache-2.0
/** Attach, replace and detach for tasks: see iommu/steps.ts. */
import { whenFree } from '../iommu/steps.ts';
import type { Lock } from '../sim/lock.ts';
import type { Body } from '../sim/task.ts';
import { attachDevice, detachDevice, replaceDevice } from './change_pt.ts';
import type { Context } from './context.ts';
import type { IommufdDevice } from './device.ts';

const locksOf = ({ group }: IommufdDevice): readonly Lock[] => [group.mutex, group.group.mutex];

/** `attachDevice` of change_pt.ts, to a table that was made by hand. */
export const attachDeviceSteps = (device: IommufdDevice, pasid: number, id: number): Body<number> =>
  whenFree(locksOf(device), () => attachDevice(device, pasid, id));

/** `replaceDevice` of change_pt.ts, by a table that was made by hand. */
export const replaceDeviceSteps = (
  device: IommufdDevice,
  pasid: number,
  id: number,
): Body<number> => whenFree(locksOf(device), () => replaceDevice(device, pasid, id));

/** `detachDevice` of change_pt.ts. */
export const detachDeviceSteps = (context: Context, device: IommufdDevice, pasid: number): Body =>
  whenFree(locksOf(device), () => detachDevice(context, device, pasid));
