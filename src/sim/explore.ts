// SPDX-License-Identifier: Apache-2.0
import type { ExploreOptions, ExploreResult, Program } from './orders.ts';
import { explore } from './orders.ts';
import { shortestFailure } from './shortest.ts';

export type { Described, ExploreOptions, ExploreResult, Failure, Program } from './orders.ts';
export { explore, replay } from './orders.ts';
export { shortestFailure } from './shortest.ts';

/** The same as {@link exploredOrThrow}, of which it returns the number of orders that were run to their end. */
export function exploreOrThrow(program: Program, options: ExploreOptions = {}): number {
  const { runs, sampled } = exploredOrThrow(program, options);
  return runs + sampled;
}

/** Explores, and throws a failure with its steps and how to see it again, or that the bound on runs was too low. */
export function exploredOrThrow(program: Program, options: ExploreOptions = {}): ExploreResult {
  const result = explore(program, options);
  const { runs, complete, failure, sampled } = result;
  if (failure === undefined) {
    if (complete || sampled > 0) return result;
    throw new Error(
      `${runs} interleavings passed and there are more: raise maxRuns, set maxPreemptions, or ask for samples`,
    );
  }
  const { error, steps, schedule, without } = shortestFailure(program, options) ?? {
    ...failure,
    without: [],
  };
  const message = error instanceof Error ? error.message : String(error);
  const rest =
    without.length > 0 ? `, { sim: { without: new Set(${JSON.stringify(without)}) } }` : '';
  throw new Error(
    `an interleaving fails, after ${runs + sampled}: ${message}\n  ${steps.join('\n  ')}\n` +
      `to run it again: replay(program, [${schedule.join(', ')}]${rest})`,
    { cause: error },
  );
}
