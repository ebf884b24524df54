// SPDX-License-Identifier: Apache-2.0
import { Prng } from '../base/prng.ts';
import type { Choices } from './choices.ts';
import { RandomChoices, RecordedChoices, ScriptedChoices } from './choices.ts';
import { OrderTree } from './order_tree.ts';
import type { SimOptions } from './sim.ts';
import { Sim } from './sim.ts';
import type { Task } from './task.ts';

/**
 * Spawns the tasks to explore and returns the check of what they leave behind, which throws where it is wrong. It is
 * called once for each interleaving, and must do the same every time.
 */
export type Program = (sim: Sim) => (() => void) | Described | void;

/** What a program returns for `merge`. */
export interface Described {
  check(): void;
  /**
   * All that the rest of a run and its check depend on, beside where its tasks are: what they share, their own variables, time where it
   * matters. The same text in two runs means that the same can follow.
   */
  state(): string;
}

export interface ExploreOptions {
  /** Enumerate no more than this many orders; 100,000 unless told. */
  readonly maxRuns?: number;
  /**
   * Leave out interleavings with more preemptions (turning away from a task that could go on). Without it all are
   * covered; most races need one or two, and the number of runs falls from exponential to polynomial.
   */
  readonly maxPreemptions?: number;
  /**
   * Leave out interleavings with more delays: each time one who could run next is passed over. In the order without any, whoever runs goes on for as
   * long as it can, and then the first that was spawned. The number of runs is polynomial in the number of steps, and does not grow with that of
   * tasks as the other bound's does: for programs of many tasks. ("Delay bounding": Emmi, Qadeer, Rakamaric 2011.)
   */
  readonly maxDelays?: number;
  /**
   * Leave out orders that cannot differ from one that is run: steps that take no lock and touch nothing in common are run in one order only.
   * For programs whose tasks share nothing but what locks guard and `Sim.touch` names; false unless told. Not together with a bound: of
   * orders that are the same, the one that is left out may be the one within bounds.
   */
  readonly reduce?: boolean;
  /**
   * Go on from a state once, however many orders lead to it: for programs that describe theirs. Not together with `reduce` or a bound.
   */
  readonly merge?: boolean;
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
  /** Runs that were given up, because what follows can differ from nothing before. */
  readonly redundant: number;
  /** Orders that were run, or are the same as some with `merge`. */
  readonly orders: number;
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
  /** It was given up, because what follows can differ from nothing before. */
  readonly isRedundant: boolean;
  /** Orders up to this one, with those that are the same. */
  readonly orders: number;
}

/**
 * Runs the program in every interleaving of its tasks' steps, depth first, until one fails. Covered is what the tasks
 * yield at, and preemption points inside a step as far as others can run there to the end of a step; timers fire at
 * their time and are no choice.
 */
export function explore(program: Program, options: ExploreOptions = {}): ExploreResult {
  const { maxRuns = 100_000, samples = 0, seed = 1 } = options;
  const counts = { runs: 0, redundant: 0, orders: 0, sampled: 0 };
  let complete = true;
  for (const { failure, isRedundant, orders } of everyOrder(program, options)) {
    counts.orders = orders;
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
  const {
    maxPreemptions = Infinity,
    maxDelays = Infinity,
    reduce = false,
    merge = false,
  } = options;
  if ((reduce || merge) && (maxPreemptions !== Infinity || maxDelays !== Infinity)) {
    throw new RangeError('orders cannot be reduced or merged where they are bounded');
  }
  if (reduce && merge) throw new RangeError('orders are reduced or merged, not both');
  const tree = new OrderTree({ maxPreemptions, maxDelays, reduce });
  for (let hasNext = true; hasNext;) {
    tree.state = undefined;
    const failure = runOnce(program, tree, options, (state) => {
      if (merge) tree.state = state;
    });
    const { isRedundant, schedule } = tree;
    hasNext = tree.advance();
    const own = failure && !isRedundant ? { ...failure, schedule } : undefined;
    yield { isRedundant, failure: own, orders: tree.orders };
  }
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
  tellState?: (state: (() => string | undefined) | undefined) => void,
): Omit<Failure, 'schedule'> | undefined {
  const sim = new Sim({ checkLocks: true, ...options.sim, choices });
  const steps: string[] = [];
  const taken = new Map<Task<unknown>, number>();
  sim.onStep = (task, step) => {
    steps.push(`${task.name}: ${step}`);
    taken.set(task, (taken.get(task) ?? 0) + 1);
  };
  try {
    const made = program(sim);
    const check = typeof made === 'function' ? made : made?.check;
    if (typeof made === 'object') tellState?.(() => stateOf(sim, taken, made));
    sim.join(undefined, { limit: options.limit ?? RUN_LIMIT_NS });
    tellState?.(undefined);
    check?.();
    return undefined;
  } catch (error) {
    return { error, steps, optional: [...sim.optionalTasks] };
  }
}

/** Where the tasks are, and the rest as the program describes it. Undefined where one is in the middle of a step, and its variables unseen. */
function stateOf(
  { tasks, current }: Sim,
  taken: ReadonlyMap<Task<unknown>, number>,
  program: Described,
): string | undefined {
  const places: string[] = [];
  for (const task of tasks) {
    if (task === current) return undefined;
    const held = task.held.map(({ name }) => name).join();
    places.push(`${task.name} ${taken.get(task) ?? 0} ${task.waitsFor} ${held}`);
  }
  return `${places.join('; ')}; ${program.state()}`;
}
