// SPDX-License-Identifier: Apache-2.0
/** Features of a VFIO device: one ioctl that gets, sets or asks for each by number. Source: Linux 7.2 include/uapi/linux/vfio.h. */
import { ioctlNumber } from './ioctl.ts';
import { array, hex, reserved, s32, struct, u8, u32 } from './struct.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio_cmd.ts';

export const VFIO_DEVICE_FEATURE_MASK = 0xffff;
export const VFIO_DEVICE_FEATURE_GET = 1 << 16;
export const VFIO_DEVICE_FEATURE_SET = 1 << 17;
export const VFIO_DEVICE_FEATURE_PROBE = 1 << 18;

/** Numbers of the features, in the low 16 bits of `flags`. */
export const vfio_device_feature_index = {
  VFIO_DEVICE_FEATURE_PCI_VF_TOKEN: 0,
  VFIO_DEVICE_FEATURE_MIGRATION: 1,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: 2,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: 3,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: 4,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: 5,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START: 6,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: 7,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: 8,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: 9,
  VFIO_DEVICE_FEATURE_BUS_MASTER: 10,
  VFIO_DEVICE_FEATURE_DMA_BUF: 11,
  VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2: 12,
} as const;
export const {
  VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_BUS_MASTER,
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
} = vfio_device_feature_index;

/** `flags` is a feature's number and what to do with it; the feature's own data follows. */
export const vfio_device_feature = struct('vfio_device_feature', {
  argsz: u32,
  flags: hex(u32),
  data: array(u8, 0),
});
/** Data of VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP. */
export const vfio_device_low_power_entry_with_wakeup = struct(
  'vfio_device_low_power_entry_with_wakeup',
  { wakeup_eventfd: { ...s32, show: { as: 'fd' } }, reserved: reserved(u32) },
);
export const VFIO_DEVICE_FEATURE = ioctlNumber(VFIO_TYPE, VFIO_BASE + 17);
