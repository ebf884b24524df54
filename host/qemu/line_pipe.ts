// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import type { Arena } from '../arena.ts';
import { HostError } from '../host_error.ts';
import { openLibc } from '../libc.ts';

const POLLIN = 1;
/** How long another process may take to answer, and how often it is looked at meanwhile. */
const LIMIT_MS = 20_000;
const LOOK_MS = 100;

/** The process at the other end. */
export interface Peer {
  hasEnded(): boolean;
  /** What it said of itself elsewhere, for errors. */
  said(): string;
}

/**
 * Lines to and from another process through two named pipes, `PATH.in` and `PATH.out` as QEMU calls them, wholly synchronous: a call
 * and its answer cost 50 us, of which most is the waking of two processes.
 */
export class LinePipe {
  readonly path: string;
  readonly #peer: Peer;
  readonly #buffer = Buffer.alloc(1 << 16);
  readonly #libc = openLibc();
  readonly #arena: Arena;
  readonly #pollfd: number;
  readonly #in: number;
  readonly #out: number;
  #rest = '';
  #lastSent = 'nothing';

  /** Makes the pipes. They are open from now on: the other process may come at any time. */
  constructor(path: string, peer: Peer) {
    this.path = path;
    this.#peer = peer;
    execFileSync('mkfifo', [`${path}.in`, `${path}.out`]);
    // Both ways: opening does not wait for the other process, which may open, close and open again.
    this.#in = openSync(`${path}.in`, 'r+');
    this.#out = openSync(`${path}.out`, 'r+');
    this.#arena = this.#libc.newArena(64);
    this.#pollfd = this.#arena.take(8);
    this.#arena.i32[this.#pollfd >>> 2] = this.#out;
    this.#arena.u32[(this.#pollfd >>> 2) + 1] = POLLIN;
  }

  /** One line, or several with newlines between them. */
  send(text: string): void {
    this.#lastSent = text;
    writeSync(this.#in, `${text}\n`);
  }

  /** The next line. Throws HostError, which names what was sent last, where the other process has ended or does not answer. */
  receive(): string {
    for (;;) {
      const end = this.#rest.indexOf('\n');
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return line;
      }
      this.#fill();
    }
  }

  close(): void {
    closeSync(this.#in);
    closeSync(this.#out);
  }

  #fill(): void {
    for (let waited = 0; ; waited += LOOK_MS) {
      // Below 0: a signal came. Only where there is something, the read does not wait for ever.
      if (this.#libc.poll(this.#arena.base + this.#pollfd, 1, LOOK_MS) > 0) break;
      if (this.#peer.hasEnded()) this.#fail('ended');
      if (waited >= LIMIT_MS) this.#fail(`has not answered for ${LIMIT_MS / 1000} s`);
    }
    const count = readSync(this.#out, this.#buffer, 0, this.#buffer.length, null);
    this.#rest += this.#buffer.toString('latin1', 0, count);
  }

  #fail(what: string): never {
    const said = this.#peer.said().trim();
    throw new HostError(
      `QEMU ${what}; last it was sent '${this.#lastSent}'${said === '' ? '' : `, and it said:\n${said}`}`,
    );
  }
}
