// SPDX-License-Identifier: Apache-2.0

/** A timer that has been set; `cancel` it or let it fire. */
export interface Timer {
  /** In ns of virtual time. */
  readonly due: number;
}

interface Entry extends Timer {
  readonly fire: () => void;
}

/**
 * Virtual time in ns, as a number: exact for 104 days. It moves only when somebody moves it, and never back; timers
 * fire meanwhile, by due time and then in the order in which they were set.
 */
export class Clock {
  #now = 0;
  /** Latest first, so that the next to fire is popped off the end. Few timers are set at any time. */
  readonly #timers: Entry[] = [];

  get now(): number {
    return this.#now;
  }

  /** When the next timer fires, or undefined where none is set. */
  get nextDue(): number | undefined {
    return this.#timers.at(-1)?.due;
  }

  /** Calls `fire` once, when `ns` have passed. A delay of 0 fires at the next move of the clock, not now. */
  after(ns: number, fire: () => void): Timer {
    if (!(ns >= 0)) throw new RangeError(`a timer cannot be set ${ns} ns ahead`);
    const entry: Entry = { due: this.#now + ns, fire };
    // The end fires first, and of those due at the same time the earlier set: so in front of them.
    let at = this.#timers.length;
    while (at > 0 && (this.#timers[at - 1]?.due ?? 0) <= entry.due) at--;
    this.#timers.splice(at, 0, entry);
    return entry;
  }

  /** False where it has fired or was cancelled before. */
  cancel(timer: Timer): boolean {
    const at = this.#timers.indexOf(timer as Entry);
    if (at >= 0) this.#timers.splice(at, 1);
    return at >= 0;
  }

  /** Moves to `time`, firing what falls due on the way at its own time; a time in the past fires what is due now. */
  advanceTo(time: number): void {
    for (
      let next = this.#timers.at(-1);
      next !== undefined && next.due <= Math.max(time, this.#now);
    ) {
      this.#timers.pop();
      this.#now = Math.max(this.#now, next.due);
      next.fire();
      next = this.#timers.at(-1);
    }
    if (time > this.#now) this.#now = time;
  }

  advanceBy(ns: number): void {
    const time = this.#now + ns;
    // Paid at every step of every task: one comparison while no timer is near.
    if ((this.nextDue ?? Infinity) > time) this.#now = time;
    else this.advanceTo(time);
  }
}
