// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/**
 * The project's files that match, tracked or not yet tracked, without those that git ignores; paths from the top.
 * @param {RegExp} pattern
 * @returns {string[]}
 */
export function sourceFiles(pattern) {
  const out = execFileSync(
    'git',
    ['ls-files', '--cached', '--others', '--exclude-standard', '-z'],
    {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    },
  );
  return [...new Set(out.split('\0'))]
    .filter((file) => pattern.test(file) && existsSync(file))
    .toSorted();
}
