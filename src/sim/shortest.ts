// SPDX-License-Identifier: Apache-2.0
import type { ExploreOptions, Failure, Program } from './orders.ts';
import { everyOrder, explore } from './orders.ts';

/** A failure that was made short, with what it takes to see it again. */
export interface ShortFailure extends Failure {
  /** Optional tasks that it does not need: for `sim.without` of a replay. */
  readonly without: readonly string[];
}

/** How many orders the search for a shorter one may take, for each number of preemptions (or of delays). */
const MOST_RUNS = 5000;
const MOST = 4;

/**
 * Of a program that fails, an order that is easy to read: without the optional tasks that it does not need, then with the fewest
 * preemptions (delays where those are bounded), then with the fewest steps. Undefined where nothing fails within the bounds.
 */
export function shortestFailure(
  program: Program,
  options: ExploreOptions = {},
): ShortFailure | undefined {
  let { failure } = explore(program, options);
  if (!failure) return undefined;
  const without = new Set<string>();
  const fewer = { ...options, sim: { ...options.sim, without } };
  for (const name of failure.optional) {
    without.add(name);
    const smaller = explore(program, fewer).failure;
    if (smaller) failure = smaller;
    else without.delete(name);
  }
  for (let bound = 0; bound <= MOST; bound++) {
    const found = fewestSteps(program, {
      ...fewer,
      ...{ reduce: false, merge: false },
      ...(options.maxDelays === undefined ? { maxPreemptions: bound } : { maxDelays: bound }),
    });
    if (found) return { ...found, without: [...without] };
  }
  return { ...failure, without: [...without] };
}

function fewestSteps(program: Program, options: ExploreOptions): Failure | undefined {
  let best: Failure | undefined;
  let runs = 0;
  for (const { failure } of everyOrder(program, options)) {
    if (failure && !(best && best.steps.length <= failure.steps.length)) best = failure;
    if (++runs === MOST_RUNS) break;
  }
  return best;
}
