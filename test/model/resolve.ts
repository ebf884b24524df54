// SPDX-License-Identifier: Apache-2.0
import type { Step } from './commands.ts';
import { Nested } from './objects.ts';
import { MISSING, type World } from './world.ts';

/**
 * A table for devices that share a group. None of a virtual IOMMU: where the test driver refuses it for one device, the way back of those
 * before it can be closed, as their names are looked up again.
 */
function sharedTable(world: World, ref: number): number {
  const id = world.idOf(ref, 'IOAS', 'HWPT_PAGING', 'HWPT_NESTED');
  const table = world.objects.get(id);
  return table instanceof Nested && table.viommu ? MISSING : id;
}

/** A group that a device can join: not one with PASIDs attached, which the device would not have. */
function groupFor({ groups }: World, wanted: number): number {
  let group = wanted;
  while ((groups[group]?.pasids.size ?? 0) > 0) group++;
  return group;
}

/** References turned into ids and descriptors, as they are now. */
export function resolve(world: World, step: Step): Step {
  switch (step.op) {
    case 'destroy':
      return { ...step, id: world.idOf(step.id) };
    case 'copy':
      return {
        ...step,
        ioas: world.idOf(step.ioas, 'IOAS'),
        source: world.idOf(step.source, 'IOAS'),
      };
    case 'map_file':
      return {
        ...step,
        ioas: world.idOf(step.ioas, 'IOAS'),
        fd: world.fdOf(step.fd, step.by, ['file', 'dmabuf']),
      };
    case 'vfio_ioas':
    case 'map':
    case 'unmap':
    case 'allow':
    case 'ranges':
    case 'huge_pages':
    case 'add_reserved':
    case 'access_create':
      return { ...step, ioas: world.idOf(step.ioas, 'IOAS') };
    case 'device_add':
      return { ...step, group: groupFor(world, step.group) };
    case 'device_attach':
    case 'device_replace':
      return { ...step, pt: sharedTable(world, step.pt) };
    case 'mock':
      return { ...step, pt: world.idOf(step.pt, 'IOAS', 'HWPT_PAGING', 'HWPT_NESTED') };
    case 'pasid_detach':
      return { ...step, mock: world.idOf(step.mock, 'SELFTEST') };
    case 'pasid_attach':
    case 'pasid_replace':
    case 'pasid_check':
    case 'mock_replace':
      return {
        ...step,
        mock: world.idOf(step.mock, 'SELFTEST'),
        pt: world.idOf(step.pt, 'IOAS', 'HWPT_PAGING', 'HWPT_NESTED'),
      };
    case 'hwpt_alloc':
      return {
        ...step,
        device: world.idOf(step.device, 'DEVICE'),
        pt: world.idOf(step.pt, 'IOAS'),
        fault: world.idOf(step.fault, 'FAULT'),
      };
    case 'nested_alloc':
      return {
        ...step,
        device: world.idOf(step.device, 'DEVICE'),
        parent: world.idOf(step.parent, 'HWPT_PAGING', 'HWPT_NESTED', 'VIOMMU'),
        fault: world.idOf(step.fault, 'FAULT'),
      };
    case 'veventq_alloc':
    case 'invalidate_devices':
    case 'hw_queue_alloc':
      return { ...step, viommu: world.idOf(step.viommu, 'VIOMMU') };
    case 'trigger_vevent':
    case 'check_cache':
    case 'trigger_iopf':
    case 'page_request':
      return { ...step, device: world.idOf(step.device, 'DEVICE') };
    case 'queue_read':
    case 'queue_write':
    case 'queue_poll':
      return { ...step, fd: world.fdOf(step.fd, step.by, ['FAULT', 'VEVENTQ']) };
    case 'viommu_alloc':
      return {
        ...step,
        device: world.idOf(step.device, 'DEVICE'),
        hwpt: world.idOf(step.hwpt, 'HWPT_PAGING'),
      };
    case 'vdevice_alloc':
      return {
        ...step,
        viommu: world.idOf(step.viommu, 'VIOMMU'),
        device: world.idOf(step.device, 'DEVICE'),
      };
    case 'invalidate':
      return { ...step, hwpt: world.idOf(step.hwpt, 'HWPT_NESTED') };
    case 'check_iotlb':
      return { ...step, hwpt: world.idOf(step.hwpt, 'HWPT_NESTED') };
    case 'dirty_track':
    case 'dirty_mark':
    case 'dirty_read':
    case 'check_map':
      return { ...step, hwpt: world.idOf(step.hwpt, 'HWPT_PAGING') };
    case 'access_replace':
      return {
        ...step,
        fd: world.fdOf(step.fd, step.by, ['ACCESS']),
        ioas: world.idOf(step.ioas, 'IOAS'),
      };
    case 'access_pin':
    case 'access_unpin':
    case 'access_rw':
      return { ...step, fd: world.fdOf(step.fd, step.by, ['ACCESS']) };
    case 'close':
      return {
        ...step,
        fd: world.fdOf(step.fd, step.by, ['ACCESS', 'FAULT', 'VEVENTQ', 'dmabuf']),
      };
    case 'dmabuf_revoke':
      return { ...step, fd: world.fdOf(step.fd, step.by, ['dmabuf']) };
    default:
      return step;
  }
}
