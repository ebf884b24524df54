// SPDX-License-Identifier: Apache-2.0
import { Prng } from '../base/prng.ts';
import type { Choices, Option } from './choices.ts';
import { RandomChoices } from './choices.ts';
import { Clock } from './clock.ts';
import { Faults } from './faults.ts';
import type { TouchKey } from './footprint.ts';
import type { Holder, LockHost } from './lock.ts';
import { heldBy, LockError, LockRequest } from './lock.ts';
import type { Body, SpawnOptions, Step, Task } from './task.ts';
import { Condition, Delay, TaskState } from './task.ts';

export interface SimOptions {
  /** Seed of `prng` and of random choices. 1 unless told. */
  readonly seed?: number;
  /** Checks the order and the holder of every lock. For tests: off unless told. */
  readonly checkLocks?: boolean;
  /** Who runs next: tasks in order of creation in turns (unless told), at random, or by another rule. */
  readonly choices?: 'in order' | 'random' | Choices;
  readonly faults?: Faults;
  readonly clock?: Clock;
  /** Virtual ns that a step of a task takes; above 0, or a wait for a task that never ends would not end either. */
  readonly stepNs?: number;
  /** Names of optional tasks that are not run: each is done as soon as it is spawned. */
  readonly without?: ReadonlySet<string>;
}

export interface WaitOptions {
  /** The longest wait, in ns of virtual time; 10 s unless told. */
  readonly limit?: number;
  /** What is waited for, for the report. */
  readonly what?: string;
}

/** Nothing that is waited for can happen any more. The message lists who waits for what, and who holds it. */
export class DeadlockError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'DeadlockError';
  }
}

/** A wait exceeded its limit in virtual time. */
export class WaitTimeoutError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'WaitTimeoutError';
  }
}

const STEP_NS = 1000;
/** Touched by whoever makes a task or a lock: their order gives them their numbers. */
const NUMBERS = 'numbers of tasks and locks';
const WAIT_LIMIT_NS = 10e9;

/** One deterministic world: time, tasks, who runs next, which fault point fails. */
export class Sim implements LockHost {
  readonly clock: Clock;
  readonly faults: Faults;
  readonly prng: Prng;
  readonly checkLocks: boolean;
  /** Called before each step of a task with what the step was waiting for, unless it is in `inOrder`; for traces. */
  onStep: ((task: Task<unknown>, step: string) => void) | undefined = undefined;
  /** The names of the optional tasks that were spawned. */
  readonly optionalTasks = new Set<string>();
  /** Set while an explorer wants to know what each step touches. */
  readonly touched: ((key: TouchKey | undefined, write: boolean) => void) | undefined;

  readonly #foreground: Holder & { readonly id: number } = { name: 'foreground', held: [], id: 0 };
  readonly #allChoices: Choices | undefined;
  readonly #stepNs: number;
  readonly #without: ReadonlySet<string> | undefined;
  #made = 0;
  #locks = 0;
  /** Taken so far. */
  #steps = 0;
  /** Nested calls of `inOrder`. */
  #inOrders = 0;
  /** Those that are not done, in order of creation. */
  readonly #tasks: TaskState[] = [];
  #current: Holder & { readonly id: number } = this.#foreground;
  /** Who stepped last, for choices; undefined for the foreground. */
  #last: TaskState | undefined = undefined;
  /** Where the next turn of tasks in order begins. */
  #turn = 0;

