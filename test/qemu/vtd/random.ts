// SPDX-License-Identifier: Apache-2.0
import { Bench } from './bench.ts';
import type { Comparison } from './compare.ts';
import type { TestMachine, UnitName } from './machine.ts';
import { Player } from './play.ts';
import { draw, type Step, stepInWords } from './sequence.ts';

/** What differed in a sequence: the seed, and the steps up to the first that showed it. */
export interface Failure {
  readonly seed: number;
  readonly steps: readonly Step[];
  readonly what: string;
}

/** Plays a sequence on all machines, step by step: QEMU first, then the model where there is one. Undefined where all agree. */
export function playOn(
  machines: readonly TestMachine[],
  unit: UnitName,
  seed: number,
  comparison: Comparison,
): Failure | undefined {
  const steps = draw(seed);
  const players = machines.map((machine) => new Player(new Bench(machine)));
  const fails = (index: number, what: string): Failure => ({
    seed,
    steps: steps.slice(0, index + 1),
    what,
  });
  let seen = 0;
  for (const [index, step] of steps.entries()) {
    for (const [which, player] of players.entries()) {
      const wrong = player.play(step);
      if (wrong === undefined) continue;
      const last = player.bench.lines.at(-1) ?? '';
      return fails(index, `${machines[which]?.name}: ${last}: ${wrong}`);
    }
    const differing = compare(comparison, unit, players, seen);
    if (differing) return fails(index, differing);
    seen = players[0]?.bench.lines.length ?? 0;
  }
  for (const { bench } of players) {
    bench.sayRegisters();
    bench.stop();
  }
  const differing = compare(comparison, unit, players, seen, true);
  return differing ? fails(steps.length - 1, differing) : undefined;
}

/** Lines from one on, and memory where asked. */
function compare(
  comparison: Comparison,
  unit: UnitName,
  players: readonly Player[],
  from: number,
  withMemory = false,
): string | undefined {
  const [qemu, model] = players;
  if (!qemu || !model) return undefined;
  const [theirs, ours] = [qemu.bench, model.bench];
  const found = comparison.lines('random', unit, theirs, ours, from);
  if (withMemory) found.push(...comparison.memory('random', unit, theirs, ours));
  return found.length > 0 ? found.join('\n') : undefined;
}

export const failureInWords = ({ seed, steps, what }: Failure): string =>
  [`seed ${seed}: ${what}`, ...steps.map((step) => `  ${stepInWords(step)}`)].join('\n');
