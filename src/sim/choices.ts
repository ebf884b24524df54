// SPDX-License-Identifier: Apache-2.0
import type { Prng } from '../base/prng.ts';
import type { TouchKey } from './footprint.ts';

/** Somebody who can run next. */
export interface Option {
  readonly name: string;
  /** 0: the foreground; tasks in order of their creation. */
  readonly id: number;
}

/** Decides who runs next, also where only one can. */
export interface Choices {
  /**
   * One of the options, by index; there is at least one. `current` is the index of going on with whoever ran last, or -1 where that
   * one cannot go on: choosing another one is a preemption. `atPoint` where the current one is in the middle of a step.
   */
  choose(options: readonly Option[], current: number, atPoint: boolean): number;
  /** Whoever runs has touched something (undefined: anything): see `Sim.touch`. Absent where nobody wants to know. */
  touched?(key: TouchKey | undefined, write: boolean): void;
}

/** Every option equally likely. */
export class RandomChoices implements Choices {
  readonly #prng: Prng;

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  choose(options: readonly Option[]): number {
    return options.length === 1 ? 0 : this.#prng.below(options.length);
  }
}

/** How a schedule counts: 0 is going on with whoever ran last (or the first that can), the others keep their order. */
export function toRank(index: number, current: number): number {
  if (current < 0) return index;
  if (index === current) return 0;
  return index < current ? index + 1 : index;
}

/** The index again; the other way round. */
export function fromRank(rank: number, current: number): number {
  if (current < 0) return rank;
  if (rank === 0) return current;
  return rank <= current ? rank - 1 : rank;
}

/** Follows a schedule, and then goes on without preemptions: a replay. */
export class ScriptedChoices implements Choices {
  readonly #script: readonly number[];
  #at = 0;

  constructor(script: readonly number[]) {
    this.#script = script;
  }

  choose(options: readonly Option[], current: number): number {
    if (options.length === 1) return 0;
    const rank = this.#script[this.#at++] ?? 0;
    if (rank >= options.length) {
      throw new Error(
        `choice ${this.#at} is between ${options.map(({ name }) => name).join(', ')}, which is not what the ` +
          `schedule was made for: the program depends on something other than its choices`,
      );
    }
    return fromRank(rank, current);
  }
}

/** Another's choices, written down as a schedule. */
export class RecordedChoices implements Choices {
  readonly schedule: number[] = [];
  readonly #choices: Choices;

  constructor(choices: Choices) {
    this.#choices = choices;
  }

  choose(options: readonly Option[], current: number, atPoint: boolean): number {
    const index = this.#choices.choose(options, current, atPoint);
    if (options.length > 1) this.schedule.push(toRank(index, current));
    return index;
  }
}
