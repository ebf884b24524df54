// SPDX-License-Identifier: Apache-2.0
import type { InvalidateCompletion, InvalidateRequest } from '../../pci/ats_messages.ts';
import type { Clock, Timer } from '../../sim/clock.ts';

const ITAGS = 32;
/** How long a function may take, in ns of virtual time: a minute and a half (the PCI Express specification, unverified). */
const TIMEOUT = 90e9;

/** Where invalidation requests go. False: there is no function with this requester id, or its ATS is off; nobody completes them. */
export type SendInvalidation = (sid: number, request: InvalidateRequest) => boolean;

/** What the queue hears of them. */
export interface DeviceTlbListener {
  timedOut(sid: number): void;
  /** A completion that nobody waits for. */
  stray(sid: number): void;
}

/** An ITag that is out. */
interface Pending {
  /** In the order in which they were sent, from 1 on. */
  readonly number: number;
  seen: number;
  /** How many completions there will be, as the first says. */
  count: number | undefined;
  readonly timer: Timer;
  /** Nobody waits any more; the tag stays away as long as there are others. */
  isAbandoned: boolean;
}

/** The caches in devices (ATC), as the unit invalidates them: requests with ITags that are out, for each function. */
export class DeviceTlbs {
  /** Undefined: no device is there that could keep anything. */
  send: SendInvalidation | undefined = undefined;
  /** How many were sent. */
  sent = 0;
  readonly #clock: Clock;
  readonly #listener: DeviceTlbListener;
  readonly #pending = new Map<number, (Pending | undefined)[]>();

  constructor(clock: Clock, listener: DeviceTlbListener) {
    this.#clock = clock;
    this.#listener = listener;
  }

  /** The number of the oldest that somebody waits for; Infinity where there is none. */
  get oldest(): number {
    let oldest = Infinity;
    for (const tags of this.#pending.values()) {
      for (const one of tags) {
        if (one && !one.isAbandoned && one.number < oldest) oldest = one.number;
      }
    }
    return oldest;
  }

  /** Whether another one may be out; `most` (MIP) of them at a time, 0 for 32. */
  canSend(sid: number, most: number): boolean {
    const tags = this.#pending.get(sid);
    if (tags === undefined) return true;
    const out = tags.reduce((sum, one) => sum + (one && !one.isAbandoned ? 1 : 0), 0);
    return out < (most === 0 ? ITAGS : most);
  }

  /** Sends one, where {@link canSend}. It may be complete when this returns. */
  invalidate(sid: number, request: Omit<InvalidateRequest, 'itag'>): void {
    if (this.send === undefined) return;
    const tags = this.#pending.get(sid) ?? Array.from<undefined>({ length: ITAGS });
    this.#pending.set(sid, tags);
    // A tag that somebody waited for in vain is taken where no other is left: its completion may come yet.
    let itag = tags.indexOf(undefined);
    if (itag < 0) itag = tags.findIndex((one) => one?.isAbandoned);
    const made: Pending = {
      number: ++this.sent,
      ...{ seen: 0, count: undefined, isAbandoned: false },
      timer: this.#clock.after(TIMEOUT, () => this.#timeOut(sid, made)),
    };
    tags[itag] = made;
    this.send(sid, { ...request, itag });
  }

  /** From a function. */
  complete(sid: number, { itags, count }: InvalidateCompletion): void {
    for (let itag = 0; itag < ITAGS; itag++) {
      if (((itags >>> itag) & 1) === 0) continue;
      const tags = this.#pending.get(sid);
      const pending = tags?.[itag];
      if (tags === undefined || pending === undefined) {
        this.#listener.stray(sid);
        continue;
      }
      pending.count ??= count;
      if (++pending.seen < pending.count) continue;
      tags[itag] = undefined;
      this.#clock.cancel(pending.timer);
    }
  }

  reset(): void {
    for (const tags of this.#pending.values()) {
      for (const one of tags) if (one) this.#clock.cancel(one.timer);
    }
    this.#pending.clear();
  }

  #timeOut(sid: number, pending: Pending): void {
    pending.isAbandoned = true;
    this.#listener.timedOut(sid);
  }
}
