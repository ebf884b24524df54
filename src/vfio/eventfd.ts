// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import type { EventFd } from '../kernel/file.ts';
import type { Task } from '../kernel/task.ts';

/**
 * Takes a reference to the eventfd that a descriptor of the client refers to; it lasts until `close`, whatever becomes of the
 * descriptor.
 * @throws ErrnoError EBADF (not open), EINVAL (something else)
 */
export function holdEventFd(task: Task, fd: number): EventFd {
  const open = task.files.get(fd);
  if (!open) throw new ErrnoError('EBADF', `descriptor ${fd} is not open`);
  if (open.kind !== 'eventfd') throw new ErrnoError('EINVAL', `descriptor ${fd} is not an eventfd`);
  return open.hold();
}
