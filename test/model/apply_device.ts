// SPDX-License-Identifier: Apache-2.0
import type { Outcome } from './outcome.ts';
import { attachingPasid, detachPasid, replacingPasid } from './attach.ts';
import type { Step } from './commands.ts';
import { buryVdevice } from './guests.ts';
import { refuse } from './memory.ts';
import type { World } from './world.ts';

/** One step of the devices that share groups; SKIP is what a driver never asks for. */
export function performDevice(
  world: World,
  step: Step & { op: `device_${'remove' | 'bind' | 'unbind' | 'attach' | 'replace' | 'detach'}` },
): Outcome['out'] | void {
  const device = world.devices[step.device % world.devices.length];
  if (!device) return refuse('SKIP');
  // What a driver never asks for is passed over, here and in the engine.
  const unfit = {
    device_remove: device.id !== 0 || device.group.pasids.size > 0,
    device_bind: device.id !== 0,
    device_unbind: device.id === 0 || device.isAttached || device.ownPasids.length > 0,
    device_attach: device.id === 0,
    device_replace: device.id === 0,
    device_detach: device.id === 0,
  };
  if (unfit[step.op]) refuse('SKIP');
  switch (step.op) {
    case 'device_remove':
      device.group.members.splice(device.group.members.indexOf(device), 1);
      device.isGone = true;
      world.devices.splice(world.devices.indexOf(device), 1);
      return;
    case 'device_bind':
      device.id = world.freeId();
      world.objects.set(device.id, device);
      return { id: device.id };
    case 'device_unbind':
      buryVdevice(world, device);
      world.objects.delete(device.id);
      device.id = 0;
      return;
    case 'device_attach':
    case 'device_replace': {
      const change = step.op === 'device_attach' ? attachingPasid : replacingPasid;
      const { hwpt, commit } = change(world, device, step.pasid, step.pt);
      commit();
      return { hwpt: hwpt.id };
    }
    case 'device_detach':
      return detachPasid(world, device, step.pasid);
  }
}