  constructor(options: SimOptions = {}) {
    const { choices = 'in order', stepNs = STEP_NS } = options;
    if (!(stepNs > 0)) throw new RangeError(`stepNs is ${stepNs}: a step must take time`);
    this.clock = options.clock ?? new Clock();
    this.faults = options.faults ?? new Faults();
    this.prng = new Prng(options.seed ?? 1);
    this.checkLocks = options.checkLocks ?? false;
    this.#stepNs = stepNs;
    this.#without = options.without;
    if (choices === 'random') this.#allChoices = new RandomChoices(this.prng.fork('choices'));
    else this.#allChoices = choices === 'in order' ? undefined : choices;
    const { touched } = this.#allChoices ?? {};
    this.touched = touched && touched.bind(this.#allChoices);
  }

  /** Who runs now: a task, or the foreground. */
  get current(): Holder {
    return this.#current;
  }

  /** The tasks that are not done. */
  get tasks(): readonly Task<unknown>[] {
    return this.#tasks;
  }

  /** Adds a task; its first step runs when the foreground next lets tasks run. */
  spawn<R>(name: string, body: Body<R> | (() => Body<R>), options: SpawnOptions = {}): Task<R> {
    const made = typeof body === 'function' ? body() : body;
    const task = new TaskState<R>(name, ++this.#made, made, options.daemon ?? false);
    this.touched?.(NUMBERS, true);
    if (options.optional && this.#without?.has(name)) {
      task.isDone = true;
      return task;
    }
    if (options.optional) this.optionalTasks.add(name);
    this.#tasks.push(task);
    return task;
  }

  /**
   * For the explorer: the step that runs reads `key` (or changes it), something that tasks share and no lock of `Sim` guards; locks are seen
   * without this. A step that takes no lock and touches nothing counts as touching everything.
   */
  touch(key: string, write = true): void {
    this.touched?.(key, write);
  }

  nextLock(): number {
    this.touched?.(NUMBERS, true);
    return ++this.#locks;
  }

  /**
   * A preemption point: tasks may run here. Nothing may be half-changed, and what was looked up before is looked up
   * again. In order, each task that can takes one step; otherwise the choices say who and how often.
   */
  point(name: string): void {
    if (this.#tasks.length !== 0) this.#atPoint(name);
  }

  /**
   * Advances tasks, and time where no task can run, until the condition holds. DeadlockError where nothing is left that
   * could make it hold, WaitTimeoutError past the limit.
   */
  waitUntil(condition: () => boolean, options: WaitOptions = {}): void {
    // Whoever waits in the middle of a step goes on without a choice, as soon as it can.
    this.touched?.(undefined, true);
    this.#waitOrThrow(condition, options);
    this.touched?.(undefined, true);
  }

  #waitOrThrow(condition: () => boolean, options: WaitOptions): void {
    const { limit = WAIT_LIMIT_NS, what = 'a condition' } = options;
    const outcome = this.#wait(condition, this.clock.now + limit);
    if (outcome === 'holds') return;
    const report = this.#report();
    if (outcome === 'deadlock') {
      throw new DeadlockError(
        `deadlock: ${this.#current.name} waits for ${what}, no task can run and no timer is set${report}`,
      );
    }
    throw new WaitTimeoutError(
      `${this.#current.name} waited for ${what} for ${limit} ns of virtual time in vain${report}`,
    );
  }

  /** The same where giving up is an answer, as polling a register with a timeout: false, `limit` ns later. */
  poll(condition: () => boolean, limit: number): boolean {
    const deadline = this.clock.now + limit;
    this.touched?.(undefined, true);
    const outcome = this.#wait(condition, deadline);
    this.touched?.(undefined, true);
    if (outcome === 'deadlock') this.clock.advanceTo(deadline);
    return outcome === 'holds';
  }

  /** Runs `body` with tasks in order, whoever chooses otherwise: what comes before or after the orders that are explored. */
  inOrder<R>(body: () => R): R {
    this.#inOrders++;
    try {
      return body();
    } finally {
      this.#inOrders--;
    }
  }

  get #choices(): Choices | undefined {
    return this.#inOrders === 0 ? this.#allChoices : undefined;
  }

  /** No task can take a step without time passing or the foreground acting. */
  get isSettled(): boolean {
    return !this.#tasks.some((task) => task.isReady);
  }

  /** Runs tasks until none can take a step without time passing or the foreground acting. */
  settle(options: WaitOptions = {}): void {
    const { limit = WAIT_LIMIT_NS } = options;
    const deadline = this.clock.now + limit;
    this.touched?.(undefined, true);
    while (this.#stepOne()) {
      if (this.clock.now < deadline) continue;
      throw new WaitTimeoutError(
        `tasks did not settle in ${limit} ns of virtual time${this.#report()}`,
      );
    }
  }

  /** Runs until the given tasks, or all but daemons, are done. Errors as `waitUntil`. */
  join(tasks?: readonly Task<unknown>[], options: WaitOptions = {}): void {
    // The foreground does nothing between the steps of others, so they are not touched.
    const what = tasks ? tasks.map((task) => task.name).join(', ') : 'all tasks';
    this.#waitOrThrow(
      () => tasks?.every((task) => task.isDone) ?? this.#tasks.every((task) => task.daemon),
      { what: `${what} to end`, ...options },
    );
  }

  /**
   * Runs a body to its end here and now, as a plain function would: points are points, waits are waits. A wait that fails
   * is thrown into the body, so that it can undo and unlock.
   */
  run<R>(body: Body<R>): R {
    let result = body.next();
    while (result.done !== true) {
      try {
        this.#yielded(result.value);
      } catch (error) {
        result = body.throw(error);
        continue;
      }
      result = body.next();
    }
    return result.value;
  }

  /** For the end of a foreground operation: LockError where it kept a lock. Sees nothing unless locks are checked. */
  assertNothingHeld(): void {
    const holder = this.#current;
    if (holder.held.length > 0) throw new LockError(`${holder.name} ends${heldBy(holder)}`);
  }

