// SPDX-License-Identifier: Apache-2.0
import { Prng } from '../base/prng.ts';
import type { Choices } from './choices.ts';
import { RandomChoices, RecordedChoices, ScriptedChoices } from './choices.ts';
import { OrderTree } from './order_tree.ts';
import type { SimOptions } from './sim.ts';
import { Sim } from './sim.ts';

/**
 * Spawns the tasks to explore and returns the check of what they leave behind, which throws where it is wrong. It is
 * called once for each interleaving, and must do the same every time.
 */
export type Program = (sim: Sim) => (() => void) | void;

export interface ExploreOptions {
  /** Enumerate no more than this many orders; 100,000 unless told. */
  readonly maxRuns?: number;
  /**
   * Leave out interleavings with more preemptions (turning away from a task that could go on). Without it all are
   * covered; most races need one or two, and the number of runs falls from exponential to polynomial.
   */
  readonly maxPreemptions?: number;
  /**
   * Leave out orders that cannot differ from one that is run: steps that take no lock and touch nothing in common are run in one order only.
   * For programs whose tasks share nothing but what locks guard and `Sim.touch` names; false unless told. Not together with `maxPreemptions`: of
   * orders that are the same, the one that is left out may be the one within bounds.
   */
  readonly reduce?: boolean;
  /** Where `maxRuns` was too low, run this many more orders, chosen at random by `seed`; 0 unless told. */
  readonly samples?: number;
  readonly seed?: number;
  /** The longest run in ns of virtual time, a step taking 1000; 10^8 unless told. */
  readonly limit?: number;
  readonly sim?: Omit<SimOptions, 'choices'>;
}

export interface ExploreResult {
  /** Orders that were enumerated. */
  readonly runs: number;
  /** Runs that were given up, because their order can differ from none before. */
  readonly redundant: number;
  /** Orders chosen at random. */
  readonly sampled: number;
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
  /** The optional tasks that took part. */
  readonly optional: readonly string[];
}

const RUN_LIMIT_NS = 1e8;

/** A run of one order. */
interface Outcome {
  readonly failure: Failure | undefined;
  /** It was given up, because its order can differ from none before. */
  readonly isRedundant: boolean;
}

/**
 * Runs the program in every interleaving of its tasks' steps, depth first, until one fails. Covered is what the tasks
 * yield at, and preemption points inside a step as far as others can run there to the end of a step; timers fire at
 * their time and are no choice.
 */
export function explore(program: Program, options: ExploreOptions = {}): ExploreResult {
  const { maxRuns = 100_000, samples = 0, seed = 1 } = options;
  const counts = { runs: 0, redundant: 0, sampled: 0 };
  let complete = true;
  for (const { failure, isRedundant } of everyOrder(program, options)) {
    if (isRedundant) counts.redundant++;
    else if (counts.runs === maxRuns) {
      complete = false;
      break;
    } else counts.runs++;
    if (failure) return { ...counts, complete, failure };
  }
  if (complete) return { ...counts, complete, failure: undefined };
  const random = new Prng(seed);
  while (counts.sampled < samples) {
    counts.sampled++;
    const choices = new RecordedChoices(new RandomChoices(random.fork(`order ${counts.sampled}`)));
    const failure = runOnce(program, choices, options);
    if (failure)
      return { ...counts, complete, failure: { ...failure, schedule: choices.schedule } };
  }
  return { ...counts, complete, failure: undefined };
}

/** All orders within the bounds on preemptions, one after the other, those that fail among them. */
export function* everyOrder(program: Program, options: ExploreOptions): Generator<Outcome> {
  const { maxPreemptions = Infinity, reduce = false } = options;
  if (reduce && maxPreemptions !== Infinity) {
    throw new RangeError('orders cannot be reduced where preemptions are bounded');
  }
  const tree = new OrderTree({ maxPreemptions, reduce });
  do {
    const failure = runOnce(program, tree, options);
    const { isRedundant, schedule } = tree;
    yield { isRedundant, failure: failure && !isRedundant ? { ...failure, schedule } : undefined };
  } while (tree.advance());
}

/** Runs one interleaving again, throwing what it threw. */
export function replay(
  program: Program,
  schedule: readonly number[],
  options: Pick<ExploreOptions, 'limit' | 'sim'> = {},
): void {
  const failure = runOnce(program, new ScriptedChoices(schedule), options);
  if (failure !== undefined) throw failure.error;
}

function runOnce(
  program: Program,
  choices: Choices,
  options: ExploreOptions,
): Omit<Failure, 'schedule'> | undefined {
  const sim = new Sim({ checkLocks: true, ...options.sim, choices });
  const steps: string[] = [];
  sim.onStep = (task, step) => steps.push(`${task.name}: ${step}`);
  try {
    const check = program(sim);
    sim.join(undefined, { limit: options.limit ?? RUN_LIMIT_NS });
    check?.();
    return undefined;
  } catch (error) {
    return { error, steps, optional: [...sim.optionalTasks] };
  }
}
