// SPDX-License-Identifier: Apache-2.0
import type { CallHost, Handler } from './call_host.ts';
import { type CallerFile, callerFile } from './caller_file.ts';

const EBADF = 9;

/** ioctl: the hot path. The file is identified by what the number is in the client at this moment. */
export function ioctlCall(host: CallHost): Handler {
  const { notification: call, observer, injection } = host;
  let warnedAbout = 0;

  return () => {
    const tid = call.tid;
    const fd = call.int(0);
    const found = callerFile(host, fd);
    if (found === 'closed') return void call.reply(-EBADF);
    if (found === 'not permitted' && warnedAbout !== tid) {
      warnedAbout = tid;
      host.warn(tid, 'its descriptors cannot be seen (not dumpable, or ptrace is restricted)');
    }
    if (typeof found === 'string') return void call.resume();
    serve(found, fd);
  };

  function serve({ task, file: found }: CallerFile, fd: number): void {
    const cmd = call.uint(1);
    const arg = call.big(2);
    const { file } = found;
    const isInjected = injection.begin(task);
    if (observer.called === undefined) {
      const { value } = file.ioctl(task, cmd, arg);
      if (isInjected) injection.end(task, value);
      call.reply(value);
      return;
    }
    const start = performance.now();
    const result = file.ioctl(task, cmd, arg);
    const micros = (performance.now() - start) * 1000;
    if (isInjected) injection.end(task, result.value);
    observer.called(task.pid, fd, file, cmd, arg, result, micros);
    call.reply(result.value);
  }
}
