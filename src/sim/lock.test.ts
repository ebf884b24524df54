// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { lockClass, Mutex, RwSem } from './lock.ts';
import { Sim } from './sim.ts';
import type { Body } from './task.ts';

const OUTER = lockClass('outer_rwsem', 10);
const INNER = lockClass('inner_mutex', 20);
const PAGES = lockClass('pages_mutex', 30, { nestable: true });

const world = (): { sim: Sim; outer: RwSem; inner: Mutex } => {
  const sim = new Sim({ checkLocks: true });
  return { sim, outer: new RwSem(sim, OUTER), inner: new Mutex(sim, INNER) };
};

describe('order', () => {
  it('as declared is accepted, whatever the order of release', () => {
    const { sim, outer, inner } = world();
    outer.downRead();
    inner.lock();
    outer.upRead();
    inner.unlock();
    outer.downWrite();
    outer.upWrite();
    expect(() => sim.assertNothingHeld()).not.toThrow();
  });

  it('against the declaration is refused with both names', () => {
    const { outer, inner } = world();
    inner.lock();
    expect(() => outer.downRead()).toThrow(
      'foreground takes rwsem outer_rwsem (read) (order 10) while it holds inner_mutex (order 20): ' +
        'outer_rwsem comes first',
    );
    expect(outer.isLocked).toBe(false);
  });

  it('of two locks of one class is refused unless the class is nestable', () => {
    const { sim, inner } = world();
    inner.lock();
    expect(() => new Mutex(sim, INNER).lock()).toThrow('the class is not nestable');
    new Mutex(sim, PAGES).lock();
    new Mutex(sim, PAGES).lock();
    expect(sim.current.held).toHaveLength(3);
    expect(() => new Mutex(sim, lockClass('other_mutex', 30, { nestable: true })).lock()).toThrow(
      'while it holds pages_mutex (order 30): equal orders cannot be held together',
    );
  });

  it('does not matter for trying', () => {
    const { outer, inner } = world();
    inner.lock();
    expect(outer.tryDownWrite()).toBe(true);
    expect([outer.tryDownRead(), inner.tryLock()]).toEqual([false, false]);
  });

  it('is kept for each task by itself', () => {
    const { sim, outer, inner } = world();
    inner.lock();
    sim.spawn('other', function* (): Body {
      yield outer.requestRead();
      outer.upRead();
    });
    expect(() => sim.join()).not.toThrow();
    inner.unlock();
  });
});

describe('misuse is refused', () => {
  it('taking twice, for reading too', () => {
    const { outer, inner } = world();
    outer.downRead();
    expect(() => outer.downRead()).toThrow(
      'takes rwsem outer_rwsem (read) again; it holds outer_rwsem',
    );
    inner.lock();
    expect(() => inner.lock()).toThrow(
      'takes mutex inner_mutex again; it holds outer_rwsem, inner_mutex',
    );
  });

  it('releasing what is not held', () => {
    const { outer, inner } = world();
    outer.downRead();
    expect(() => inner.unlock()).toThrow(
      'foreground releases inner_mutex, which it does not hold; it holds outer_rwsem',
    );
  });

  it('releasing what another task holds', () => {
    const { sim, inner } = world();
    inner.lock();
    sim.spawn('thief', function* (): Body {
      yield 'sneak';
      inner.unlock();
    });
    expect(() => sim.settle()).toThrow(
      'thief releases inner_mutex, which it does not hold; it holds no lock',
    );
  });

  it('releasing in the wrong mode, in production as well', () => {
    const sem = new RwSem(new Sim(), OUTER);
    expect(() => sem.upRead()).toThrow('outer_rwsem, which is not held for reading');
    sem.downRead();
    expect(() => sem.upWrite()).toThrow('outer_rwsem, which is not held exclusively');
    sem.upRead();
    sem.downWrite();
    expect(() => sem.upRead()).toThrow('not held for reading');
  });

  it('ending with a lock held', () => {
    const { sim, inner } = world();
    sim.spawn('forgetful', function* (): Body {
      yield inner.request();
    });
    expect(() => sim.settle()).toThrow('forgetful ends; it holds inner_mutex');
    const other = world();
    other.outer.downRead();
    expect(() => other.sim.assertNothingHeld()).toThrow('foreground ends; it holds outer_rwsem');
  });
});

it('readers share an rwsem and a writer has it alone', () => {
  const { sim, outer } = world();
  const log: string[] = [];
  const user = (name: string, write: boolean) =>
    function* (): Body {
      yield write ? outer.requestWrite() : outer.requestRead();
      log.push(`${name} in`);
      yield 'inside';
      log.push(`${name} out`);
      if (write) outer.upWrite();
      else outer.upRead();
    };
  sim.spawn('r1', user('r1', false));
  sim.spawn('r2', user('r2', false));
  sim.spawn('w', user('w', true));
  sim.join();
  expect(log).toEqual(['r1 in', 'r2 in', 'r1 out', 'r2 out', 'w in', 'w out']);
});
