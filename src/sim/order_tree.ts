// SPDX-License-Identifier: Apache-2.0
import type { Choices, Option } from './choices.ts';
import { fromRank } from './choices.ts';
import type { TouchKey } from './footprint.ts';
import { Footprint } from './footprint.ts';

/** Thrown out of a run that can show nothing new from here on. */
export class Redundant extends Error {
  constructor() {
    super('all that can follow is like what was run before');
    this.name = 'Redundant';
  }
}

/** A place where it is decided who runs next, on the way that is taken now. */
interface Place {
  /** By rank: 0 goes on with whoever ran last. */
  readonly options: readonly Option[];
  rank: number;
  /** What the chosen one touches until the next place. */
  footprint: Footprint;
  readonly preemptions: number;
  readonly delays: number;
  readonly isPreemptible: boolean;
  /**
   * Whoever has run first here, or at a place before with nothing between that it could notice, by id: an order that begins with it
   * again is nothing new. ("Sleep set": Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, 1996.)
   */
  readonly asleep: Map<number, Footprint>;
  /** All that what follows depends on; undefined where that is not known. */
  readonly state: string | undefined;
  /** Orders that begin with the way to here and are done with. */
  orders: number;
}

export interface OrderTreeOptions {
  readonly maxPreemptions: number;
  readonly maxDelays: number;
  /** Leaves out orders that differ from others only in the order of stretches with nothing in common. */
  readonly reduce: boolean;
}

/** All orders of a program's steps, depth first: each run takes the next way. */
export class OrderTree implements Choices {
  readonly #options: OrderTreeOptions;
  readonly #way: Place[] = [];
  #depth = 0;
  #isRedundant = false;
  /** Says what the rest of a run depends on: from a state it goes on once, however many ways lead to it. */
  state: (() => string | undefined) | undefined = undefined;
  /** For each state that is done with, the orders that lead on from it. */
  readonly #known = new Map<string, number>();
  /** Orders that this run stands for. */
  #new = 1;
  /** Orders that are done with and begin with no place that is left. */
  #orders = 0;

  constructor(options: OrderTreeOptions) {
    this.#options = options;
  }

  /** The choices of this run, for a replay. */
  get schedule(): number[] {
    return this.#way
      .slice(0, this.#depth)
      .filter(({ options }) => options.length > 1)
      .map(({ rank }) => rank);
  }

  /** Nobody may go on in this run: whatever came of it since does not count. */
  get isRedundant(): boolean {
    return this.#isRedundant;
  }

  /** The orders that are done with, run or like others: all of them, once there is none left. Without those that `reduce` leaves out. */
  get orders(): number {
    return this.#way.reduce((sum, { orders }) => sum + orders, this.#orders);
  }

  choose(options: readonly Option[], current: number, atPoint: boolean): number {
    const before = this.#way[this.#depth - 1];
    if (atPoint) before?.footprint.park();
    // Somebody may have caught it.
    if (this.#isRedundant) throw new Redundant();
    const ranked = options.map((_, rank) => options[fromRank(rank, current)] as Option);
    const place =
      this.#way[this.#depth] ??
      this.#arrive(before, ranked, current >= 0, atPoint ? undefined : this.state?.());
    if (place.options.length !== ranked.length || !ranked.every(isSame(place))) {
      throw new Error(
        `the choice after ${this.#depth} others is between ${names(ranked)}, and was between ${names(place.options)}: ` +
          `the program depends on something other than its choices`,
      );
    }
    this.#depth++;
    place.footprint = new Footprint();
    const index = fromRank(place.rank, current);
    if (atPoint && index === current) place.footprint.park();
    return index;
  }

  touched(key: TouchKey | undefined, write: boolean): void {
    const place = this.#way[this.#depth - 1];
    if (key !== undefined) place?.footprint.touch(key, write);
    else place?.footprint.touchEverything();
  }

  /** To the next order; false where there is none. */
  advance(): boolean {
    this.#count(this.#new);
    this.#new = 1;
    for (;;) {
      const place = this.#way.at(-1);
      if (!place) return false;
      const done = place.options[place.rank] as Option;
      if (this.#options.reduce) place.asleep.set(done.id, place.footprint);
      place.rank = this.#nextRank(place, place.rank + 1);
      if (place.rank >= 0) break;
      this.#way.pop();
      this.#count(place.orders);
      if (place.state !== undefined) this.#known.set(place.state, place.orders);
    }
    this.#depth = 0;
    this.#isRedundant = false;
    return true;
  }

  #count(orders: number): void {
    const place = this.#way.at(-1);
    if (place) place.orders += orders;
    else this.#orders += orders;
  }

  #arrive(
    before: Place | undefined,
    options: readonly Option[],
    isPreemptible: boolean,
    state: string | undefined,
  ): Place {
    const known = state === undefined ? undefined : this.#known.get(state);
    if (known !== undefined) this.#giveUp(known);
    const asleep = new Map<number, Footprint>();
    for (const [id, footprint] of before?.asleep ?? []) {
      const isThere = options.some((option) => option.id === id);
      if (isThere && before?.footprint.commutesWith(footprint)) asleep.set(id, footprint);
    }
    const place: Place = {
      options,
      rank: 0,
      footprint: new Footprint(),
      preemptions: before ? preemptionsAfter(before) : 0,
      delays: before ? before.delays + before.rank : 0,
      isPreemptible,
      asleep,
      state,
      orders: 0,
    };
    place.rank = this.#nextRank(place, 0);
    if (place.rank < 0) this.#giveUp(0);
    this.#way.push(place);
    return place;
  }

  /** The rest of this run is like others, which stand for so many orders. */
  #giveUp(orders: number): never {
    this.#new = orders;
    this.#isRedundant = true;
    throw new Redundant();
  }

  /** The first rank from `from` on that may be chosen, or -1. */
  #nextRank(place: Place, from: number): number {
    const { options, asleep, isPreemptible, preemptions, delays } = place;
    const { maxPreemptions, maxDelays } = this.#options;
    const mayPreempt = !isPreemptible || preemptions < maxPreemptions;
    const end = mayPreempt ? Math.min(options.length, maxDelays - delays + 1) : 1;
    for (let rank = from; rank < end; rank++) {
      if (!asleep.has((options[rank] as Option).id)) return rank;
    }
    return -1;
  }
}

const preemptionsAfter = ({ preemptions, isPreemptible, rank }: Place): number =>
  preemptions + (isPreemptible && rank > 0 ? 1 : 0);

const isSame =
  ({ options }: Place) =>
  (option: Option, rank: number): boolean =>
    option.id === options[rank]?.id;

const names = (options: readonly Option[]): string => options.map(({ name }) => name).join(', ');
