// SPDX-License-Identifier: Apache-2.0
import type { CallHost } from './call_host.ts';
import type { ClientTask } from './client_task.ts';
import type { HostFile } from './open_files.ts';

/** One of our files, and the task that calls on it. */
export interface CallerFile {
  readonly task: ClientTask;
  readonly file: HostFile;
}

/**
 * What descriptor `fd` of the thread that makes the current call is: one of our files, or the reason why not. The hot path: nothing is
 * asked of Linux where what is known still holds.
 */
export function callerFile(
  host: CallHost,
  fd: number,
): CallerFile | 'other' | 'closed' | 'task gone' | 'not permitted' {
  const { notification: call, clients } = host;
  let task = clients.task(call.tid);
  let found = task?.files.identify(fd) ?? 'task gone';
  if (found === 'task gone') {
    // The number belonged to a task that has ended; or the caller itself was killed.
    if (task !== undefined) clients.forgetStale(task);
    task = clients.task(call.tid);
    found = task?.files.identify(fd) ?? 'task gone';
  }
  if (typeof found === 'string') return found;
  return task === undefined ? 'task gone' : { task, file: found };
}
