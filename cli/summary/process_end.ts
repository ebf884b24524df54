// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';

/** PF_EXITING of linux/sched.h: set before an ending process loses its descriptors. */
const exiting = 0x4;

const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
};

/** The process that a thread belongs to; the thread's own number where it is gone. */
export function processOf(tid: number): number {
  const match = /^Tgid:\s*(\d+)/m.exec(read(`/proc/${tid}/status`) ?? '');
  return match?.[1] === undefined ? tid : Number(match[1]);
}

/** Whether a process is gone or on its way out: what it loses now, it does not close itself. */
export function isEnding(pid: number): boolean {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) return true;
  // The second field is the command's name in parentheses, which may contain anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, flags] = [fields[0], Number(fields[6])];
  return state === 'Z' || state === 'X' || (flags & exiting) !== 0;
}
