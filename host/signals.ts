// SPDX-License-Identifier: Apache-2.0
/**
 * Signals while the loop blocks the main thread. libuv's handler writes to a pipe that its event loop reads: the pipe's
 * read end is among what our loop waits for, and when it is readable, the event loop gets a turn and runs the listeners below.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import type { Arena } from './arena.ts';
import type { Libc } from './libc.ts';
import { POLLIN } from './uapi.ts';

/** Passed on to the program. A terminal sends the others to its whole process group by itself. */
const passedOn = ['SIGTERM', 'SIGHUP', 'SIGUSR2'] as const;
/** Ctrl-C, Ctrl-\: the program gets them from the terminal and decides; we only must not die first. */
const left = ['SIGINT', 'SIGQUIT'] as const;

export class Signals {
  /** Readable when a signal has arrived; undefined where it was not found, so that the loop must look now and then. */
  readonly pipe: number | undefined;
  private readonly undo: (() => void)[] = [];

  /** `pass` gets what is for the program, `child` is called when a child has ended. */
  constructor(libc: Libc, arena: Arena, pass: (signal: NodeJS.Signals) => void, child: () => void) {
    const listen = (signal: NodeJS.Signals, listener: () => void): void => {
      process.on(signal, listener);
      this.undo.push(() => process.off(signal, listener));
    };
    for (const signal of passedOn) listen(signal, () => pass(signal));
    for (const signal of left) listen(signal, () => undefined);
    listen('SIGCHLD', child);
    this.pipe = findPipe(libc, arena);
  }

  close(): void {
    for (const undo of this.undo) undo();
  }
}

/** The read end of libuv's signal pipe: the one that becomes readable when we send ourselves a SIGCHLD. */
function findPipe(libc: Libc, arena: Arena): number | undefined {
  const pollfd = arena.take(8);
  const readable = (fd: number): boolean => isReadable(libc, arena, pollfd, fd);
  const quiet = readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => isPipe(fd) && !readable(fd));
  process.kill(process.pid, 'SIGCHLD');
  return quiet.find(readable);
}

/** Whether a read of `fd` would not block; `pollfd` is the place of 8 bytes of the arena. */
export function isReadable(libc: Libc, arena: Arena, pollfd: number, fd: number): boolean {
  arena.i32[pollfd >>> 2] = fd;
  arena.i32[(pollfd >>> 2) + 1] = POLLIN;
  return libc.poll(arena.base + pollfd, 1, 0) === 1;
}

function isPipe(fd: number): boolean {
  try {
    return fd > 2 && readlinkSync(`/proc/self/fd/${fd}`).startsWith('pipe:');
  } catch {
    return false;
  }
}
