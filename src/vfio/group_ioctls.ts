// SPDX-License-Identifier: Apache-2.0
/** Every ioctl of a VFIO group, in the order of their numbers. `docs/support.md` is generated from it. */
import * as vfio from '../abi/vfio.ts';
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { copyFromUser, copyToUser } from '../iommufd/call.ts';
import type { Status } from '../iommufd/ioctls.ts';
import type { CallRecord } from '../kernel/file.ts';
import type { Task } from '../kernel/task.ts';
import { type Mm, PAGE_SIZE } from '../memory/mm.ts';
import { contextOf } from './bind.ts';
import type { VfioGroupFile } from './group_file.ts';

export interface GroupOp {
  readonly name: string;
  readonly number: number;
  readonly status: Status;
  readonly note: string;
  /** Answers what the ioctl returns. Throws ErrnoError. */
  execute(file: VfioGroupFile, task: Task, arg: bigint): number;
  /** What is behind the argument now, for tracing: asked before and after. */
  record(task: Task, arg: bigint): CallRecord;
}

const status = vfio.vfio_group_status;

/** A call without a structure. */
const plain = (name: string, argument?: string): CallRecord => {
  const none = new Uint8Array();
  return { name, type: undefined, before: none, after: none, ...(argument && { argument }) };
};

function recordStatus({ mm }: Task, arg: bigint): CallRecord {
  const bytes = new Uint8Array(status.size);
  const type = mm.copyIn(arg, bytes) ? status : undefined;
  return { name: 'VFIO_GROUP_GET_STATUS', type, before: bytes, after: bytes };
}

function recordContainer({ mm }: Task, arg: bigint): CallRecord {
  const bytes = new Uint8Array(4);
  const isThere = mm.copyIn(arg, bytes);
  return plain('VFIO_GROUP_SET_CONTAINER', isThere ? `[${descriptorIn(bytes)}]` : undefined);
}

function recordName({ mm }: Task, arg: bigint): CallRecord {
  const found = stringAt(mm, arg);
  const text = found instanceof Object ? JSON.stringify(found.text) : undefined;
  return plain('VFIO_GROUP_GET_DEVICE_FD', text);
}

const descriptorIn = (bytes: Uint8Array): number => new DataView(bytes.buffer).getInt32(0, true);

/** A string up to its 0, of a page at most; or the errno that it is refused with. Read page by page: the next may not be there. */
function stringAt(mm: Mm, address: bigint): { readonly text: string } | 'EFAULT' | 'EINVAL' {
  let text = '';
  while (text.length < PAGE_SIZE) {
    const from = address + BigInt(text.length);
    const left = PAGE_SIZE - Number(from % BigInt(PAGE_SIZE));
    const bytes = new Uint8Array(Math.min(left, PAGE_SIZE - text.length));
    if (!mm.copyIn(from, bytes)) return 'EFAULT';
    const end = bytes.indexOf(0);
    text += String.fromCharCode(...bytes.subarray(0, end < 0 ? bytes.length : end));
    if (end >= 0) return { text };
  }
  return 'EINVAL';
}

function getStatus({ group }: VfioGroupFile, { mm }: Task, arg: bigint): number {
  const bytes = new Uint8Array(status.size);
  copyFromUser(mm, arg, bytes);
  const reply = status.on(new DataView(bytes.buffer));
  if (reply.argsz < status.size)
    throw new ErrnoError('EINVAL', `argsz ${reply.argsz} is less than ${status.size}`);
  const { isViable, hasContainer } = group.status;
  reply.flags =
    (isViable ? vfio.VFIO_GROUP_FLAGS_VIABLE : 0) |
    (hasContainer ? vfio.VFIO_GROUP_FLAGS_CONTAINER_SET : 0);
  copyToUser(mm, arg, bytes);
  return 0;
}

function setContainer({ group }: VfioGroupFile, task: Task, arg: bigint): number {
  const bytes = new Uint8Array(4);
  copyFromUser(task.mm, arg, bytes);
  const fd = descriptorIn(bytes);
  if (!task.files.get(fd)) throw new ErrnoError('EBADF', `descriptor ${fd} is not open`);
  group.setContainer(() => contextOf(task, fd));
  return 0;
}

function unsetContainer({ group }: VfioGroupFile): number {
  group.unsetContainer();
  return 0;
}

/** Answers the descriptor of the device, which is closed by exec. */
function getDeviceFd(
  { group, recording }: VfioGroupFile,
  { mm, files }: Task,
  arg: bigint,
): number {
  const found = stringAt(mm, arg);
  if (found === 'EFAULT') throw new ErrnoError('EFAULT', 'the name can not be read');
  if (found === 'EINVAL')
    throw new ErrnoError('EINVAL', `the name has no end in ${PAGE_SIZE} bytes`);
  const device = group.deviceOf(found.text);
  return withCleanup((cleanup) => {
    const fd = files.reserve();
    cleanup.defer(() => files.cancel(fd));
    const file = group.openDevice(device);
    file.recording = recording;
    files.install(fd, file, { cloexec: true });
    return fd;
  });
}

export const groupOps: readonly GroupOp[] = [
  {
    name: 'VFIO_GROUP_GET_STATUS',
    number: vfio.VFIO_GROUP_GET_STATUS,
    ...{ status: 'done', note: '' },
    ...{ execute: getStatus, record: recordStatus },
  },
  {
    name: 'VFIO_GROUP_SET_CONTAINER',
    number: vfio.VFIO_GROUP_SET_CONTAINER,
    ...{ status: 'done', note: '' },
    ...{ execute: setContainer, record: recordContainer },
  },
  {
    name: 'VFIO_GROUP_UNSET_CONTAINER',
    number: vfio.VFIO_GROUP_UNSET_CONTAINER,
    ...{ status: 'done', note: '' },
    ...{ execute: unsetContainer, record: () => plain('VFIO_GROUP_UNSET_CONTAINER') },
  },
  {
    name: 'VFIO_GROUP_GET_DEVICE_FD',
    number: vfio.VFIO_GROUP_GET_DEVICE_FD,
    ...{ status: 'done', note: '' },
    ...{ execute: getDeviceFd, record: recordName },
  },
];
