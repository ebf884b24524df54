// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { ExploreOptions, Program } from './explore.ts';
import { Prng } from '../base/prng.ts';
import { explore, exploreOrThrow, replay, shortestFailure } from './explore.ts';
import { everyOrder } from './orders.ts';
import { lockClass, Mutex } from './lock.ts';
import type { Sim } from './sim.ts';
import type { Body } from './task.ts';
import { until } from './task.ts';

/** Two tasks add 1 to a counter in two steps, read and write; right only with a lock. */
const counter =
  (locked: boolean): Program =>
  (sim) => {
    const mutex = new Mutex(sim, lockClass('counter_mutex', 1));
    let count = 0;
    for (const name of ['A', 'B']) {
      sim.spawn(name, function* (): Body {
        if (locked) yield mutex.request();
        const read = count;
        yield 'between read and write';
        count = read + 1;
        if (locked) mutex.unlock();
      });
    }
    return () => {
      if (count !== 2) throw new Error(`the counter is ${count}`);
    };
  };

/** A task of two steps that does nothing. */
function* idle(): Body {
  yield 'step';
}

const orders = (steps: number[], options = {}): { seen: Set<string>; runs: number } => {
  const seen = new Set<string>();
  const { runs } = explore((sim) => {
    let order = '';
    steps.forEach((count, at) => {
      const name = 'ABC'[at] ?? '?';
      sim.spawn(name, function* (): Body {
        for (let i = 1; i <= count; i++) {
          order += name;
          if (i < count) yield 'step';
        }
      });
    });
    return () => seen.add(order);
  }, options);
  return { seen, runs };
};

describe('the explorer', () => {
  it.each([
    [[2, 2], 6],
    [[3, 3], 20],
    [[2, 2, 2], 90],
    [[1, 4], 5],
  ])('runs every interleaving of %j steps exactly once: %i', (steps, count) => {
    const { seen, runs } = orders(steps);
    expect([seen.size, runs]).toEqual([count, count]);
  });

  it.each([
    [0, 2],
    [1, 6],
    [2, 14],
  ])('with at most %i preemptions of two tasks of 3 steps runs %i', (maxPreemptions, count) => {
    const { seen } = orders([3, 3], { maxPreemptions });
    expect(seen.size).toBe(count);
  });

  it.each([
    [0, 1],
    [1, 4],
    [2, 10],
    [3, 16],
    [4, 19],
    [5, 20],
  ])('with at most %i delays of two tasks of 3 steps runs %i', (maxDelays, count) => {
    const { seen, runs } = orders([3, 3], { maxDelays });
    expect([seen.size, runs]).toEqual([count, count]);
  });

  it('with a delay passes over one, with two over two of those that could run', () => {
    const firsts = (maxDelays: number): string[] => [
      ...new Set([...orders([1, 1, 1, 1], { maxDelays }).seen].map((order) => order.slice(0, 1))),
    ];
    expect([0, 1, 2].map(firsts)).toEqual([['A'], ['A', 'B'], ['A', 'B', 'C']]);
  });

  it('finds the race, and the schedule it reports fails again', () => {
    const { failure } = explore(counter(false));
    expect(String(failure?.error)).toContain('the counter is 1');
    expect(failure?.steps).toEqual([
      'A: start',
      'B: start',
      'B: between read and write',
      'A: between read and write',
    ]);
    expect(() => replay(counter(false), failure?.schedule ?? [])).toThrow('the counter is 1');
    expect(() => replay(counter(false), [])).not.toThrow();
  });

  it('finds nothing where a lock guards it', () => {
    expect(explore(counter(true))).toMatchObject({ complete: true, failure: undefined });
  });

  it('needs one preemption for that race', () => {
    expect(explore(counter(false), { maxPreemptions: 0 }).failure).toBeUndefined();
    expect(explore(counter(false), { maxPreemptions: 1 }).failure).toBeDefined();
  });

  it('finds the deadlock that few interleavings have', () => {
    const program: Program = (sim) => {
      const kinds = { nestable: true };
      const a = new Mutex(sim, lockClass('lock_a', 1, kinds));
      const b = new Mutex(sim, lockClass('lock_b', 1, kinds));
      const take = function* (first: Mutex, second: Mutex): Body {
        yield first.request();
        yield second.request();
        second.unlock();
        first.unlock();
      };
      sim.spawn('one', take(a, b));
      sim.spawn('two', take(b, a));
    };
    expect(() => exploreOrThrow(program, { sim: { checkLocks: false } })).toThrow(
      /one waits for mutex lock_b\n.*two waits for mutex lock_a\n[^]*replay\(program, \[0, 0, 1, 0\]\)/,
    );
  });

  it('covers points inside a plain function that a step calls', () => {
    const { failure } = explore((sim: Sim) => {
      let ready = false;
      sim.spawn('reader', function* (): Body {
        const before = ready;
        sim.point('mmio');
        if (before !== ready) throw new Error('it changed under the reader');
        yield 'the end';
      });
      sim.spawn('writer', function* (): Body {
        ready = true;
        yield 'the end';
      });
    });
    expect(String(failure?.error)).toContain('changed under the reader');
  });

  it('does not wait for daemons', () => {
    const { failure, complete } = explore((sim) => {
      sim.spawn('worker', function* (): Body {
        yield 'work';
      });
      sim.spawn(
        'server',
        function* (): Body {
          yield until('an interrupt', () => false);
        },
        { daemon: true },
      );
    });
    expect([failure, complete]).toEqual([undefined, true]);
  });

  it('says when the bound on runs was too low', () => {
    expect(() => exploreOrThrow(counter(true), { maxRuns: 1 })).toThrow('raise maxRuns');
  });

  it('refuses a program that depends on more than its choices', () => {
    let runs = 0;
    const { failure } = explore((sim) => {
      runs++;
      for (let i = 0; i < 1 + runs; i++) sim.spawn(`t${i}`, idle());
    });
    expect(String(failure?.error)).toContain('depends on something other than its choices');
  });
});

