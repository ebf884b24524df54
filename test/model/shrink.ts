// SPDX-License-Identifier: Apache-2.0
import type { Script, Step } from './commands.ts';
import { runScript, SequenceError } from './sequence.ts';

/** Runs of a sequence that shrinking may take. */
const MOST_RUNS = 3000;

/**
 * A shorter script that fails too: takes out stretches of steps, the longest first, for as long as what is left still fails. Which
 * failure it is may change on the way: the shortest sequence that shows any is what helps.
 */
export function shrink(error: SequenceError): SequenceError {
  let best = fails({ ...error.script, steps: error.script.steps.slice(0, error.at + 1) }) ?? error;
  let runs = 0;
  for (
    let size = Math.ceil(best.script.steps.length / 2);
    size >= 1;
    size = size > 1 ? Math.ceil(size / 2) : 0
  ) {
    for (let again = true; again;) {
      again = false;
      for (let at = best.script.steps.length - size; at >= 0 && runs < MOST_RUNS; at -= size) {
        runs++;
        const smaller = fails(without(best.script, at, size));
        if (!smaller) continue;
        best = smaller;
        again = size === 1;
      }
    }
  }
  return best;
}

const without = (script: Script, at: number, count: number): Script => ({
  ...script,
  steps: script.steps.filter((_step: Step, index) => index < at || index >= at + count),
});

/** How a script fails, cut off after the step that does; undefined where it does not. */
function fails(script: Script): SequenceError | undefined {
  try {
    runScript(script);
    return undefined;
  } catch (error) {
    if (!(error instanceof SequenceError)) throw error;
    const steps = script.steps.slice(0, error.at + 1);
    return new SequenceError({ ...script, steps }, error.at, error.cause);
  }
}
