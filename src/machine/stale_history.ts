// SPDX-License-Identifier: Apache-2.0
/** What software has changed, and what it has asked its IOMMUs to forget, in the order in which it came. */
import type { Domain } from '../iommu/domain.ts';
import type { Translated } from '../pci/dma.ts';
import type { InvalidationNotice } from '../pci/translator.ts';

/** An access, and what it met. */
export interface Seen {
  readonly seen: Translated;
  /** In force for it. */
  readonly domain: Domain | undefined;
  /** Addresses of the second stage that it goes through, where there are two. */
  readonly below: readonly bigint[];
}

interface Event {
  readonly text: string;
  /** What software asked to forget; absent for a change. */
  readonly asks?: InvalidationNotice;
  readonly concerns: (access: Seen) => boolean;
  /** It is a change of this domain, which is the stage below where another is in force: what was asked names addresses of that stage. */
  readonly stage?: Domain;
}

/** The last change before an access that concerns it, and what was asked for it. */
export interface LastChange {
  readonly text: string;
  readonly asked: readonly InvalidationNotice[];
  /** It changed the stage below. */
  readonly isBelow: boolean;
}

/** Changes and requests that are remembered. */
const MOST_EVENTS = 1000;

export class StaleHistory {
  readonly #events: Event[] = [];

  note(event: Event): void {
    this.#events.push(event);
    if (this.#events.length > MOST_EVENTS) this.#events.shift();
  }

  lastChangeFor(access: Seen): LastChange {
    let at = this.#events.length - 1;
    while (at >= 0) {
      const event = this.#events[at];
      if (event && !event.asks && event.concerns(access)) break;
      at--;
    }
    const { text = 'its first attach', stage } = this.#events[at] ?? {};
    const isBelow = stage !== undefined && stage !== access.domain;
    const asked = this.#askedFor(at, access);
    return { text: isBelow ? `${text} in the second stage` : text, isBelow, asked };
  }

  /** A change is known when its flush is over: what was asked for it comes before, back to the change before. */
  #askedFor(at: number, access: Seen): InvalidationNotice[] {
    let from = at - 1;
    while (from >= 0 && this.#events[from]?.asks) from--;
    return this.#events
      .slice(Math.max(from + 1, 0))
      .filter((event) => event.concerns(access))
      .flatMap(({ asks }) => asks ?? []);
  }
}
