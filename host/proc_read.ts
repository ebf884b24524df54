// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, readSync } from 'node:fs';

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

/** The thread group of a task, or undefined where it is gone. */
export function tgidOf(tid: number): number | undefined {
  try {
    const match = /^Tgid:\s*(\d+)/m.exec(readSmall(`/proc/${tid}/status`));
    return match?.[1] === undefined ? undefined : Number(match[1]);
  } catch {
    return undefined;
  }
}
