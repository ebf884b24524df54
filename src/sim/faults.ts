// SPDX-License-Identifier: Apache-2.0

/**
 * Where a failure can be injected: memory for the kernel, pinning of user pages, submission of a command; under `run` also copies from
 * (`copyin`) and to (`copyout`) the memory of a client.
 */
export type FaultKind = 'alloc' | 'pin' | 'command' | 'copyin' | 'copyout';

/** "Fail the n-th": counted from 1 over the kinds that take part. */
export interface FaultPlan {
  readonly nth: number;
  /** All unless told. */
  readonly kinds?: readonly FaultKind[];
}

/**
 * Numbered fault points. Code that can fail on Linux for lack of something asks `point` just before it would succeed, and
 * fails when told to. With no plan a point costs one comparison.
 */
export class Faults {
  /** 0: nothing is planned. */
  #armed = 0;
  #plan: FaultPlan | undefined = undefined;
  #passed = 0;
  #injected: FaultKind | undefined = undefined;

  constructor(plan?: FaultPlan) {
    if (plan !== undefined) this.plan(plan);
  }

  /** True: fail here. */
  point(kind: FaultKind): boolean {
    return this.#armed !== 0 && this.#count(kind);
  }

  /** Counts from here on, and fails the n-th; only that one. */
  plan(plan: FaultPlan): void {
    if (!Number.isInteger(plan.nth) || plan.nth < 1) {
      throw new RangeError(`a plan to fail number ${plan.nth}: fault points count from 1`);
    }
    this.#plan = plan;
    this.#passed = 0;
    this.#injected = undefined;
    this.#armed = 1;
  }

  /** Ends the plan; `passed` and `injected` still tell what happened. */
  clear(): void {
    this.#armed = 0;
  }

  /** Runs what is not part of the calls under test: its points do not count. */
  aside<T>(body: () => T): T {
    const armed = this.#armed;
    this.#armed = 0;
    try {
      return body();
    } finally {
      this.#armed = armed;
    }
  }

  /** How many points of the plan's kinds were passed, the failed one included. */
  get passed(): number {
    return this.#passed;
  }

  /** The kind of the point that failed, or undefined where none has. */
  get injected(): FaultKind | undefined {
    return this.#injected;
  }

  #count(kind: FaultKind): boolean {
    const plan = this.#plan;
    if (plan === undefined || (plan.kinds && !plan.kinds.includes(kind))) return false;
    if (++this.#passed !== plan.nth) return false;
    this.#injected = kind;
    return true;
  }
}

export interface SweepOptions {
  readonly kinds?: readonly FaultKind[];
  /** Those to plan on, where the world already exists; otherwise each run gets its own. */
  readonly faults?: Faults;
  /** More failing points than this mean that the sweep does not end. */
  readonly limit?: number;
}

/**
 * Calls `run` with the first fault point failing, then with the second, and so on until nothing was injected: that last
 * run must do all of its work. `run` makes its own assertions, and an error from it is thrown on with the number of
 * the failed point in front. Returns how many points were failed.
 */
export function sweepFaults(
  run: (faults: Faults, nth: number) => void,
  options: SweepOptions = {},
): number {
  const { kinds, limit = 10_000 } = options;
  for (let nth = 1; nth <= limit; nth++) {
    const faults = options.faults ?? new Faults();
    faults.plan(kinds ? { nth, kinds } : { nth });
    try {
      run(faults, nth);
    } catch (error) {
      const where = faults.injected
        ? `with fault point ${nth} (${faults.injected}) failed`
        : `with no fault point failed (${nth - 1} were before)`;
      throw new Error(`${where}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    } finally {
      faults.clear();
    }
    if (faults.injected === undefined) return nth - 1;
  }
  throw new Error(`${limit} fault points failed one after another and the sweep has not ended`);
}
