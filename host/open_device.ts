// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../src/base/errno.ts';
import type { DeviceFile } from '../src/kernel/file.ts';
import type { CallHost } from './call_host.ts';
import type { ClientTask } from './client_task.ts';
import type { Device } from './device.ts';
import {
  O_ACCMODE,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_EXCL,
  O_PATH,
  O_WRONLY,
} from './uapi.ts';

const EEXIST = 17;
const ENOTDIR = 20;
const EACCES = 13;
const EINVAL = 22;
const EOPNOTSUPP = 95;

/** Answers an open of a device node: checks in Linux's order, the engine's open, a descriptor in the caller. */
export function openDevice(
  host: CallHost,
  task: ClientTask,
  device: Device,
  flags: number,
  permits: (wanted: number) => boolean,
): void {
  const { notification: call, observer } = host;
  const refuse = (errno: number, why: string): void => {
    observer.opened?.(task.pid, device.path, -errno, undefined, why);
    call.reply(-errno);
  };
  if (flags & O_PATH) {
    return refuse(EOPNOTSUPP, 'O_PATH descriptors of device nodes cannot be delivered');
  }
  if ((flags & (O_CREAT | O_EXCL)) === (O_CREAT | O_EXCL)) {
    return refuse(EEXIST, 'O_CREAT|O_EXCL: the node exists');
  }
  if (flags & O_DIRECTORY) return refuse(ENOTDIR, 'O_DIRECTORY: it is a device node');
  const access = flags & O_ACCMODE;
  const wanted = access === 0 ? 4 : access === O_WRONLY ? 2 : 6;
  if (!permits(wanted)) {
    return refuse(EACCES, `mode ${device.mode.toString(8)} does not permit it to this user`);
  }
  let file: DeviceFile;
  const isInjected = host.injection.begin(task);
  try {
    file = device.open(task);
    if (isInjected) host.injection.end(task, 0);
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    if (isInjected) host.injection.end(task, -error.errno);
    return refuse(error.errno, error.message);
  }
  if (flags & O_DIRECT) {
    file.release();
    return refuse(EINVAL, 'O_DIRECT: the device has no direct I/O');
  }
  const prepared = host.openFiles.prepare(device.path.slice(1).replaceAll('/', '_'), flags);
  if (typeof prepared === 'number') {
    file.release();
    return refuse(-prepared, 'the supervisor is out of descriptors (its RLIMIT_NOFILE)');
  }
  prepared.commit(file, device);
  const cloexec = flags & O_CLOEXEC;
  const number = task.files.freeNumber();
  let result = call.answerWithFd(prepared.fd, number, cloexec);
  if (result < 0 && number !== undefined) {
    // The program lowered its limit below our range: any number will do.
    result = call.answerWithFd(prepared.fd, undefined, cloexec);
  }
  observer.opened?.(task.pid, device.path, result, file, '');
  if (result < 0) call.reply(result);
  prepared.handOver();
}
