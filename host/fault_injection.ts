// SPDX-License-Identifier: Apache-2.0
import type { ClientTask } from './client_task.ts';

/** The numbered fault points of an engine, as far as they are steered from here. */
export interface FaultPoints {
  /** True: fail here. */
  point(kind: 'copyin' | 'copyout'): boolean;
  plan(plan: { readonly nth: number }): void;
  clear(): void;
  /** Since `plan`, the failed one included. */
  readonly passed: number;
  /** What failed since `plan`. */
  readonly injected: string | undefined;
}

/** One failure that was asked for. */
export interface Injected {
  /** As it was counted: from the start of the run, or from the write to fail-nth. */
  readonly nth: number;
  /** What failed: `alloc`, `pin`, `command`, `copyin`, `copyout`. */
  readonly kind: string;
  /** What the call that it hit returned. */
  readonly result: number;
  /** How what the engine holds differs from what it held before a call that failed; empty where it does not, or was not looked at. */
  readonly difference: string;
}

export interface FaultInjectionOptions {
  readonly points: FaultPoints | undefined;
  /** Which point of the whole run fails; 0: none. */
  readonly nth: number;
  /** What the engine holds, in lines of text, to see that a failed call left no trace; undefined: do not look. */
  readonly state: (() => readonly string[]) | undefined;
  readonly told: ((event: Injected) => void) | undefined;
}

/**
 * Fails the n-th fault point: of the whole run, or of the calls of one thread, which asks by its fail-nth file. Linux's fault injection
 * (lib/fault-inject.c) counts a thread's down to 0, and so do we.
 */
export class FaultInjection {
  private readonly options: FaultInjectionOptions;
  private left: number;
  /** Points that the run has passed while they were counted. */
  passed = 0;
  private before: readonly string[] = [];

  constructor(options: FaultInjectionOptions) {
    this.options = options;
    this.left = options.points === undefined ? 0 : options.nth;
  }

  /** Whether threads can ask for failures. */
  get isServed(): boolean {
    return this.options.points !== undefined;
  }

  /** A call of the engine begins; true where `end` must follow. */
  begin(task: ClientTask): boolean {
    if (this.left === 0 && task.failNth === 0) return false;
    const { points, state } = this.options;
    if (points === undefined) return false;
    this.before = state?.() ?? [];
    points.plan({ nth: Math.min(this.left || Infinity, task.failNth || Infinity) });
    return true;
  }

  /** The call has ended with a result (0 or more) or `-errno`. */
  end(task: ClientTask, result: number): void {
    const { points, nth, told } = this.options;
    if (points === undefined) return;
    points.clear();
    const { passed, injected } = points;
    const [ofRun, ofTask] = [this.left, task.failNth];
    this.passed += passed;
    this.left = Math.max(0, ofRun - passed);
    task.failNth = Math.max(0, ofTask - passed);
    if (injected === undefined) return;
    const isOfRun = ofRun > 0 && this.left === 0;
    told?.({
      nth: isOfRun ? nth : task.asked,
      kind: injected,
      result,
      difference: result < 0 ? this.difference(injected) : '',
    });
  }

  /**
   * What changed. When an answer can not be written back, Linux undoes what the call has made, and nothing else (a map or a replace
   * stays done): then it is a change only where there are more objects than before.
   */
  private difference(injected: string): string {
    const { state } = this.options;
    if (state === undefined) return '';
    const [before, after] = [new Set(this.before), new Set(state())];
    if (injected === 'copyout' && after.size <= before.size) return '';
    return [
      ...[...before].filter((line) => !after.has(line)).map((line) => `-${line}`),
      ...[...after].filter((line) => !before.has(line)).map((line) => `+${line}`),
    ].join(' ');
  }
}
