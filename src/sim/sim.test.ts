// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { lockClass, Mutex } from './lock.ts';
import type { SimOptions } from './sim.ts';
import { DeadlockError, Sim, WaitTimeoutError } from './sim.ts';
import type { Body } from './task.ts';
import { delay, until } from './task.ts';

const A = lockClass('lock_a', 1, { nestable: true });
const B = lockClass('lock_b', 1, { nestable: true });

/** Logs `name` and a number at each of its steps. */
function* counting(log: string[], name: string, steps: number): Body {
  for (let i = 1; i <= steps; i++) {
    log.push(`${name}${i}`);
    if (i < steps) yield 'step';
  }
}

describe('points', () => {
  it('in order, each lets every task take one step', () => {
    const sim = new Sim();
    const log: string[] = [];
    sim.spawn('a', counting(log, 'a', 3));
    sim.spawn('b', counting(log, 'b', 2));
    sim.point('one');
    expect(log).toEqual(['a1', 'b1']);
    sim.point('two');
    sim.point('three');
    expect(log).toEqual(['a1', 'b1', 'a2', 'b2', 'a3']);
    expect(sim.tasks).toEqual([]);
  });

  it('inside a step let the others run and not the task itself', () => {
    const sim = new Sim();
    const log: string[] = [];
    sim.spawn('a', function* (): Body {
      log.push('a before');
      sim.point('mmio');
      log.push('a after');
      yield 'step';
      log.push('a end');
    });
    sim.spawn('b', counting(log, 'b', 1));
    sim.settle();
    expect(log).toEqual(['a before', 'b1', 'a after', 'a end']);
  });
});

describe('waiting', () => {
  it('advances tasks until the condition holds and no further', () => {
    const sim = new Sim();
    const log: string[] = [];
    sim.spawn('a', counting(log, 'a', 9));
    sim.waitUntil(() => log.length === 4);
    expect(log).toHaveLength(4);
  });

  it('moves time to the next timer where no task can run', () => {
    const sim = new Sim();
    let irq = false;
    sim.clock.after(5000, () => (irq = true));
    sim.waitUntil(() => irq);
    expect(sim.clock.now).toBe(5000);
  });

  it('lets tasks pause, wait for conditions, and return results', () => {
    const sim = new Sim();
    let ready = false;
    const waiter = sim.spawn('waiter', function* (): Body<number> {
      yield until('ready', () => ready);
      return sim.clock.now;
    });
    sim.spawn('sleeper', function* (): Body {
      yield delay(1_000_000);
      ready = true;
    });
    sim.settle();
    expect(waiter.isDone).toBe(false);
    sim.join([waiter]);
    expect(waiter.result).toBeGreaterThanOrEqual(1_000_000);
  });

  it('ends at its limit while a task spins for ever', () => {
    const sim = new Sim();
    sim.spawn('spinner', function* (): Body {
      for (;;) yield 'poll the register';
    });
    const wait = (): void => sim.waitUntil(() => false, { limit: 50_000, what: 'a reply' });
    expect(wait).toThrow(WaitTimeoutError);
    expect(wait).toThrow(
      'foreground waited for a reply for 50000 ns of virtual time in vain:\n  spinner waits for poll the register',
    );
    expect(() => sim.settle({ limit: 50_000 })).toThrow('did not settle');
  });

  it('looks again at a condition that lets others run while it reads: nobody is left to run, and it has come', () => {
    for (const wait of ['poll', 'waitUntil'] as const) {
      const sim = new Sim();
      let register = 0;
      sim.spawn('hardware', function* (): Body {
        yield* [];
        register = 1;
      });
      const read = (): boolean => {
        const value = register;
        sim.point('a register is read');
        return value === 1;
      };
      expect(wait === 'poll' ? sim.poll(read, 5000) : sim.waitUntil(read)).not.toBe(false);
      expect(sim.clock.now).toBe(1000);
    }
  });

  it('that polls takes running out of time as an answer', () => {
    const sim = new Sim();
    expect(sim.poll(() => false, 300)).toBe(false);
    expect(sim.clock.now).toBe(300);
    sim.clock.after(200, () => undefined);
    expect(sim.poll(() => sim.clock.now >= 500, 300)).toBe(true);
    sim.clock.after(1000, () => undefined);
    expect(sim.poll(() => false, 300)).toBe(false);
    expect(sim.clock.now).toBe(800);
  });
});

