// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { Clock } from './clock.ts';

it('timers fire by due time, and then in the order in which they were set', () => {
  const clock = new Clock();
  const log: string[] = [];
  const set = (ns: number, name: string): void => {
    clock.after(ns, () => log.push(`${name}@${clock.now}`));
  };
  set(20, 'c');
  set(10, 'a');
  set(20, 'd');
  set(10, 'b');
  expect(clock.nextDue).toBe(10);
  clock.advanceTo(15);
  expect([log, clock.now]).toEqual([['a@10', 'b@10'], 15]);
  clock.advanceBy(100);
  expect([log.slice(2), clock.now]).toEqual([['c@20', 'd@20'], 115]);
});

it('a timer that sets another fires it in the same move, at its own time', () => {
  const clock = new Clock();
  const fired: number[] = [];
  const again = (): void => {
    fired.push(clock.now);
    if (fired.length < 3) clock.after(10, again);
  };
  clock.after(10, again);
  clock.advanceTo(100);
  expect(fired).toEqual([10, 20, 30]);
});

it('a cancelled timer does not fire, and cancelling twice says so', () => {
  const clock = new Clock();
  const timer = clock.after(10, () => expect.unreachable());
  expect([clock.cancel(timer), clock.cancel(timer)]).toEqual([true, false]);
  clock.advanceTo(20);
  expect(clock.nextDue).toBeUndefined();
});

it('time never goes back', () => {
  const clock = new Clock();
  clock.advanceTo(50);
  clock.advanceTo(20);
  expect(clock.now).toBe(50);
  expect(() => clock.after(-1, () => undefined)).toThrow('-1 ns');
});
