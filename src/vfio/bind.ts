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
import type { Context } from '../iommufd/context.ts';
import { copyFromUser } from '../iommufd/call.ts';
import { checkZeroTail } from '../iommufd/dispatch.ts';
import { Iommufd } from '../iommufd/iommufd.ts';
import { locked } from '../iommufd/locks.ts';
import type { Task } from '../kernel/task.ts';
import type { VfioCall } from './call.ts';
import type { VfioDeviceFile } from './device_file.ts';

const UUID_BYTES = 16;

const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;

function checkFlags(flags: number, known: number): void {
  const unknown = flags & ~known;
  if (unknown) throw new ErrnoError('EINVAL', `unknown flags ${hex(unknown)}`);
}

/** The context that a descriptor of /dev/iommu or of a container stands for. Throws EBADF, EBADFD. */
export function contextOf(task: Task, fd: number): Context {
  const open = task.files.get(fd);
  if (!open) throw new ErrnoError('EBADF', `descriptor ${fd} is not open`);
  if (open.kind !== 'device' || !Iommufd.isIommufd(open.file)) {
    throw new ErrnoError('EBADFD', `descriptor ${fd} is not an open /dev/iommu`);
  }
  return open.file.context;
}

const bindStruct = vfio_device_bind_iommufd;
/** Bytes of the structure's first version. */
const BIND_MIN = bindStruct.offsetofend('out_devid');

/** Reads a structure that can be shorter or longer than ours, where the rest is 0. */
function fetchBind(call: VfioCall<Cmd<typeof bindStruct>>): void {
  call.fetch(0, 4);
  const { argsz } = call.cmd;
  if (argsz < BIND_MIN) throw new ErrnoError('EINVAL', `argsz ${argsz} is less than ${BIND_MIN}`);
  const { size } = bindStruct;
  if (argsz > size) {
    checkZeroTail(call.task.mm, call.arg + BigInt(size), argsz - size, bindStruct);
  }
  call.fetch(0, Math.min(argsz, size));
}

/** VFIO_DEVICE_BIND_IOMMUFD: after it the file's other operations work. */
export function bindIommufd(call: VfioCall<Cmd<typeof bindStruct>>, file: VfioDeviceFile): void {
  fetchBind(call);
  const { cmd, device, task } = call;
  if (cmd.iommufd < 0) throw new ErrnoError('EINVAL', `descriptor ${cmd.iommufd} is negative`);
  checkFlags(cmd.flags, VFIO_DEVICE_BIND_FLAG_TOKEN);
  if (file.isOfGroup) {
    throw new ErrnoError('EINVAL', `${device.name} is in its group's container already`);
  }
  withCleanup((blocked) => {
    device.group.block();
    blocked.defer(() => device.group.unblock());
    locked(device.mutex, () =>
      withCleanup((cleanup) => {
        if (file.isBound)
          throw new ErrnoError('EINVAL', `this file has ${device.name} bound already`);
        checkToken(call);
        const context = contextOf(task, cmd.iommufd);
        cmd.out_devid = device.bind(context);
        cleanup.defer(() => device.unbind());
        call.respond(bindStruct.offsetof('out_devid'), bindStruct.offsetofend('out_devid'));
        file.isBound = true;
      }),
    );
  });
}

/** A token is what a physical function and its virtual ones share: other functions have none to be matched. */
function checkToken(call: VfioCall<Cmd<typeof bindStruct>>): void {
  const { cmd, device, task } = call;
  if (!(cmd.flags & VFIO_DEVICE_BIND_FLAG_TOKEN)) return;
  copyFromUser(task.mm, cmd.token_uuid_ptr, new Uint8Array(UUID_BYTES));
  throw new ErrnoError('EINVAL', `${device.name} takes no token: it has no virtual functions`);
}

const attachStruct = vfio_device_attach_iommufd_pt;

/** VFIO_DEVICE_ATTACH_IOMMUFD_PT: attaches, or moves what is attached. */
export function attachPt(call: VfioCall<Cmd<typeof attachStruct>>): void {
  const { cmd, device } = call;
  checkFlags(cmd.flags, VFIO_DEVICE_ATTACH_PASID);
  const hasPasid = (cmd.flags & VFIO_DEVICE_ATTACH_PASID) !== 0;
  if (hasPasid) fetchPasid(call, attachStruct.offsetof('pasid'));
  locked(device.mutex, () =>
    withCleanup((cleanup) => {
      cmd.pt_id = hasPasid ? device.attachPasid(cmd.pasid, cmd.pt_id) : device.attach(cmd.pt_id);
      // Also where a PASID was attached: so does Linux.
      cleanup.defer(() => device.detach());
      call.respond(attachStruct.offsetof('pt_id'), attachStruct.offsetofend('pt_id'));
    }),
  );
}

const detachStruct = vfio_device_detach_iommufd_pt;

/** VFIO_DEVICE_DETACH_IOMMUFD_PT: DMA is blocked; nothing happens where nothing is attached. */
export function detachPt(call: VfioCall<Cmd<typeof detachStruct>>): void {
  const { cmd, device } = call;
  checkFlags(cmd.flags, VFIO_DEVICE_DETACH_PASID);
  const hasPasid = (cmd.flags & VFIO_DEVICE_DETACH_PASID) !== 0;
  if (hasPasid) fetchPasid(call, detachStruct.offsetof('pasid'));
  locked(device.mutex, () => {
    if (hasPasid) device.detachPasid(cmd.pasid);
    else device.detach();
  });
}

/** The PASID stands after the first version of both structures. */
function fetchPasid(call: VfioCall<{ readonly argsz: number }>, offset: number): void {
  const { argsz } = call.cmd;
  if (argsz < offset + 4) {
    throw new ErrnoError(
      'EINVAL',
      `argsz ${argsz} is less than ${offset + 4}, where the PASID ends`,
    );
  }
  call.fetch(offset, offset + 4);
}
