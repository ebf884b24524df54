// SPDX-License-Identifier: Apache-2.0
/** Attach, replace and detach by the id of a table or of an address space (iommufd_device_change_pt() of device.c). */
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { attachHwpt, detachHwpt, replaceHwpt } from './attach.ts';
import type { Context } from './context.ts';
import type { IommufdDevice } from './device.ts';
import { allocHwptPaging, HwPagetable, HwptPaging, putHwpt } from './hw_pagetable.ts';
import { Ioas } from './ioas.ts';
import { locked } from './locks.ts';
import { IommufdObject } from './objects.ts';

/** Attaches or replaces; answers the table that this freed, if any. */
type Change = (hwpt: HwPagetable, device: IommufdDevice, pasid: number) => HwPagetable | undefined;

const attachChange: Change = (hwpt, device, pasid) => {
  attachHwpt(hwpt, device, pasid);
  return undefined;
};

interface Changed {
  readonly id: number;
  readonly freed: HwPagetable | undefined;
}

/**
 * Finds a table of the IOAS that iommufd made before and that takes the device (EINVAL: try the next), else makes one. Tables
 * made by hand are never chosen (B7).
 */
function changeToIoas(ioas: Ioas, device: IommufdDevice, pasid: number, change: Change): Changed {
  const { context } = device;
  for (const hwpt of [...ioas.hwpts]) {
    if (!(hwpt instanceof HwptPaging) || !hwpt.automatic) continue;
    try {
      return { id: hwpt.id, freed: change(hwpt, device, pasid) };
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.code !== 'EINVAL') throw error;
    }
  }
  return withCleanup((cleanup) => {
    const attaching = change === attachChange;
    const request = { flags: 0, attachPasid: attaching ? pasid : undefined };
    const hwpt = allocHwptPaging(context, ioas, device, request);
    cleanup.defer(() => {
      context.objects.abort(hwpt);
      hwpt.destroy();
    });
    const freed = attaching ? undefined : change(hwpt, device, pasid);
    hwpt.automatic = true;
    context.objects.finalize(hwpt);
    return { id: hwpt.id, freed };
  });
}

function changeTable(device: IommufdDevice, pasid: number, id: number, change: Change): number {
  const { context } = device;
  const target = context.objects.get(id, IommufdObject, 'an object');
  let changed: Changed;
  try {
    if (target instanceof HwPagetable) changed = { id, freed: change(target, device, pasid) };
    else if (target instanceof Ioas)
      changed = locked(target.mutex, () => changeToIoas(target, device, pasid, change));
    else
      throw new ErrnoError(
        'EINVAL',
        `object ${id} is of type ${target.type}: neither an IOAS nor a hardware page table`,
      );
  } finally {
    context.objects.put(target);
  }
  if (changed.freed) putHwpt(context, changed.freed);
  return changed.id;
}

/** Attaches a device to an IOAS or a table; returns the table's id. Throws with nothing changed. */
export function attachDevice(device: IommufdDevice, pasid: number, id: number): number {
  const table = changeTable(device, pasid, id, attachChange);
  device.users++;
  return table;
}

/** Exchanges what a device is attached to; returns the table's id. Throws with nothing changed (B3, B4). */
export function replaceDevice(device: IommufdDevice, pasid: number, id: number): number {
  return changeTable(device, pasid, id, replaceHwpt);
}

/** Undoes {@link attachDevice}; nothing happens where nothing is attached. */
export function detachDevice(context: Context, device: IommufdDevice, pasid: number): void {
  const hwpt = detachHwpt(device, pasid);
  if (!hwpt) return;
  putHwpt(context, hwpt);
  device.users--;
}