/** A random program: tasks whose steps read and write variables, some under locks, some with a point in the middle. */
function randomProgram(seed: number, outcomes: Set<string>): Program {
  return (sim) => {
    const prng = new Prng(seed);
    const variables = ['u', 'v', 'x', 'y', 'z'].map((name) => ({ name, value: 0 }));
    const spare = { name: 'none', value: 0 };
    const mutex = new Mutex(sim, lockClass('mutex', 1));
    const log: string[] = [];
    const sums: (() => number)[] = [];
    const bodies = Array.from({ length: 2 + prng.below(2) }, (_, name) => {
      const steps = Array.from({ length: 1 + prng.below(3) }, () => ({
        from: prng.below(5),
        to: prng.below(5),
        kind: prng.below(4),
      }));
      return function* (): Body {
        let sum = name + 1;
        sums[name] = () => sum;
        sim.touch(`task ${name}`);
        for (const { from, to, kind } of steps) {
          const read = variables[from] ?? spare;
          const write = variables[to] ?? spare;
          if (kind === 0) yield mutex.request();
          else if (kind === 1) yield until('it is even', () => read.value % 2 === 0, [read.name]);
          else yield 'step';
          sim.touch(read.name, false);
          sum = (sum * 3 + read.value) % 1009;
          if (kind === 2) sim.point('in the middle');
          sim.touch(write.name);
          write.value = (write.value + sum * 2) % 1009;
          if (kind === 0) mutex.unlock();
        }
        log[name] = `${sum}`;
      };
    });
    bodies.forEach((body, name) => sim.spawn(`task ${name}`, body));
    const values = () => variables.map(({ value }) => value).join();
    return {
      check: () => void outcomes.add(`${log.join()} ${values()}`),
      state: () => `${log.join()} ${values()} ${sums.map((sum) => sum()).join()}`,
    };
  };
}

interface Ends {
  readonly ends: readonly string[];
  readonly runs: number;
  readonly orders: number;
}

/** How it can end, and in how many orders; undefined where there are more than 1500. */
function endsOf(seed: number, options: ExploreOptions): Ends | undefined {
  const seen = new Set<string>();
  let [runs, orders] = [0, 0];
  for (const run of everyOrder(randomProgram(seed, seen), options)) {
    if (!run.isRedundant && ++runs > 1500) return undefined;
    ({ orders } = run);
    if (run.failure) seen.add(`deadlock after ${run.failure.steps.toSorted().join()}`);
  }
  return { ends: [...seen].toSorted(), runs, orders };
}

/** Of 120 random programs those that have not too many orders, all of which were run. */
const PROGRAMS: readonly (Ends & { readonly seed: number })[] = Array.from(
  { length: 120 },
  (_, i) => {
    const full = endsOf(i + 1, {});
    return full ? [{ ...full, seed: i + 1 }] : [];
  },
).flat();

