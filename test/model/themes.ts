// SPDX-License-Identifier: Apache-2.0
/** How often which steps are drawn, and what sequences are about. */
import type { Step } from './commands.ts';

/** How often each kind of step is drawn, relative to the others. */
export const WEIGHTS: readonly (readonly [Step['op'], number])[] = [
  ['ioas_alloc', 4],
  ['destroy', 4],
  ['map', 22],
  ['map_file', 10],
  ['unmap', 13],
  ['copy', 8],
  ['allow', 2],
  ['ranges', 2],
  ['huge_pages', 2],
  ['rlimit_mode', 1],
  ['mock', 6],
  ['mock_replace', 6],
  ['pasid_attach', 4],
  ['pasid_replace', 3],
  ['pasid_detach', 2],
  ['pasid_check', 2],
  ['hwpt_alloc', 6],
  ['nested_alloc', 5],
  ['viommu_alloc', 3],
  ['vdevice_alloc', 5],
  ['dirty_track', 3],
  ['dirty_mark', 8],
  ['dirty_read', 8],
  ['fault_alloc', 2],
  ['trigger_iopf', 10],
  ['page_request', 10],
  ['queue_read', 14],
  ['queue_write', 12],
  ['queue_poll', 1],
  ['invalidate', 4],
  ['check_iotlb', 2],
  ['add_reserved', 2],
  ['access_create', 4],
  ['access_pin', 10],
  ['access_unpin', 4],
  ['access_rw', 6],
  ['access_replace', 3],
  ['close', 3],
  ['check_map', 3],
  ['check_refs', 3],
  ['dmabuf_get', 2],
  ['dmabuf_revoke', 2],
  ['memory_limit', 0.3],
  ['change_process', 2],
  ['mmap', 4],
  ['munmap', 3],
  ['mprotect', 2],
  ['end', 1],
  ['device_add', 4],
  ['device_remove', 1],
  ['device_bind', 5],
  ['device_unbind', 2],
  ['device_attach', 5],
  ['device_replace', 4],
  ['device_detach', 2],
];

export const DEVICES = ['mock', 'hwpt', 'nested', 'viommu', 'vdevice', 'pasid', 'device'];
export const FAULTS = [
  'fault',
  'trigger_iopf',
  'page_request',
  'queue',
  'hwpt',
  'nested',
  'pasid',
  'device',
];
export const DIRTY = ['dirty', 'hwpt_alloc', 'dmabuf_get'];
/** Only maps of files can change hands, so a sequence that has others never gets far with that. */
export const FILES_ONLY = ['map_file', 'change_process', 'mock'];
/** What a sequence has three times as much of, by its seed: nothing, pins, nothing, devices, files, ... */
export const THEMES: readonly (readonly string[])[] = [
  [],
  ['access'],
  [],
  DEVICES,
  FILES_ONLY,
  ['access'],
  [],
  DEVICES,
  FAULTS,
  FAULTS,
  DIRTY,
];

/** What sequences of some themes begin with, so that what they are about is soon under way. */
export const FIRST: ReadonlyMap<readonly string[], readonly Step['op'][]> = new Map([
  [FAULTS, ['ioas_alloc', 'fault_alloc', 'mock', 'hwpt_alloc', 'mock_replace', 'trigger_iopf']],
  [
    DIRTY,
    [
      'ioas_alloc',
      'mock',
      'hwpt_alloc',
      'dmabuf_get',
      'map_file',
      'map',
      'dirty_track',
      'dirty_mark',
      'dirty_read',
    ],
  ],
]);
