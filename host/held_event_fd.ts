// SPDX-License-Identifier: Apache-2.0
import type { EventFd } from '../src/kernel/file.ts';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import type { Libc } from './libc.ts';
import type { EventFdWatches } from './event_fd_watches.ts';
import { POLLOUT } from './uapi.ts';

/** Where the poll descriptor and the number to add are, by arena: shared by all, since each use ends before the next begins. */
const places = new WeakMap<Arena, number>();

/** Who is told of what goes through one: signalled by us, and by the client. */
interface Told {
  signalled(): void;
  heard(): void;
}

/** A client's eventfd through a descriptor of our own, which keeps it alive whatever becomes of the client's. */
export class HeldEventFd implements EventFd {
  private readonly libc: Libc;
  private readonly arena: Arena;
  private readonly writeNr: number;
  private readonly at: number;
  private readonly told: Told;
  private readonly watches: EventFdWatches;
  private fd: number;

  /** Owns `fd` from now on. */
  constructor(
    host: {
      readonly libc: Libc;
      readonly arena: Arena;
      readonly arch: Arch;
      readonly watches: EventFdWatches;
    },
    fd: number,
    told: Told,
  ) {
    this.libc = host.libc;
    this.arena = host.arena;
    this.writeNr = host.arch.calls.write;
    this.watches = host.watches;
    this.fd = fd;
    this.told = told;
    const known = places.get(host.arena);
    this.at = known ?? host.arena.take(16);
    if (known === undefined) places.set(host.arena, this.at);
  }

  signal(): void {
    if (this.fd < 0) return;
    const { arena, at, libc } = this;
    this.told.signalled();
    // The client may have left it blocking: a write to a full counter would stop us with it.
    arena.i32[at >>> 2] = this.fd;
    arena.i32[(at >>> 2) + 1] = POLLOUT;
    const revents = libc.poll(arena.base + at, 1, 0) === 1 ? arena.u32[(at >>> 2) + 1] : 0;
    if ((revents as number) >>> 16 !== POLLOUT) return;
    arena.writeWord(at + 8, 1);
    libc.call3(this.writeNr, this.fd, arena.base + at + 8, 8);
  }

  watch(told: () => void): void {
    this.watches.add(this.fd, () => {
      this.told.heard();
      told();
    });
  }

  close(): void {
    if (this.fd < 0) return;
    this.watches.remove(this.fd);
    this.libc.close(this.fd);
    this.fd = -1;
  }
}
