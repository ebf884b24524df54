// SPDX-License-Identifier: Apache-2.0
import type { Timers } from '../host/device.ts';
import type { Sim } from '../src/sim/sim.ts';

const NS_PER_MS = 1e6;

/**
 * What the engine does beside the calls of programs: devices' own work, and what is planned for a time. While anything is planned, virtual
 * time follows the wall clock. `now` is the wall clock in ms.
 */
export function engineTimers(sim: Sim, now: () => number = () => performance.now()): Timers {
  /** Virtual time, in ns, when the wall clock was 0; undefined while nothing is planned. */
  let offset: number | undefined;
  const { clock } = sim;
  const follow = (): void => {
    if (clock.nextDue === undefined) offset = undefined;
    else offset ??= clock.now - now() * NS_PER_MS;
  };
  return {
    untilNext: () => {
      follow();
      if (!sim.isSettled) return 0;
      if (clock.nextDue === undefined || offset === undefined) return undefined;
      return Math.max(0, (clock.nextDue - offset) / NS_PER_MS - now());
    },
    run: () => {
      follow();
      if (offset !== undefined) clock.advanceTo(now() * NS_PER_MS + offset);
      if (!sim.isSettled) sim.settle();
      follow();
    },
  };
}
