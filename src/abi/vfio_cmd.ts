// SPDX-License-Identifier: Apache-2.0
/** The type and the first number of VFIO's ioctls. Source: Linux 7.2 include/uapi/linux/vfio.h. */

export const VFIO_API_VERSION = 0;

/** `';'`, shared with iommufd, whose numbers start at 0x80. */
export const VFIO_TYPE = 0x3b;
export const VFIO_BASE = 100;
