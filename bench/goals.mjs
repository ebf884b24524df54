// SPDX-License-Identifier: Apache-2.0
/**
 * What the speed is held against, in the order of the table. Figures are medians in microseconds unless a unit says
 * otherwise, measured for goals on two shared cores: ratios within one run say more than absolute figures.
 *
 * @typedef {{ name: string, goal: number, unit?: 'ms' | 'x' | 'B' }} Goal
 */

/** @type {readonly Goal[]} */
export const goals = [
  { name: '64-byte ioctl', goal: 12 },
  { name: '64-byte ioctl, times the C supervisor', goal: 1.5, unit: 'x' },
  { name: 'unknown ioctl (ENOTTY)', goal: 12 },
  { name: 'IOAS_ALLOC + DESTROY', goal: 24 },
  { name: 'IOAS_MAP 4 KiB, no domain', goal: 16 },
  { name: 'IOAS_UNMAP 4 KiB, no domain', goal: 16 },
  { name: 'IOAS_MAP 2 MiB, no domain', goal: 16 },
  { name: 'IOAS_UNMAP 2 MiB, no domain', goal: 16 },
  { name: 'IOAS_MAP 256 MiB, no domain', goal: 13 },
  { name: 'IOAS_UNMAP 256 MiB, no domain', goal: 13 },
  { name: 'IOAS_MAP 1 TiB, no domain', goal: 16 },
  { name: 'IOAS_UNMAP 1 TiB, no domain', goal: 16 },
  { name: 'IOAS_MAP 4 KiB, IOVA picked, 0..1000 areas', goal: 15 },
  { name: 'IOAS_UNMAP all, 1000 areas', goal: 400 },
  { name: 'IOAS_MAP with 1000 areas', goal: 16 },
  { name: 'IOAS_UNMAP with 1000 areas', goal: 16 },
  { name: 'IOAS_MAP with 10000 areas', goal: 16 },
  { name: 'IOAS_UNMAP with 10000 areas', goal: 16 },
  { name: 'IOAS_MAP with 100000 areas', goal: 16 },
  { name: 'IOAS_UNMAP with 100000 areas', goal: 16 },
  { name: 'IOAS_MAP with 1000000 areas', goal: 16 },
  { name: 'IOAS_UNMAP with 1000000 areas', goal: 16 },
  { name: 'memory per area', goal: 600, unit: 'B' },
  { name: 'run -- /bin/true adds', goal: 180, unit: 'ms' },
  { name: 'IOAS_MAP 4 KiB, mock domain', goal: 13 },
  { name: 'IOAS_UNMAP 4 KiB, mock domain', goal: 13 },
  { name: 'IOAS_MAP 2 MiB, mock domain', goal: 16 },
  { name: 'IOAS_UNMAP 2 MiB, mock domain', goal: 16 },
  { name: 'IOAS_MAP 256 MiB, mock domain', goal: 400 },
  { name: 'IOAS_UNMAP 256 MiB, mock domain', goal: 100 },
  { name: 'HWPT_ALLOC, 2 MiB mapped', goal: 15 },
  { name: 'replace HWPT by HWPT, same IOAS', goal: 14 },
  { name: 'access_rw read 4 KiB', goal: 18 },
  { name: 'access_rw read 64 KiB', goal: 45 },
  { name: 'HWPT_INVALIDATE 64 entries', goal: 14 },
  { name: 'page fault round trip', goal: 25 },
  // The two calls on the queue: a device asks, its client maps (which has goals above) and answers.
  { name: 'page-faults: request read and answered', goal: 25 },
  { name: 'vtd-page-faults: request read and answered', goal: 25 },
  { name: 'edu register read', goal: 14 },
  { name: 'edu register write', goal: 14 },
  { name: 'edu DMA 4 KiB, doorbell to interrupt', goal: 20 },
  // 200 MB/s: 256 doorbells, since the device's buffer is a page.
  { name: 'edu DMA 1 MiB, in pages', goal: 5243 },
];
