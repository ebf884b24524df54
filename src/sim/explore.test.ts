// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { Program } from './explore.ts';
import { explore, exploreOrThrow, replay } from './explore.ts';
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
