// SPDX-License-Identifier: Apache-2.0
import type { Sim } from '../sim/sim.ts';
import { type Body, until } from '../sim/task.ts';
import { encodeRange, type AtsRange } from './ats_entry.ts';
import type { AtsFunction, InvalidateCompletion } from './ats_messages.ts';

const ITAGS = 32;
/** How long a function may take, in ns of virtual time: the specification's minute and a half (unverified). */
export const INVALIDATE_TIMEOUT = 90e9;

/** How an invalidation ends. REFUSED: ATS is off at the function, so it keeps nothing. */
export type InvalidateOutcome = 'DONE' | 'TIMEOUT' | 'REFUSED';

interface Pending {
  /** Completions that have come, and how many there will be as the first said. */
  seen: number;
  count: number | undefined;
  /** Nobody waits any more. The tag is not used again until the completions have come: they could be taken for another's. */
  isAbandoned: boolean;
}

/**
 * The IOMMU's side of ATS invalidations of one function: which tags are out, and who waits for them. Never more at a time than the
 * function takes.
 */
export class Invalidator {
  /** Completions that nobody waited for: an unknown tag, or more than were due. */
  unexpected = 0;
  readonly #sim: Sim;
  readonly #fn: AtsFunction;
  readonly #depth: number;
  readonly #timeout: number;
  readonly #pending = new Map<number, Pending>();

  constructor(
    sim: Sim,
    fn: AtsFunction,
    options: { readonly depth?: number; readonly timeout?: number } = {},
  ) {
    this.#sim = sim;
    this.#fn = fn;
    this.#depth = options.depth ?? ITAGS;
    this.#timeout = options.timeout ?? INVALIDATE_TIMEOUT;
  }

  /** Tags that are out, those included that nobody waits for any more. */
  get outstanding(): number {
    return this.#pending.size;
  }

  /** From the function. */
  complete({ itags, count }: InvalidateCompletion): void {
    for (let itag = 0; itag < ITAGS; itag++) {
      if (((itags >>> itag) & 1) === 0) continue;
      const pending = this.#pending.get(itag);
      if (!pending || isComplete(pending)) {
        this.unexpected++;
        continue;
      }
      pending.count ??= count;
      pending.seen++;
      if (pending.isAbandoned && isComplete(pending)) this.#pending.delete(itag);
    }
  }

  /** Makes the function forget a range, here and now; other tasks run meanwhile. */
  invalidate(pasid: number | undefined, range: AtsRange, global = false): InvalidateOutcome {
    const deadline = this.#sim.clock.now + this.#timeout;
    if (!this.#sim.poll(() => this.#canSend(), this.#timeout)) return 'TIMEOUT';
    const itag = this.#send(pasid, range, global);
    if (itag === undefined) return 'REFUSED';
    const pending = this.#pending.get(itag);
    this.#sim.poll(() => isComplete(pending), Math.max(0, deadline - this.#sim.clock.now));
    return this.#end(itag);
  }

  /** The same step by step, for a task. */
  *invalidating(
    pasid: number | undefined,
    range: AtsRange,
    global = false,
  ): Body<InvalidateOutcome> {
    const deadline = this.#sim.clock.now + this.#timeout;
    // The timer makes the clock stop there; the comparison decides.
    const timer = this.#sim.clock.after(this.#timeout, () => undefined);
    const isLate = (): boolean => this.#sim.clock.now >= deadline;
    yield until('a free ITag', () => this.#canSend() || isLate());
    if (!this.#canSend()) return 'TIMEOUT';
    const itag = this.#send(pasid, range, global);
    if (itag !== undefined) {
      const pending = this.#pending.get(itag);
      yield until('the invalidate completion', () => isComplete(pending) || isLate());
    }
    this.#sim.clock.cancel(timer);
    return itag === undefined ? 'REFUSED' : this.#end(itag);
  }

  /** The function was reset: it keeps nothing, and completes nothing of before. */
  reset(): void {
    for (const pending of this.#pending.values()) pending.count = pending.seen;
    for (const [itag, { isAbandoned }] of this.#pending) {
      if (isAbandoned) this.#pending.delete(itag);
    }
  }

  #canSend(): boolean {
    return this.#pending.size < this.#depth;
  }

  #send(pasid: number | undefined, range: AtsRange, global: boolean): number | undefined {
    let itag = 0;
    while (this.#pending.has(itag)) itag++;
    this.#pending.set(itag, { seen: 0, count: undefined, isAbandoned: false });
    // The completion can come before this returns.
    const isTaken = this.#fn.invalidate({ itag, pasid, range: encodeRange(range), global });
    if (isTaken) return itag;
    this.#pending.delete(itag);
    return undefined;
  }

  #end(itag: number): InvalidateOutcome {
    const pending = this.#pending.get(itag);
    if (isComplete(pending)) {
      this.#pending.delete(itag);
      return 'DONE';
    }
    if (pending) pending.isAbandoned = true;
    return 'TIMEOUT';
  }
}

const isComplete = (pending: Pending | undefined): boolean =>
  pending === undefined || (pending.count !== undefined && pending.seen >= pending.count);
