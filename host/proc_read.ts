// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs';

/** Reads a /proc file of a few KB in one call (their size reads 0, which makes readFileSync slow). */
export function readSmall(path: string): string {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.allocUnsafe(8192);
    let length = 0;
    for (;;) {
      const got = readSync(fd, bytes, length, bytes.length - length, null);
      length += got;
      if (got === 0 || length === bytes.length) return bytes.toString('latin1', 0, length);
    }
  } finally {
    closeSync(fd);
  }
}

/** The text of /proc/TID/status; empty where the task is gone, which can be at any moment. */
export function readStatus(tid: number): string {
  try {
    return readSmall(`/proc/${tid}/status`);
  } catch {
    return '';
  }
}

/** The process that a process came from, or 0. */
export function parentOf(pid: number): number {
  return Number(/^PPid:\s*(\d+)/m.exec(readStatus(pid))?.[1] ?? 0);
}

/** Children of all threads of a process. Throws where Linux does not tell (CONFIG_PROC_CHILDREN) or the process is gone. */
export function childrenOf(pid: number | 'self'): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'latin1')
      .split(' ')
      .filter(Boolean)
      .map(Number),
  );
}

/** The thread group of a task, or undefined where it is gone. */
export function tgidOf(tid: number): number | undefined {
  const match = /^Tgid:\s*(\d+)/m.exec(readStatus(tid));
  return match?.[1] === undefined ? undefined : Number(match[1]);
}
