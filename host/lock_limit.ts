// SPDX-License-Identifier: Apache-2.0
/**
 * RLIMIT_MEMLOCK under `--as-root`: root may raise it, which the root of a container often can not. Where Linux would refuse, the limit is
 * kept here, for the engine and for whoever asks; a child inherits it. What Linux permits it does itself.
 */
import type { CallHost, Handlers } from './call_host.ts';
import type { ClientTask } from './client_task.ts';
import type { Limits } from './limits.ts';
import { RLIMIT_MEMLOCK } from './uapi.ts';

const EFAULT = 14;
const EINVAL = 22;
const EPERM = 1;
const CAP_SYS_RESOURCE = 24;
const RLIMIT_BYTES = 16;

export function lockLimitCalls(host: CallHost): Handlers {
  const { notification: call, transfer, arch } = host;
  const handlers: Handlers = [];
  const bytes = new Uint8Array(RLIMIT_BYTES);
  const view = new DataView(bytes.buffer);

  const read = (address: bigint): Limits | undefined =>
    transfer.read(call.tid, address, bytes)
      ? { soft: view.getBigUint64(0, true), hard: view.getBigUint64(8, true) }
      : undefined;
  const write = (address: bigint, { soft, hard }: Limits): boolean => {
    view.setBigUint64(0, soft, true);
    view.setBigUint64(8, hard, true);
    return transfer.write(call.tid, address, bytes);
  };

  /** A result, or undefined to let Linux do it. `next` and `old` are addresses, 0 for none. */
  const answer = (task: ClientTask, next: bigint, old: bigint): number | undefined => {
    const { process } = task;
    const wanted = next === 0n ? undefined : read(next);
    if (next !== 0n && wanted === undefined) return -EFAULT;
    const now = process.lockLimit();
    const raises = wanted !== undefined && wanted.hard > now.hard;
    if (process.ownLockLimit === undefined && !raises) return undefined;
    if (wanted !== undefined && wanted.soft > wanted.hard) return -EINVAL;
    if (raises && !task.capable(CAP_SYS_RESOURCE)) return -EPERM;
    if (wanted !== undefined) process.ownLockLimit = wanted;
    return old !== 0n && !write(old, now) ? -EFAULT : 0;
  };
  const on = (nr: number | undefined, resource: number, places: () => [bigint, bigint]): void => {
    if (nr === undefined) return;
    handlers[nr] = () => {
      const isOurs = call.int(resource) === RLIMIT_MEMLOCK;
      const task = isOurs ? host.clients.verified(call.tid) : undefined;
      const result = task === undefined ? undefined : answer(task, ...places());
      if (result === undefined) call.resume();
      else call.reply(result);
    };
  };
  const calls = arch.calls as Readonly<Partial<Record<string, number>>>;
  on(calls['setrlimit'], 0, () => [call.big(1), 0n]);
  on(calls['getrlimit'], 0, () => [0n, call.big(1)]);
  const { prlimit64 } = arch.calls;
  on(prlimit64, 1, () => [call.big(2), call.big(3)]);
  const ofCaller = handlers[prlimit64];
  handlers[prlimit64] = () => {
    // Of another process it is Linux's business.
    if (call.int(0) === 0 || call.int(0) === call.tid) ofCaller?.();
    else call.resume();
  };
  return handlers;
}