describe('a deadlock', () => {
  const philosopher = (first: Mutex, second: Mutex) =>
    function* (): Body {
      yield first.request();
      yield second.request();
      second.unlock();
      first.unlock();
    };

  it('of tasks is reported with who wants and who holds which lock', () => {
    const sim = new Sim({ checkLocks: true });
    const a = new Mutex(sim, lockClass('lock_a', 1));
    // Different order values would be refused at once: here each holder sees an ascending order.
    const b = new Mutex(sim, lockClass('lock_b', 2));
    sim.spawn('one', philosopher(a, b));
    sim.spawn('two', function* (): Body {
      yield until('one has lock_a', () => a.isLocked);
      expect(b.tryLock()).toBe(true);
      yield until('lock_a is free', () => !a.isLocked);
    });
    let message = '';
    try {
      sim.join();
    } catch (error) {
      expect(error).toBeInstanceOf(DeadlockError);
      message = String(error);
    }
    expect(message).toBe(
      'DeadlockError: deadlock: foreground waits for all tasks to end, no task can run and no timer is set:\n' +
        '  one waits for mutex lock_b, held by two; it holds lock_a\n' +
        '  two waits for lock_a is free; it holds lock_b\n' +
        '  foreground holds no lock',
    );
  });

  it('is reported with the locks’ names in production too', () => {
    const sim = new Sim();
    const [a, b] = [new Mutex(sim, A), new Mutex(sim, B)];
    sim.spawn('one', philosopher(a, b));
    sim.spawn('two', philosopher(b, a));
    expect(() => sim.join()).toThrow(/one waits for mutex lock_b\n {2}two waits for mutex lock_a$/);
  });

  it('of the foreground with itself names the lock', () => {
    const mutex = new Mutex(new Sim(), A);
    mutex.lock();
    expect(() => mutex.lock()).toThrow('foreground waits for mutex lock_a, no task can run');
  });

  it('of a step that takes a lock without yielding says what to do', () => {
    const sim = new Sim({ checkLocks: true });
    const mutex = new Mutex(sim, A);
    mutex.lock();
    sim.spawn('greedy', function* (): Body {
      yield 'reach out';
      mutex.lock();
    });
    expect(() => sim.settle()).toThrow(
      /greedy waits for mutex lock_a.*\n {2}greedy is in the middle of a step\n {2}foreground; it holds lock_a\n {2}\(a task gets a lock by yielding its request\)/,
    );
  });
});

describe('the foreground', () => {
  it('waits for a lock that a parked task holds', () => {
    const sim = new Sim({ checkLocks: true });
    const mutex = new Mutex(sim, A);
    const log: string[] = [];
    sim.spawn('holder', function* (): Body {
      yield mutex.request();
      yield* counting(log, 'h', 3);
      mutex.unlock();
    });
    sim.point('it starts');
    sim.point('it has the lock');
    expect(mutex.isLocked).toBe(true);
    mutex.lock();
    expect(log).toEqual(['h1', 'h2', 'h3']);
    mutex.unlock();
  });

  it('runs the same body that a task runs', () => {
    const sim = new Sim({ checkLocks: true });
    const mutex = new Mutex(sim, A);
    function* body(): Body<string> {
      yield mutex.request();
      yield 'hardware';
      yield delay(700);
      mutex.unlock();
      return `done at ${sim.clock.now}`;
    }
    expect(sim.run(body())).toBe('done at 700');
    sim.assertNothingHeld();
  });

  it('gets a failed wait thrown into its body, which can unlock', () => {
    const sim = new Sim();
    const mutex = new Mutex(sim, A);
    function* body(): Body {
      yield mutex.request();
      try {
        yield until('never', () => false);
      } finally {
        mutex.unlock();
      }
    }
    expect(() => sim.run(body())).toThrow('waits for never');
    expect(mutex.isLocked).toBe(false);
  });

  it('is stopped by what a task throws, and the task is gone', () => {
    const sim = new Sim();
    sim.spawn('broken', function* (): Body {
      yield 'work';
      throw new Error('bug');
    });
    expect(() => sim.settle()).toThrow('bug');
    expect(sim.tasks).toEqual([]);
    sim.point('and goes on');
  });
});

describe('choices', () => {
  it('are not asked for what is to be in order', () => {
    const asked: string[] = [];
    const choose = (options: readonly { readonly name: string }[]): number => {
      asked.push(options.map(({ name }) => name).join());
      return 0;
    };
    const sim = new Sim({ choices: { choose } });
    const seen: string[] = [];
    const writes = (name: string) =>
      function* (): Body {
        yield 'a step';
        seen.push(name);
      };
    for (const name of ['A', 'B']) sim.spawn(name, writes(name));
    expect(sim.inOrder(() => sim.inOrder(() => sim.settle()) ?? 'done')).toBe('done');
    expect([seen, asked]).toEqual([['A', 'B'], []]);
    sim.spawn('C', writes('C'));
    sim.settle();
    expect(asked).toEqual(['C', 'C']);
  });

  const race = (options: SimOptions): string => {
    const sim = new Sim(options);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c']) sim.spawn(name, counting(log, name, 4));
    sim.join();
    return log.join(' ');
  };

  it('in order take turns', () => {
    expect(race({})).toBe('a1 b1 c1 a2 b2 c2 a3 b3 c3 a4 b4 c4');
  });

  it('at random repeat with the seed and vary without', () => {
    const rows = Array.from({ length: 20 }, (_, seed) => race({ seed, choices: 'random' }));
    expect(rows).toEqual(
      Array.from({ length: 20 }, (_, seed) => race({ seed, choices: 'random' })),
    );
    expect(new Set(rows).size).toBe(20);
  });

  it('at random also decide at points whether the foreground goes on', () => {
    const progress = Array.from({ length: 200 }, (_, seed) => {
      const sim = new Sim({ seed, choices: 'random' });
      const log: string[] = [];
      sim.spawn('a', counting(log, 'a', 4));
      sim.point('once');
      return log.length;
    });
    expect(new Set(progress)).toEqual(new Set([0, 1, 2, 3, 4]));
  });
});

it('a step must take time', () => {
  expect(() => new Sim({ stepNs: 0 })).toThrow('a step must take time');
});
