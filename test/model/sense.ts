// SPDX-License-Identifier: Apache-2.0
import type { Step } from './commands.ts';
import type { World } from './world.ts';

/** Whether a kind of step can do anything now. */
export function makesSense(world: World, op: Step['op'], isAboutFiles: boolean): boolean {
  switch (op) {
    case 'map':
      return !isAboutFiles;
    case 'dmabuf_get':
      return !isAboutFiles;
    case 'ioas_alloc':
      return world.of('IOAS').length < 4;
    case 'unmap':
    case 'copy':
      return world.areas().length > 0;
    case 'access_create':
      return world.of('ACCESS').length < 4;
    case 'access_pin':
    case 'access_rw':
    case 'access_replace':
      return world.of('ACCESS').length > 0;
    case 'access_unpin':
      return world.of('ACCESS').some(({ items }) => items.length > 0);
    case 'mock':
      return world.of('SELFTEST').length < 5;
    case 'pasid_attach':
    case 'pasid_check':
      return world.of('SELFTEST').some(({ device }) => device.pasids > 1);
    case 'pasid_replace':
    case 'pasid_detach':
      return world.of('SELFTEST').some(({ device }) => device.group.pasids.size > 0);
    case 'mock_replace':
      return world.of('SELFTEST').length > 0;
    case 'hwpt_alloc':
      return world.of('DEVICE').length > 0 && world.of('HWPT_PAGING').length < 6;
    case 'nested_alloc':
      return (
        world.of('HWPT_PAGING').some(({ nests }) => nests) && world.of('HWPT_NESTED').length < 5
      );
    case 'dirty_track':
      return world.of('HWPT_PAGING').some(({ dirty }) => dirty);
    case 'dirty_mark':
      return world.of('HWPT_PAGING').some((each) => each.tracking && each.space.areas.length > 0);
    case 'dirty_read':
      return world.of('HWPT_PAGING').some(({ written }) => written.size > 0);
    case 'vfio_set':
    case 'vfio_info':
    case 'vfio_map':
      return world.vfioIoas !== undefined;
    case 'vfio_unmap':
      return (world.vfioIoas?.areas.length ?? 0) > 0;
    case 'fault_alloc':
      return world.of('FAULT').length < 3;
    case 'trigger_iopf':
    case 'page_request':
      return world.of('DEVICE').some((each) => each.faultsOn);
    case 'queue_read':
      return [...world.of('FAULT'), ...world.of('VEVENTQ')].some(
        ({ isOpen, deliver }) => isOpen && deliver.length > 0,
      );
    case 'queue_write':
      return world.of('FAULT').some(({ isOpen, read }) => isOpen && read.size > 0);
    case 'queue_poll':
      return [...world.of('FAULT'), ...world.of('VEVENTQ')].some(({ isOpen }) => isOpen);
    case 'viommu_alloc':
      return world.of('HWPT_PAGING').some(({ nests }) => nests) && world.of('VIOMMU').length < 3;
    case 'vdevice_alloc':
      return world.of('VIOMMU').length > 0 && world.of('DEVICE').length > 0;
    case 'veventq_alloc':
      return world.of('VIOMMU').some(({ eventQueues }) => eventQueues.length < 2);
    case 'trigger_vevent':
      return world.of('DEVICE').some(({ viommu }) => viommu !== undefined);
    case 'invalidate_devices':
      return world.of('VIOMMU').some(({ devices }) => devices.size > 0);
    case 'check_cache':
      return world.of('DEVICE').length > 0;
    case 'hw_queue_alloc':
      return world.of('VIOMMU').some(({ parent }) => parent.space.areas.length > 0);
    case 'shared_map':
      return world.maps.length < 3 && world.of('VIOMMU').length > 0;
    case 'shared_unmap':
      return world.maps.length > 0;
    case 'invalidate':
    case 'check_iotlb':
      return world.of('HWPT_NESTED').length > 0;
    case 'check_map':
      return world.of('HWPT_PAGING').some(({ space }) => space.areas.length > 0);
    case 'device_add':
      return world.devices.length < 6;
    case 'device_remove':
    case 'device_bind':
      return world.devices.some(({ id }) => id === 0);
    case 'device_unbind':
    case 'device_attach':
      return world.devices.some(({ id }) => id !== 0);
    case 'device_replace':
    case 'device_detach':
      return world.devices.some((each) => each.isAttached || each.ownPasids.length > 0);
    case 'dmabuf_revoke':
      return [...world.processes[0].fds.values()].some((open) => 'revoked' in open);
    default:
      return true;
  }
}
