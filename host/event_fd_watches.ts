// SPDX-License-Identifier: Apache-2.0
import { closeSync } from 'node:fs';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import type { Libc } from './libc.ts';
import {
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_EVENT_BYTES,
  EPOLL_EVENT_DATA,
  O_CLOEXEC,
  POLLIN,
  RWF_NOWAIT,
} from './uapi.ts';

/** As many are looked at in one turn of the loop; the rest in the next. */
const EVENTS = 16;

/** Eventfds of clients that the engine waits for, behind one descriptor for the supervisor's loop. */
export class EventFdWatches {
  /** An epoll instance: readable when one of them has been signalled. */
  readonly epoll: number;
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #arch: Arch;
  /** Room for events, and for what is read. */
  readonly #at: number;
  readonly #told = new Map<number, () => void>();

  constructor(libc: Libc, arena: Arena, arch: Arch) {
    this.#libc = libc;
    this.#arena = arena;
    this.#arch = arch;
    this.#at = arena.take(EVENTS * 16);
    this.epoll = libc.call2(arch.calls.epoll_create1, O_CLOEXEC, 0);
  }

  /** `fd` is a descriptor of our own, and open until `remove`. */
  add(fd: number, told: () => void): void {
    this.#told.set(fd, told);
    const { view } = this.#arena;
    view.setUint32(this.#at, POLLIN, true);
    view.setBigUint64(this.#at + EPOLL_EVENT_DATA, BigInt(fd), true);
    this.#control(EPOLL_CTL_ADD, fd);
  }

  /** Nothing happens where it was not added. Closing it is not enough: the client holds the same eventfd. */
  remove(fd: number): void {
    if (this.#told.delete(fd)) this.#control(EPOLL_CTL_DEL, fd);
  }

  /** Tells of what was signalled, once for each, however often. */
  run(): void {
    if (this.#told.size === 0) return;
    const { view } = this.#arena;
    const count = this.#libc.epollWait(this.epoll, this.#arena.base + this.#at, EVENTS, 0);
    const ready = Array.from({ length: Math.max(count, 0) }, (_, i) =>
      view.getUint32(this.#at + i * EPOLL_EVENT_BYTES + EPOLL_EVENT_DATA, true),
    );
    // One that is told can take another away.
    for (const fd of ready) if (this.#told.has(fd) && this.#take(fd)) this.#told.get(fd)?.();
  }

  close(): void {
    closeSync(this.epoll);
  }

  /** Reads the counter; false where the client was faster. Never blocks, however the client has set the eventfd. */
  #take(fd: number): boolean {
    const { base } = this.#arena;
    const iov = this.#at >>> 3;
    this.#arena.u64[iov] = BigInt(base + this.#at + 16);
    this.#arena.u64[iov + 1] = 8n;
    const at = base + this.#at;
    return this.#libc.call6(this.#arch.calls.preadv2, fd, at, 1, -1, -1, RWF_NOWAIT) === 8;
  }

  #control(what: number, fd: number): void {
    const event = this.#arena.base + this.#at;
    this.#libc.call6(this.#arch.calls.epoll_ctl, this.epoll, what, fd, event, 0, 0);
  }
}
