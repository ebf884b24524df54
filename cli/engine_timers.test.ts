// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Sim } from '../src/sim/sim.ts';
import type { Body } from '../src/sim/task.ts';
import { engineTimers } from './engine_timers.ts';

const MS = 1e6;

function setUp() {
  const sim = new Sim();
  let wall = 1000;
  const fired: number[] = [];
  const timers = engineTimers(sim, () => wall);
  const plan = (ms: number): void => void sim.clock.after(ms * MS, () => fired.push(ms));
  const pass = (ms: number): void => {
    wall += ms;
    timers.run();
  };
  return { sim, timers, plan, pass, fired };
}

describe('timers of the engine', () => {
  it('wait for nothing while nothing is planned, and virtual time stands still', () => {
    const { sim, timers, pass } = setUp();
    expect(timers.untilNext()).toBeUndefined();
    pass(500);
    expect(sim.clock.now).toBe(0);
  });

  it('fire when so much time has passed since they were set', () => {
    const { timers, plan, pass, fired } = setUp();
    pass(500);
    plan(100);
    expect(timers.untilNext()).toBe(100);
    pass(60);
    plan(90);
    expect(timers.untilNext()).toBe(40);
    pass(40);
    expect(fired).toEqual([100]);
    expect(timers.untilNext()).toBe(50);
    pass(49);
    expect(fired).toEqual([100]);
    pass(1);
    expect(fired).toEqual([100, 90]);
    expect(timers.untilNext()).toBeUndefined();
  });

  it('run the tasks that timers wake, and those that devices have left', () => {
    const { sim, timers, pass } = setUp();
    const seen: string[] = [];
    function* work(): Body {
      yield 'a step';
      seen.push('done');
    }
    sim.clock.after(10 * MS, () => void sim.spawn('woken', work()));
    timers.untilNext();
    pass(10);
    expect(seen).toEqual(['done']);
    sim.spawn('left', work());
    expect(timers.untilNext()).toBe(0);
    pass(0);
    expect(seen).toEqual(['done', 'done']);
  });
});
