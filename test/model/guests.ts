// SPDX-License-Identifier: Apache-2.0
/** Virtual IOMMUs and the devices of a guest, in the model. */
import type { Outcome } from './outcome.ts';
import type { Step } from './commands.ts';
import { refuse } from './memory.ts';
import { type Device, Vdevice, Viommu } from './objects.ts';
import type { World } from './world.ts';

export function viommuAlloc(
  world: World,
  step: Step & { op: 'viommu_alloc' },
  respond: () => void,
): Outcome['out'] {
  world.get(step.device, 'DEVICE');
  const parent = world.get(step.hwpt, 'HWPT_PAGING');
  if (!parent.nests) refuse('EINVAL');
  const viommu = new Viommu(world.freeId(), parent);
  respond();
  parent.nested++;
  world.objects.set(viommu.id, viommu);
  return { viommu: viommu.id };
}

export function vdeviceAlloc(
  world: World,
  step: Step & { op: 'vdevice_alloc' },
  respond: () => void,
): Outcome['out'] {
  const viommu = world.get(step.viommu, 'VIOMMU');
  const device = world.get(step.device, 'DEVICE');
  if (device.vdevice || viommu.devices.has(step.virtualId)) refuse('EEXIST');
  const made = new Vdevice(world.freeId(), viommu, device, step.virtualId);
  respond();
  viommu.devices.set(step.virtualId, made);
  device.vdevice = made;
  world.objects.set(made.id, made);
  return { vdevice: made.id };
}

export function dropVdevice({ viommu, device, virtualId }: Vdevice): void {
  viommu.devices.delete(virtualId);
  device.vdevice = undefined;
}

/** A device goes, and what a guest called it with it: nothing else gets that id any more. */
export function buryVdevice(world: World, { vdevice }: Device): void {
  if (!vdevice) return;
  dropVdevice(vdevice);
  world.objects.delete(vdevice.id);
  world.tombstones.add(vdevice.id);
}
