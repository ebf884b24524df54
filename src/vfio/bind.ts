// SPDX-License-Identifier: Apache-2.0
/** Binding a device to /dev/iommu, and attaching it (device_cdev.c). The order of checks is Linux's. */
import {
  VFIO_DEVICE_ATTACH_PASID,
  VFIO_DEVICE_BIND_FLAG_TOKEN,
  VFIO_DEVICE_DETACH_PASID,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
} from '../abi/vfio.ts';
import type { Cmd } from '../abi/struct.ts';
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { copyFromUser, readExtensible } from '../iommufd/call.ts';
import type { Context } from '../iommufd/context.ts';
import { Iommufd } from '../iommufd/iommufd.ts';
import { locked } from '../iommufd/locks.ts';
import type { Task } from '../kernel/task.ts';
import type { VfioCall } from './call.ts';

const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;

function checkFlags(flags: number, known: number): void {
  const unknown = flags & ~known;
  if (unknown) throw new ErrnoError('EINVAL', `unknown flags ${hex(unknown)}`);
}

function contextOf(task: Task, fd: number): Context {
  const open = task.files.get(fd);
  if (!open) throw new ErrnoError('EBADF', `descriptor ${fd} is not open`);
  if (open.kind !== 'device' || !Iommufd.isIommufd(open.file)) {
    throw new ErrnoError('EBADFD', `descriptor ${fd} is not an open /dev/iommu`);
  }
  return open.file.context;
}
