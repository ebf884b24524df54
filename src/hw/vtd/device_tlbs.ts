// SPDX-License-Identifier: Apache-2.0
import type { InvalidateCompletion, InvalidateRequest } from '../../pci/ats_messages.ts';
import type { Clock, Timer } from '../../sim/clock.ts';

const ITAGS = 32;
/** How long a function may take, in ns of virtual time: a minute and a half (VTD-5.10 §4.3 leaves it open). */
const TIMEOUT = 90e9;

/** Where invalidation requests go. Where no function has this requester id, nobody completes them. */
export type SendInvalidation = (sid: number, request: InvalidateRequest) => void;

/** What the queue hears of them. */
export interface DeviceTlbListener {
  timedOut(sid: number): void;
  /** A completion that nobody waits for. */
  stray(sid: number): void;
}

/** An ITag that is out. */
interface Pending {
  /** The physical function that its function belongs to. */
  readonly physical: number;
  /** In the order in which they were sent, from 1 on. */
  readonly number: number;
  /** Completions that have come. */
  seen: number;
  readonly timer: Timer;
}

/** What a descriptor for a device TLB asks for. */
export interface DeviceTlbRequest extends Omit<InvalidateRequest, 'itag'> {
  readonly sid: number;
  /** How many may be out at a time (MIP), 0 for 32, to this physical function (PFSID). */
  readonly most: number;
  readonly physical: number;
}

/** The caches in devices (ATC), as the unit invalidates them: requests with ITags that are out. Source: VTD-5.10 §4.3. */
export class DeviceTlbs {
  /** Undefined: no device is there that could keep anything. */
  send: SendInvalidation | undefined = undefined;
  /** How many were sent. */
  sent = 0;
  readonly #clock: Clock;
  readonly #listener: DeviceTlbListener;
  /** By requester and ITag. */
  readonly #pending = new Map<number, (Pending | undefined)[]>();
  /** How many of them are out: mostly none, and then nothing is looked for. */
  #count = 0;

  constructor(clock: Clock, listener: DeviceTlbListener) {
    this.#clock = clock;
    this.#listener = listener;
  }

  /** The number of the oldest; Infinity where there is none. */
  get oldest(): number {
    let oldest = Infinity;
    if (this.#count === 0) return oldest;
    for (const one of this.#out()) if (one.number < oldest) oldest = one.number;
    return oldest;
  }

  /** Whether another one may be out. */
  canSend({ sid, most, physical }: DeviceTlbRequest): boolean {
    if (this.#count === 0) return true;
    let out = 0;
    for (const one of this.#out()) if (one.physical === physical) out++;
    const tags = this.#pending.get(sid);
    return out < (most === 0 ? ITAGS : most) && (tags?.includes(undefined) ?? true);
  }

  /** Sends one, where {@link canSend}. It may be complete when this returns. */
  invalidate({ sid, physical, pasid, range, global }: DeviceTlbRequest): void {
    if (this.send === undefined) return;
    const tags = this.#pending.get(sid) ?? Array.from<undefined>({ length: ITAGS });
    this.#pending.set(sid, tags);
    const itag = tags.indexOf(undefined);
    tags[itag] = {
      ...{ physical, number: ++this.sent, seen: 0 },
      timer: this.#clock.after(TIMEOUT, () => {
        tags[itag] = undefined;
        this.#count--;
        this.#listener.timedOut(sid);
      }),
    };
    this.#count++;
    this.send(sid, { itag, pasid, range, global });
  }

  /** From a function: each valid ITag of the message first, then those that are not. */
  complete(sid: number, { itags, count }: InvalidateCompletion): void {
    const tags = this.#pending.get(sid);
    let isStray = false;
    for (let itag = 0; itag < ITAGS; itag++) {
      if (((itags >>> itag) & 1) === 0) continue;
      const pending = tags?.[itag];
      if (tags === undefined || pending === undefined) {
        isStray = true;
        continue;
      }
      if (++pending.seen < count) continue;
      tags[itag] = undefined;
      this.#count--;
      this.#clock.cancel(pending.timer);
    }
    if (isStray) this.#listener.stray(sid);
  }

  reset(): void {
    for (const one of this.#out()) this.#clock.cancel(one.timer);
    this.#pending.clear();
    this.#count = 0;
  }

  *#out(): Iterable<Pending> {
    for (const tags of this.#pending.values()) for (const one of tags) if (one) yield one;
  }
}