describe('the reduction', () => {
  it('leaves out nothing that differs, in 120 random programs', () => {
    let [all, fewer] = [0, 0];
    for (const { seed, ends, runs } of PROGRAMS) {
      const reduced = endsOf(seed, { reduce: true });
      expect([seed, reduced?.ends]).toEqual([seed, ends]);
      all += runs;
      fewer += reduced?.runs ?? 0;
    }
    expect(PROGRAMS.length).toBeGreaterThan(70);
    expect(fewer * 3).toBeLessThan(all);
  });

  it('runs tasks that share nothing in one order', () => {
    const program: Program = (sim) => {
      for (const name of ['A', 'B', 'C']) {
        const own = `${name}'s`;
        sim.spawn(name, function* (): Body {
          sim.touch(own);
          yield 'step';
          sim.touch(own);
        });
      }
    };
    expect(explore(program).runs).toBe(90);
    expect(explore(program, { reduce: true }).runs).toBe(1);
  });

  it('takes a step that touches nothing for one that touches everything', () => {
    const program: Program = (sim) => {
      for (const name of ['A', 'B']) sim.spawn(name, idle);
    };
    expect(explore(program, { reduce: true }).runs).toBe(6);
  });

  it('refuses to be combined with a bound on preemptions', () => {
    expect(() => explore(counter(true), { reduce: true, maxPreemptions: 1 })).toThrow('bounded');
  });
});

describe('merging what leads to the same', () => {
  it('leaves out nothing, and counts every order, in 120 random programs', () => {
    let [all, fewer] = [0, 0];
    for (const { seed, ends, runs } of PROGRAMS) {
      const merged = endsOf(seed, { merge: true });
      expect([seed, merged?.ends, merged?.orders]).toEqual([seed, ends, runs]);
      all += runs;
      fewer += merged?.runs ?? 0;
    }
    expect(fewer * 3).toBeLessThan(all);
  });

  /** Tasks that add to one number, each as often as told. */
  const adding =
    (tasks: number, steps: number, state: (sum: number) => string): Program =>
    (sim) => {
      let sum = 0;
      for (let i = 0; i < tasks; i++)
        sim.spawn(`adder ${i}`, function* (): Body {
          for (let step = 0; step < steps; step++) {
            sum = sum * 3 + i;
            yield 'added';
          }
        });
      return {
        check: () => {
          // 2, 1, 0
          if (sum === 21) throw new Error('that sum');
        },
        state: () => state(sum),
      };
    };

  it('runs orders in thousands that stand for a billion', () => {
    const constant = adding(4, 4, () => '');
    // 20! / 5!^4: each task has a step more than it adds.
    expect(explore(constant, { merge: true })).toMatchObject({
      complete: true,
      orders: 11_732_745_024,
    });
    expect(explore(constant, { merge: true }).runs).toBeLessThan(3000);
  });

  it('finds what only one order shows, and its schedule fails again', () => {
    const program = adding(3, 1, String);
    const { failure } = explore(program, { merge: true });
    expect(String(failure?.error)).toContain('that sum');
    expect(() => replay(program, failure?.schedule ?? [])).toThrow('that sum');
    // As long as the state tells all.
    expect(
      explore(
        adding(3, 1, () => ''),
        { merge: true },
      ).failure,
    ).toBeUndefined();
  });

  it('is for programs that describe their state, without a bound or reduction', () => {
    expect(explore(counter(true), { merge: true })).toMatchObject({ redundant: 0 });
    expect(() => explore(counter(true), { merge: true, maxDelays: 1 })).toThrow('bounded');
    expect(() => explore(counter(true), { merge: true, reduce: true })).toThrow('not both');
  });
});

describe('what is shown of a failure', () => {
  /** A race of two among tasks that do other things. */
  const crowded: Program = (sim) => {
    let open = true;
    sim.spawn('closer', function* (): Body {
      yield 'close';
      open = false;
    });
    for (const name of ['bystander', 'passer-by']) sim.spawn(name, idle, { optional: true });
    sim.spawn(
      'user',
      function* (): Body {
        const before = open;
        yield 'use';
        if (before && !open) throw new Error('used after it was closed');
      },
      { optional: true },
    );
  };

  it('is the shortest order, without the tasks that it does not need', () => {
    const failure = shortestFailure(crowded);
    expect(failure?.without).toEqual(['bystander', 'passer-by']);
    expect(failure?.steps).toEqual(['user: start', 'closer: start', 'closer: close', 'user: use']);
    const sim = { without: new Set(failure?.without) };
    expect(() => replay(crowded, failure?.schedule ?? [], { sim })).toThrow('after it was closed');
  });

  it('is found by samples where there are too many orders, the same ones for a seed', () => {
    const options = { maxRuns: 1, samples: 200, seed: 3 };
    const { failure, sampled, complete } = explore(crowded, options);
    expect([complete, sampled]).toEqual([false, explore(crowded, options).sampled]);
    expect(() => replay(crowded, failure?.schedule ?? [])).toThrow('after it was closed');
  });
});
