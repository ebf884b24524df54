// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { DmaBuf } from './dma_buf.ts';
import type { TestCall } from './selftest.ts';

const O_CLOEXEC = 0o2000000;
const MAX_SIZE = 512 * PAGE_SIZE;

/** IOMMU_TEST_OP_DMABUF_GET: a new DMA-buf of zeroes; the result is its descriptor. */
export function dmabufGet({ call, arg: { length, open_flags } }: TestCall<'dmabuf_get'>): number {
  const size = Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
  if (size === 0 || size > MAX_SIZE)
    throw new ErrnoError('EINVAL', `length ${length} is 0 or exceeds ${MAX_SIZE}`);
  const { files } = call.task;
  const fd = files.reserve();
  const buffer = new DmaBuf(call.context.iommufd.memory, size);
  files.install(fd, buffer, { cloexec: (open_flags & O_CLOEXEC) !== 0 });
  return fd;
}

/** IOMMU_TEST_OP_DMABUF_REVOKE */
export function dmabufRevoke({
  call,
  arg: { dmabuf_fd, revoked },
}: TestCall<'dmabuf_revoke'>): void {
  const open = call.task.files.get(dmabuf_fd);
  if (!open) throw new ErrnoError('EBADF', `descriptor ${dmabuf_fd} is not open`);
  if (open.kind !== 'device' || !(open.file instanceof DmaBuf)) {
    throw new ErrnoError('EINVAL', `descriptor ${dmabuf_fd} is no DMA-buf`);
  }
  open.file.setRevoked(revoked !== 0);
}
