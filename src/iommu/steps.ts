// SPDX-License-Identifier: Apache-2.0
/**
 * The operations of core for tasks. Drivers may let others run while they change their hardware, with the lock of the group held: a task
 * waits for that lock before it begins, where a plain function in its place could only find a deadlock.
 */
import type { Lock } from '../sim/lock.ts';
import { type Body, until } from '../sim/task.ts';
import { attach, detach, replace } from './attach.ts';
import type { Device } from './device.ts';
import type { Domain } from './domain.ts';
import type { AttachHandle } from './handle.ts';

/** Runs `body` in one step, begun when all the locks are free. */
export function* whenFree<R>(locks: readonly Lock[], body: () => R): Body<R> {
  const names = locks.map(({ name }) => name).join(', ');
  yield until(`${names} to be free`, () => locks.every((lock) => !lock.isLocked));
  return body();
}

const groupLocks = ({ group }: Device): readonly Lock[] => (group ? [group.mutex] : []);

/** See `attach` in attach.ts. */
export const attachSteps = (
  device: Device,
  pasid: number,
  domain: Domain,
  handle: AttachHandle,
): Body<number> => whenFree(groupLocks(device), () => attach(device, pasid, domain, handle));

/** See `replace` in attach.ts. */
export const replaceSteps = (
  device: Device,
  pasid: number,
  domain: Domain,
  handle: AttachHandle,
): Body<number> => whenFree(groupLocks(device), () => replace(device, pasid, domain, handle));

/** See `detach` in attach.ts. */
export const detachSteps = (device: Device, pasid: number, domain: Domain): Body =>
  whenFree(groupLocks(device), () => detach(device, pasid, domain));
