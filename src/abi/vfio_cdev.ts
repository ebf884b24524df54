// SPDX-License-Identifier: Apache-2.0
/** Binding a VFIO device to `/dev/iommu`. Source: Linux 7.2 include/uapi/linux/vfio.h. */
import { ioctlNumber } from './ioctl.ts';
import { flagsOf, id, pointer, s32, struct, u32 } from './struct.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio_cmd.ts';

export const VFIO_DEVICE_BIND_FLAG_TOKEN = 1 << 0;

/** `iommufd` is a descriptor of /dev/iommu; `out_devid` then names the device there. */
export const vfio_device_bind_iommufd = struct('vfio_device_bind_iommufd', {
  argsz: u32,
  flags: flagsOf(u32, { VFIO_DEVICE_BIND_FLAG_TOKEN }),
  iommufd: { ...s32, show: { as: 'fd' } },
  out_devid: id,
  token_uuid_ptr: pointer,
});
export const VFIO_DEVICE_BIND_IOMMUFD = ioctlNumber(VFIO_TYPE, VFIO_BASE + 18);

export const VFIO_DEVICE_ATTACH_PASID = 1 << 0;

/** `pt_id` is an IOAS or a page table; the page table that was used comes back in it. */
export const vfio_device_attach_iommufd_pt = struct('vfio_device_attach_iommufd_pt', {
  argsz: u32,
  flags: flagsOf(u32, { VFIO_DEVICE_ATTACH_PASID }),
  pt_id: id,
  pasid: u32,
});
export const VFIO_DEVICE_ATTACH_IOMMUFD_PT = ioctlNumber(VFIO_TYPE, VFIO_BASE + 19);

export const VFIO_DEVICE_DETACH_PASID = 1 << 0;

export const vfio_device_detach_iommufd_pt = struct('vfio_device_detach_iommufd_pt', {
  argsz: u32,
  flags: flagsOf(u32, { VFIO_DEVICE_DETACH_PASID }),
  pasid: u32,
});
export const VFIO_DEVICE_DETACH_IOMMUFD_PT = ioctlNumber(VFIO_TYPE, VFIO_BASE + 20);
