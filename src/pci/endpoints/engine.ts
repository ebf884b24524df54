// SPDX-License-Identifier: Apache-2.0
import type { Sim } from '../../sim/sim.ts';
import type { Body } from '../../sim/task.ts';

/**
 * Starts what a device does on its own after a write to a register. Where a task wrote (the explorer, a test of interleavings), it is
 * a task beside that one. Where the foreground wrote, a real program waits: it runs to its end at once, so that no program has to
 * wait for a turn of ours.
 */
export function runEngine(sim: Sim, name: string, body: Body): void {
  const isTask = sim.tasks.some((task) => task === sim.current);
  const engine = sim.spawn(name, body);
  if (!isTask) sim.waitUntil(() => engine.isDone, { what: name });
}