  /** What a step means in the foreground. */
  #yielded(step: Step): void {
    if (typeof step === 'string') this.point(step);
    else if (step instanceof LockRequest) {
      this.point(step.lock.name);
      step.lock.take(step.exclusive);
    } else {
      const { what, holds } = this.#toCondition(step);
      this.waitUntil(holds, { what });
    }
  }

  #wait(condition: () => boolean, deadline: number): 'holds' | 'deadlock' | 'timeout' {
    for (;;) {
      const steps = this.#steps;
      if (condition()) return 'holds';
      if (this.clock.now >= deadline) return 'timeout';
      // A condition that reads a register has let others run: then it is looked at again.
      if (this.#stepOne() || this.#steps !== steps) continue;
      const due = this.clock.nextDue;
      if (due === undefined) return 'deadlock';
      this.clock.advanceTo(Math.min(due, deadline));
    }
  }

  #atPoint(name: string): void {
    const choices = this.#choices;
    if (choices === undefined) {
      for (const task of [...this.#tasks]) if (task.isReady) this.#step(task);
      return;
    }
    const goOn: Option = {
      name: `${this.#current.name} goes on from ${name}`,
      id: this.#current.id,
    };
    for (;;) {
      const ready = this.#tasks.filter((task) => task.isReady);
      const chosen = choices.choose([goOn, ...ready], 0, true);
      const task = ready[chosen - 1];
      if (task === undefined) return;
      this.#step(task);
    }
  }

  /** One step of one task; false where none can. */
  #stepOne(): boolean {
    const task = this.#choices ? this.#chosen(this.#choices) : this.#inTurn();
    if (task === undefined) return false;
    this.#step(task);
    return true;
  }

  #chosen(choices: Choices): TaskState | undefined {
    const ready = this.#tasks.filter((task) => task.isReady);
    if (ready.length === 0) return undefined;
    const current = this.#last === undefined ? -1 : ready.indexOf(this.#last);
    return ready[choices.choose(ready, current, false)];
  }

  #inTurn(): TaskState | undefined {
    const count = this.#tasks.length;
    for (let i = 0; i < count; i++) {
      const at = (this.#turn + i) % count;
      const task = this.#tasks[at];
      if (task?.isReady !== true) continue;
      this.#turn = at + 1;
      return task;
    }
    return undefined;
  }

  #step(task: TaskState): void {
    this.#steps++;
    const before = this.#current;
    const { next } = task;
    if (this.#inOrders === 0) this.onStep?.(task, task.waitsFor);
    this.#current = task;
    task.isRunning = true;
    let failed = true;
    try {
      if (this.touched) this.#touchWaitedFor(task);
      if (next instanceof LockRequest) next.lock.take(next.exclusive);
      const { done, value } = task.body.next();
      if (done === true) this.#finish(task, value);
      else task.next = value instanceof Delay ? this.#toCondition(value) : value;
      failed = false;
    } finally {
      // What a task throws is a bug: it stops the engine here, and the task with it.
      if (failed) this.#drop(task);
      task.isRunning = false;
      this.#current = before;
      this.#last = task;
    }
    // A timer that fires here may do anything.
    if ((this.clock.nextDue ?? Infinity) <= this.clock.now + this.#stepNs)
      this.touched?.(undefined, true);
    this.clock.advanceBy(this.#stepNs);
  }

  /** A step that waited has looked at what it waited for. */
  #touchWaitedFor({ next }: TaskState): void {
    if (!(next instanceof Condition)) return;
    if (next.reads) for (const key of next.reads) this.touched?.(key, false);
    else this.touched?.(undefined, true);
  }

  #finish(task: TaskState, result: unknown): void {
    task.result = result;
    this.#drop(task);
    if (task.held.length > 0) throw new LockError(`${task.name} ends${heldBy(task)}`);
  }

  #drop(task: TaskState): void {
    task.isDone = true;
    const at = this.#tasks.indexOf(task);
    if (at < 0) return;
    this.#tasks.splice(at, 1);
    if (at < this.#turn) this.#turn--;
  }

  #toCondition(step: Exclude<Step, string | LockRequest>): Condition {
    if (step instanceof Condition) return step;
    // The timer makes the clock stop there; the comparison decides.
    const due = this.clock.now + step.ns;
    this.clock.after(step.ns, () => undefined);
    return new Condition(`${step.ns} ns to pass`, () => this.clock.now >= due);
  }

  /** Who waits for what and who holds it, one line each. */
  #report(): string {
    const lines = this.#tasks.map((task) => {
      if (task.isRunning) {
        // Beneath us on the stack: it cannot go on before we return, even if what it waits for has come.
        return `\n  ${task.name} is in the middle of a step${this.#held(task)}`;
      }
      return `\n  ${task.name} waits for ${task.waitsFor}${this.#holders(task)}${this.#held(task)}`;
    });
    const foreground = `\n  foreground${this.#held(this.#foreground) || ' holds no lock'}`;
    const hint =
      this.#current === this.#foreground ? '' : '\n  (a task gets a lock by yielding its request)';
    return `:${lines.join('')}${this.checkLocks ? foreground : ''}${hint}`;
  }

  #held(holder: Holder): string {
    return holder.held.length > 0 ? heldBy(holder) : '';
  }

  #holders({ next }: TaskState): string {
    if (!(next instanceof LockRequest) || !this.checkLocks) return '';
    const holders = [this.#foreground, ...this.#tasks].filter(({ held }) =>
      held.includes(next.lock),
    );
    return holders.length > 0 ? `, held by ${holders.map(({ name }) => name).join(', ')}` : '';
  }
}
