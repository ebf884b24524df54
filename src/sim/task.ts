// SPDX-License-Identifier: Apache-2.0
import type { TouchKey } from './footprint.ts';
import type { Holder, Lock } from './lock.ts';
import { LockRequest } from './lock.ts';

/** A wait for something that others do; see {@link until}. */
export class Condition {
  readonly what: string;
  readonly holds: () => boolean;
  /** What it looks at; undefined where that is not known. */
  readonly reads: readonly TouchKey[] | undefined;

  constructor(what: string, holds: () => boolean, reads?: readonly TouchKey[]) {
    this.what = what;
    this.holds = holds;
    this.reads = reads;
  }
}

/** A wait for time to pass; see {@link delay}. */
export class Delay {
  readonly ns: number;

  constructor(ns: number) {
    this.ns = ns;
  }
}

/**
 * What a body yields before its next step: a name (a preemption point or a hardware step), a lock it is to have
 * (`yield mutex.request()`), a condition (`yield until(...)`), or a pause (`yield delay(ns)`).
 */
export type Step = string | LockRequest | Condition | Delay;

/** An operation in steps. Between two yields nothing else runs, so nothing may be half-changed at one. */
export type Body<R = void> = Generator<Step, R, void>;

/**
 * `yield until('the queue is empty', () => ...)`: the next step runs once it holds. `holds` must change nothing; `reads` is what it looks
 * at, in the sense of `Sim.touch` (absent: anything).
 */
export function until(what: string, holds: () => boolean, reads?: readonly TouchKey[]): Condition {
  return new Condition(what, holds, reads);
}

/** `yield delay(ns)`: the next step runs after that much virtual time. */
export function delay(ns: number): Delay {
  return new Delay(ns);
}

/** A body that does what a plain function does, all of it in its first step. */
export function* inOneStep<R>(act: () => R): Body<R> {
  yield* [];
  return act();
}

/** An operation that runs beside the foreground: an interrupt thread, a work item, a hardware engine, a client. */
export interface Task<R = void> extends Holder {
  readonly isDone: boolean;
  /** What the body returned; undefined before. */
  readonly result: R | undefined;
  /** What its next step waits for, in words. */
  readonly waitsFor: string;
}

export interface SpawnOptions {
  /** It serves for ever: nobody waits for its end, and its waiting is not a deadlock of its own. */
  readonly daemon?: boolean;
  /** What is explored is right without it too: the explorer may leave it out to show a failure with less. */
  readonly optional?: boolean;
}

/** A task as the scheduler has it. */
export class TaskState<R = unknown> implements Task<R> {
  readonly name: string;
  /** In order of creation, from 1 on; 0 is the foreground. */
  readonly id: number;
  readonly held: Lock[] = [];
  readonly daemon: boolean;
  readonly body: Body<R>;
  /** What the next step waits for; a task starts with none. */
  next: Exclude<Step, Delay> = 'start';
  /** In the middle of a step: on the stack, so that it cannot be stepped. */
  isRunning = false;
  isDone = false;
  result: R | undefined = undefined;

  constructor(name: string, id: number, body: Body<R>, daemon: boolean) {
    this.name = name;
    this.id = id;
    this.body = body;
    this.daemon = daemon;
  }

  get isReady(): boolean {
    if (this.isRunning || this.isDone) return false;
    const next = this.next;
    if (typeof next === 'string') return true;
    if (next instanceof LockRequest) return next.lock.isFreeFor(next.exclusive);
    return next.holds();
  }

  /** For reports. */
  get waitsFor(): string {
    const next = this.next;
    return next instanceof Condition ? next.what : String(next);
  }
}
