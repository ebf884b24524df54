// SPDX-License-Identifier: Apache-2.0
/** VFIO groups (`/dev/vfio/N`). Source: Linux 7.2 include/uapi/linux/vfio.h. */
import { ioctlNumber } from './ioctl.ts';
import { flagsOf, struct, u32 } from './struct.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio_cmd.ts';

/** No driver of the kernel has any device of the group. */
export const VFIO_GROUP_FLAGS_VIABLE = 1 << 0;
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1;

export const vfio_group_status = struct('vfio_group_status', {
  argsz: u32,
  flags: flagsOf(u32, { VFIO_GROUP_FLAGS_VIABLE, VFIO_GROUP_FLAGS_CONTAINER_SET }),
});
export const VFIO_GROUP_GET_STATUS = ioctlNumber(VFIO_TYPE, VFIO_BASE + 3);
/** Points to the descriptor of a container, 32 bits. */
export const VFIO_GROUP_SET_CONTAINER = ioctlNumber(VFIO_TYPE, VFIO_BASE + 4);
export const VFIO_GROUP_UNSET_CONTAINER = ioctlNumber(VFIO_TYPE, VFIO_BASE + 5);
/** Points to the name of a device, and a byte 0; answers a descriptor. */
export const VFIO_GROUP_GET_DEVICE_FD = ioctlNumber(VFIO_TYPE, VFIO_BASE + 6);
