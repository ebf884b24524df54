// SPDX-License-Identifier: Apache-2.0
/**
 * Queues that are read and written, and pages of the descriptor that are mapped. The engine has neither yet: on a descriptor that
 * is open these answer ENOSYS, which no recording holds. On one that is not they answer as any kernel does.
 */
import { Errno } from '../../../src/base/errno.ts';
import type { Op } from './ops.ts';
import type { Player } from './player.ts';

function onDescriptor(player: Player): void {
  const open = player.client.process.get(player.args.int('fd', -1));
  player.head(open ? -Errno.ENOSYS : -Errno.EBADF);
}

function poll(player: Player): void {
  const fd = player.args.int('fd', -1);
  if (fd < 0) player.print(' ret=-2 ev=0');
  else onDescriptor(player);
}

function mmap(player: Player): void {
  player.head(-Errno.ENOSYS);
}

/** What `mmap` answers for the address where it failed. */
const NOT_MAPPED = 0xdead_0000n;

function munmap(player: Player): void {
  player.head(player.args.u64('addr') === NOT_MAPPED ? -Errno.ENOENT : -Errno.ENOSYS);
}

export const eventOps: Readonly<Record<string, Op>> = {
  fault_read: onDescriptor,
  fault_write: onDescriptor,
  vevent_read: onDescriptor,
  vevent_write: onDescriptor,
  poll,
  mmap,
  munmap,
};
