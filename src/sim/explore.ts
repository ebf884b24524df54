// SPDX-License-Identifier: Apache-2.0
import type { Choice } from './choices.ts';
import { ScriptedChoices } from './choices.ts';
import type { SimOptions } from './sim.ts';
import { Sim } from './sim.ts';

/**
 * Spawns the tasks to explore and returns the check of what they leave behind, which throws where it is wrong. It is
 * called once for each interleaving, and must do the same every time.
 */
export type Program = (sim: Sim) => (() => void) | void;

export interface ExploreOptions {
  /** Give up after this many runs; 100,000 unless told. */
  readonly maxRuns?: number;
  /**
   * Leave out interleavings with more preemptions (turning away from a task that could go on). Without it all are
   * covered; most races need one or two, and the number of runs falls from exponential to polynomial.
   */
  readonly maxPreemptions?: number;
  /** The longest run in ns of virtual time, a step taking 1000; 10^8 unless told. */
  readonly limit?: number;
  readonly sim?: Omit<SimOptions, 'choices'>;
}

export interface ExploreResult {
  readonly runs: number;
  /** True where every interleaving within the bounds was run, or one failed. */
  readonly complete: boolean;
  readonly failure: Failure | undefined;
}

/** A run that threw: in a task, by deadlock, or in the check. */
export interface Failure {
  readonly error: unknown;
  /** The steps in order, `task: what it waited for`. */
  readonly steps: readonly string[];
  /** For {@link replay}. */
  readonly schedule: readonly number[];
}

const RUN_LIMIT_NS = 1e8;

/**
 * Runs the program in every interleaving of its tasks' steps, depth first, until one fails. Covered is what the tasks
 * yield at, and preemption points inside a step as far as others can run there to the end of a step; timers fire at
 * their time and are no choice.
 */
export function explore(program: Program, options: ExploreOptions = {}): ExploreResult {
  const { maxRuns = 100_000 } = options;
  let script: Choice[] = [];
  for (let runs = 1; runs <= maxRuns; runs++) {
    const { choices, failure } = runOnce(program, script, options);
    if (failure !== undefined) return { runs, complete: true, failure };
    script = choices.made;
    // The last choice that has an option left takes it; those after it start over.
    let last = script.pop();
    while (last !== undefined && last.chosen + 1 === last.of) last = script.pop();
    if (last === undefined) return { runs, complete: true, failure: undefined };
    script.push({ of: last.of, chosen: last.chosen + 1 });
  }
  return { runs: maxRuns, complete: false, failure: undefined };
}

/** {@link explore}, throwing the failure with its steps and schedule, or that the bound on runs was too low. */
export function exploreOrThrow(program: Program, options: ExploreOptions = {}): number {
  const { runs, complete, failure } = explore(program, options);
  if (failure !== undefined) {
    const { error, steps, schedule } = failure;
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(
      `interleaving ${runs} fails: ${message}\n  ${steps.join('\n  ')}\n` +
        `to run it again: replay(program, [${schedule.join(', ')}])`,
      { cause: error },
    );
  }
  if (!complete) {
    throw new Error(
      `${runs} interleavings passed and there are more: raise maxRuns or set maxPreemptions`,
    );
  }
  return runs;
}

/** Runs one interleaving again, throwing what it threw; give the `maxPreemptions` it was found with. */
export function replay(
  program: Program,
  schedule: readonly number[],
  options: ExploreOptions = {},
): void {
  const { failure } = runOnce(program, schedule, options);
  if (failure !== undefined) throw failure.error;
}

function runOnce(
  program: Program,
  script: readonly (Choice | number)[],
  options: ExploreOptions,
): { choices: ScriptedChoices; failure: Failure | undefined } {
  const choices = new ScriptedChoices(script, options.maxPreemptions);
  const sim = new Sim({ checkLocks: true, ...options.sim, choices });
  const steps: string[] = [];
  sim.onStep = (task, step) => steps.push(`${task.name}: ${step}`);
  try {
    const check = program(sim);
    sim.join(undefined, { limit: options.limit ?? RUN_LIMIT_NS });
    check?.();
    return { choices, failure: undefined };
  } catch (error) {
    const schedule = choices.made.map(({ chosen }) => chosen);
    return { choices, failure: { error, steps, schedule } };
  }
}
