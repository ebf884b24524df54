// SPDX-License-Identifier: Apache-2.0
/** Finding the program, as a shell would: its path, or the exit status that tells why not. */
import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs';

/** Exit statuses of shells. */
export const NOT_FOUND = 127;
export const NOT_EXECUTABLE = 126;
/** Where execvp looks without PATH. */
const DEFAULT_PATH = '/bin:/usr/bin';

export type Found =
  | { readonly path: string; readonly argv: readonly string[] }
  | { readonly exitStatus: number; readonly why: string };

/** Looks `argv[0]` up in `searchPath` unless it holds a slash. A script without `#!` is given to /bin/sh. */
export function findCommand(argv: readonly string[], searchPath: string | undefined): Found {
  const name = argv[0] ?? '';
  const candidates = name.includes('/')
    ? [name]
    : (searchPath ?? DEFAULT_PATH).split(':').map((directory) => `${directory || '.'}/${name}`);
  let why = `${name}: command not found`;
  let exitStatus = NOT_FOUND;
  for (const path of name === '' ? [] : candidates) {
    try {
      if (statSync(path).isDirectory()) {
        [why, exitStatus] = [`${path}: is a directory`, NOT_EXECUTABLE];
        continue;
      }
      accessSync(path, constants.X_OK);
      return isBinary(path) ? { path, argv } : asScript(path, argv);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EACCES') [why, exitStatus] = [`${path}: permission denied`, NOT_EXECUTABLE];
    }
  }
  return { exitStatus, why };
}

function asScript(path: string, argv: readonly string[]): Found {
  return { path: '/bin/sh', argv: ['sh', path, ...argv.slice(1)] };
}

/** ELF or `#!` (or anything that we may not read, or another registered format): for exec itself to judge. */
function isBinary(path: string): boolean {
  let head: Buffer;
  try {
    const fd = openSync(path, 'r');
    head = Buffer.alloc(256);
    const length = readSync(fd, head, 0, head.length, 0);
    closeSync(fd);
    head = head.subarray(0, length);
  } catch {
    return true;
  }
  // Shells run a file as a script when it starts like text and Linux does not know its format.
  return head.length === 0 || head.includes(0) || head.toString('latin1', 0, 2) === '#!';
}
