// SPDX-License-Identifier: Apache-2.0
import type { Prng } from '../base/prng.ts';

/** Decides who runs next, wherever more than one can. */
export interface Choices {
  /**
   * One of the options, by index; there are at least two. `current` is the index of going on with whoever ran last, or
   * -1 where that one cannot go on: choosing another one is a preemption.
   */
  choose(options: readonly string[], current: number): number;
}

/** Every option equally likely. */
export class RandomChoices implements Choices {
  readonly #prng: Prng;

  constructor(prng: Prng) {
    this.#prng = prng;
  }

  choose(options: readonly string[]): number {
    return this.#prng.below(options.length);
  }
}

/** A choice that was made: which of how many, where 0 is going on with whoever ran last (or the first that can). */
export interface Choice {
  readonly of: number;
  readonly chosen: number;
}

/**
 * Follows a script and then goes on without preemptions, writing down every choice: what the explorer extends, and what
 * a replay follows.
 */
export class ScriptedChoices implements Choices {
  readonly made: Choice[] = [];
  readonly #script: readonly (Choice | number)[];
  readonly #maxPreemptions: number;
  #preemptions = 0;

  constructor(script: readonly (Choice | number)[] = [], maxPreemptions = Infinity) {
    this.#script = script;
    this.#maxPreemptions = maxPreemptions;
  }

  choose(options: readonly string[], current: number): number {
    if (current >= 0 && this.#preemptions >= this.#maxPreemptions) return current;
    const scripted = this.#script[this.made.length];
    const chosen = typeof scripted === 'object' ? scripted.chosen : (scripted ?? 0);
    const wrongCount = typeof scripted === 'object' && scripted.of !== options.length;
    if (wrongCount || chosen >= options.length) {
      throw new Error(
        `choice ${this.made.length} is between ${options.join(', ')}, which is not what the script was made for: ` +
          `the program depends on something other than its choices`,
      );
    }
    this.made.push({ of: options.length, chosen });
    if (current >= 0 && chosen !== 0) this.#preemptions++;
    // The current one is moved to the front, the others keep their order.
    if (current < 0) return chosen;
    if (chosen === 0) return current;
    return chosen <= current ? chosen - 1 : chosen;
  }
}
