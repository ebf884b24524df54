// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Sim } from '../sim/sim.ts';
import type { InvalidateRequest } from './ats_messages.ts';
import { Invalidator } from './invalidator.ts';

const PAGE = { start: 0x1000n, sizeLg2: 12 };
const TIMEOUT = 1e6;

/** A function that keeps what it is told, and completes when the test says so. */
function setUp(depth = 4) {
  const sim = new Sim({ checkLocks: true });
  const got: InvalidateRequest[] = [];
  let isOn = true;
  const fn = {
    invalidate: (request: InvalidateRequest) => isOn && got.push(request) > 0,
    groupResponse: () => undefined,
  };
  const invalidator = new Invalidator(sim, fn, { depth, timeout: TIMEOUT });
  const done = (itag: number, count = 1) =>
    invalidator.complete({ itags: (1 << itag) >>> 0, count });
  const start = () => sim.spawn('invalidation', invalidator.invalidating(undefined, PAGE));
  return { sim, got, invalidator, done, start, off: () => (isOn = false) };
}

describe('invalidations of one function', () => {
  it('are done with their completion, each under a tag of its own', () => {
    const { sim, got, done, start, invalidator } = setUp();
    const [first, second] = [start(), start()];
    sim.settle();
    expect(got.map(({ itag, range }) => [itag, range])).toEqual([
      [0, 0x1000n],
      [1, 0x1000n],
    ]);
    done(1);
    sim.settle();
    expect([first.isDone, second.result]).toEqual([false, 'DONE']);
    done(0);
    sim.settle();
    expect(first.result).toBe('DONE');
    expect(invalidator.outstanding).toBe(0);
  });

  it('want as many completions as the first of them says', () => {
    const { sim, done, start, invalidator } = setUp();
    const task = start();
    sim.settle();
    done(0, 3);
    done(0, 3);
    sim.settle();
    expect(task.isDone).toBe(false);
    done(0, 3);
    sim.settle();
    expect(task.result).toBe('DONE');
    done(0, 3);
    expect(invalidator.unexpected).toBe(1);
  });

  it('wait for a tag where the function takes no more', () => {
    const { sim, got, done, start } = setUp(1);
    start();
    const second = start();
    sim.settle();
    expect(got).toHaveLength(1);
    done(0);
    sim.settle();
    expect(got).toHaveLength(2);
    done(0);
    sim.settle();
    expect(second.result).toBe('DONE');
  });

  it('time out, and their tag is not used again before its completion came late', () => {
    const { sim, got, done, start, invalidator } = setUp(2);
    const late = start();
    sim.join([late]);
    expect(late.result).toBe('TIMEOUT');
    expect(sim.clock.now).toBeGreaterThanOrEqual(TIMEOUT);
    const next = start();
    sim.settle();
    expect(got.map(({ itag }) => itag)).toEqual([0, 1]);
    done(0);
    sim.settle();
    expect(next.isDone).toBe(false);
    expect(invalidator.unexpected).toBe(0);
    expect(invalidator.outstanding).toBe(1);
    done(1);
    sim.settle();
    expect(next.result).toBe('DONE');
    start();
    sim.settle();
    expect(got.at(-1)?.itag).toBe(0);
  });

  it('time out in the foreground too, at once where nothing could complete them', () => {
    const { invalidator } = setUp();
    expect(invalidator.invalidate(undefined, PAGE)).toBe('TIMEOUT');
  });

  it('time out without having been sent where every tag is lost', () => {
    const { invalidator, got } = setUp(1);
    invalidator.invalidate(undefined, PAGE);
    expect(invalidator.invalidate(undefined, PAGE)).toBe('TIMEOUT');
    expect(got).toHaveLength(1);
  });

  it('are refused where ATS is off, and leave no tag behind', () => {
    const { invalidator, off } = setUp();
    off();
    expect(invalidator.invalidate(7, PAGE)).toBe('REFUSED');
    expect(invalidator.outstanding).toBe(0);
  });

  it('end with a reset of the function, which keeps nothing', () => {
    const { sim, start, invalidator } = setUp();
    const task = start();
    sim.settle();
    invalidator.reset();
    sim.settle();
    expect(task.result).toBe('DONE');
  });

  it('count completions with tags that nobody has, all 32 of them', () => {
    const { invalidator } = setUp();
    invalidator.complete({ itags: 0xffff_ffff, count: 1 });
    expect(invalidator.unexpected).toBe(32);
  });
});
