// SPDX-License-Identifier: Apache-2.0
/** The scenarios, and a cut of the random sequences, on the model alone: what needs no QEMU. */
import { describe, expect, it } from 'vitest';
import { Bench } from './bench.ts';
import { Comparison } from './compare.ts';
import type { UnitName } from './machine.ts';
import { ModelMachine, type UnitRegisters } from './model_machine.ts';
import { playOn } from './random.ts';
import { EACH_MODE } from './scenario.ts';
import { scenarios } from './scenarios/index.ts';

const CAP = 0x80d2_008c_222f_0606n;
/** What the units of QEMU 11.1 say. */
const registers: Readonly<Record<UnitName, UnitRegisters>> = {
  legacy: { cap: CAP, ecap: 0xf0_0f4an },
  'scalable, second stage': { cap: CAP, ecap: 0x4800_80f0_0f4an },
  'scalable, first stage': { cap: CAP | (1n << 56n), ecap: 0x8800_00f0_0f4an },
  'legacy, caching mode': { cap: CAP | 0x80n, ecap: 0xf0_0f4an },
  'legacy, snoop control': { cap: CAP, ecap: 0xf0_0fcan },
};

const runs = scenarios.flatMap((scenario) =>
  scenario.units.map((unit): [UnitName, string, typeof scenario] => [
    unit,
    scenario.name,
    scenario,
  ]),
);

describe('a scenario on the model', () => {
  it.each(runs)('%s: %s', (unit, _name, scenario) => {
    const bench = new Bench(new ModelMachine(registers[unit]));
    scenario.run(bench);
    if (scenario.leavesUnit !== true) bench.stop();
    expect(bench.missed).toEqual([]);
  });
});

describe('random sequences on the model', () => {
  it.each(EACH_MODE)('%s: reach what plain maps say', (unit) => {
    const machine = new ModelMachine(registers[unit]);
    const comparison = new Comparison('11.1');
    for (let seed = 1; seed <= 40; seed++) {
      expect(playOn([machine], unit, seed, comparison)).toBeUndefined();
    }
  });
});
