// SPDX-License-Identifier: Apache-2.0
/** For tests: all that can cross a page request, each a task of its own, and programs of them for the explorer. */
import type { Program } from '../sim/explore.ts';
import type { Sim } from '../sim/sim.ts';
import { type Body, inOneStep, until } from '../sim/task.ts';
import { type Asked, BOTH } from './fault_order_book.ts';
import type { FaultOrderRig } from './fault_order_rig.ts';

/** Longer than what an answer may take. */
export const TIMEOUT_NS = 1_000_000;

/** The tasks by name; what each does first it does in its first step. */
export const ACTORS = {
  /** Page requests in two parts: for its client, by what is attached, and for the handler that is registered at its PASID. */
  *device(rig) {
    for (const asked of BOTH) rig.send(asked, false);
    yield 'the last of the groups';
    for (const asked of BOTH) rig.send(asked, true);
  },
  /** Whenever a group has its answer, another one with the same index. */
  *'index again'(rig) {
    const left = new Set(BOTH);
    while (left.size > 0) {
      const answered = (): Asked | undefined =>
        BOTH.find((each) => left.has(each) && rig.isAnswered(each));
      yield until('an answer', () => answered() !== undefined);
      const asked = answered();
      if (asked === undefined) continue;
      left.delete(asked);
      rig.send(asked, true);
    }
  },
  reader: (rig) => inOneStep(() => rig.read()),
  responder: (rig) => inOneStep(() => rig.respond()),
  *detacher(rig) {
    yield* rig.detach();
    yield 'attach again';
    yield* rig.attach();
  },
  replacer: (rig) => rig.replace(),
  *registrar(rig) {
    rig.unregister();
    yield 'register again';
    rig.register();
  },
  clock: (rig) => inOneStep(() => rig.passTime(TIMEOUT_NS + 1)),
} satisfies Record<string, (rig: FaultOrderRig) => Body>;

export type Actor = keyof typeof ACTORS;
export const EVERYBODY = Object.keys(ACTORS) as Actor[];

/** Some of them, on a new rig each time; `tell` is given what came of it. */
export const crossing =
  (
    names: readonly Actor[],
    makeRig: (sim: Sim) => FaultOrderRig,
    tell?: (outcome: string) => void,
  ): Program =>
  (sim) => {
    const rig = sim.inOrder(() => makeRig(sim));
    for (const name of names) {
      const make: (rig: FaultOrderRig) => Body = ACTORS[name];
      sim.spawn(name, make(rig), { optional: true, daemon: name === 'index again' });
    }
    return {
      check: () => {
        sim.inOrder(() => rig.checkEnd());
        tell?.(rig.outcome);
      },
      state: () => rig.state,
    };
  };
