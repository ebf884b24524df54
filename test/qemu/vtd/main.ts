// SPDX-License-Identifier: Apache-2.0
/** What `run.mjs` bundles and starts: all scenarios, and random sequences, on QEMU and on the model. */
import { HostError } from '../../../host/host_error.ts';
import { Bench } from './bench.ts';
import { Comparison } from './compare.ts';
import { type TestMachine, type UnitName, UNITS } from './machine.ts';
import { ModelMachine } from './model_machine.ts';
import { type QemuCommand, QemuTestMachine } from './qemu_machine.ts';
import { failureInWords, playOn } from './random.ts';
import { EACH_MODE, type Scenario } from './scenario.ts';
import { scenarios } from './scenarios/index.ts';
import { STEPS } from './sequence.ts';

/** The one argument, as JSON. */
interface Arguments {
  readonly qemu: QemuCommand;
  /** As QEMU says it: known differences are of versions. */
  readonly version: string;
  readonly sequences: number;
  /** The first seed. */
  readonly seed: number;
  /** A part of the names of the scenarios that are run; all unless told. */
  readonly only: string;
  /** Prints every trace. */
  readonly verbose: boolean;
}

const { qemu, version, sequences, seed, only, verbose } = JSON.parse(
  process.argv[2] ?? '{}',
) as Arguments;

const MOST_FAILURES = 5;
const comparison = new Comparison(version);
const total = { runs: 0, compared: 0, failed: 0, sequences: 0 };

/** Lets signals in: what is asked of QEMU is synchronous. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));

/** Runs a scenario on all machines; what is wrong, in words. */
function run(scenario: Scenario, unit: UnitName, machines: readonly TestMachine[]): string[] {
  const benches: Bench[] = [];
  for (const machine of machines) {
    const bench = new Bench(machine);
    benches.push(bench);
    try {
      scenario.run(bench);
      if (scenario.leavesUnit !== true) bench.stop();
    } catch (error) {
      if (error instanceof HostError) throw error;
      const stack = error instanceof Error ? error.stack : String(error);
      return [`on ${machine.name}: ${stack}`, ...bench.lines];
    }
  }
  const [ofQemu, ofModel] = benches;
  if (!ofQemu) return [];
  if (verbose) for (const line of ofQemu.lines) console.log(`    ${line}`);
  if (!ofModel) return comparison.missed(scenario.name, unit, ofQemu);
  const missed = ofModel.missed.map((what) => `the model does not show: ${what}`);
  return [...missed, ...comparison.differences(scenario.name, unit, ofQemu, ofModel)];
}

/** A unit, on all machines: scenarios, then its part of the sequences. */
async function runUnit(unit: UnitName): Promise<void> {
  const start = performance.now();
  const ofUnit = scenarios.filter(({ name, units }) => units.includes(unit) && name.includes(only));
  const seeds = seedsOf(unit);
  if (ofUnit.length === 0 && seeds.length === 0) return;
  let machines = openMachines(unit);
  let failures = 0;
  const guarded = (what: string, body: () => string[]): void => {
    let problems: string[];
    try {
      problems = body();
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      problems = [error.message];
      for (const machine of machines) machine.stop();
      machines = openMachines(unit);
    }
    if (problems.length === 0) return;
    total.failed++;
    if (++failures <= MOST_FAILURES)
      console.log(`FAILED ${unit}: ${what}\n${problems.join('\n').replaceAll(/^/gm, '    ')}`);
  };
  try {
    for (const scenario of ofUnit) {
      if (verbose) console.log(`${unit}: ${scenario.name}`);
      guarded(scenario.name, () => run(scenario, unit, machines));
      total.runs++;
      if (machines.length > 1) total.compared++;
      await turn();
    }
    for (const at of seeds) {
      guarded('random', () => {
        const failure = playOn(machines, unit, at, comparison);
        return failure ? [failureInWords(failure)] : [];
      });
      total.sequences++;
      await turn();
    }
  } finally {
    for (const machine of machines) machine.stop();
  }
  const seconds = (performance.now() - start) / 1000;
  const isOk = failures === 0 ? 'ok    ' : 'FAILED';
  const names = machines.map(({ name }) => name).join(', ');
  console.log(
    `${isOk} ${unit}: ${ofUnit.length} scenarios, ${seeds.length} sequences, ${seconds.toFixed(1)} s (${names})`,
  );
}

function seedsOf(unit: UnitName): number[] {
  const place = EACH_MODE.indexOf(unit);
  if (place < 0 || only !== '') return [];
  const all = Array.from({ length: sequences }, (_, i) => seed + i);
  return all.filter((at) => at % EACH_MODE.length === place);
}

function openMachines(unit: UnitName): TestMachine[] {
  const qemuMachine = new QemuTestMachine(qemu, unit);
  return [qemuMachine, new ModelMachine(qemuMachine.registers())];
}

const start = performance.now();
for (const unit of Object.keys(UNITS) as UnitName[]) await runUnit(unit);
const seconds = (performance.now() - start) / 1000;

console.log(
  `${total.runs} scenarios run, ${total.compared} of them compared with the model; ` +
    `${total.sequences} sequences of ${STEPS} steps; ${total.failed} failed; ${seconds.toFixed(0)} s`,
);
if (only === '') {
  for (const [known, count] of comparison.met) {
    if (count > 0) console.log(`known difference, ${count} times: ${known.why}`);
    else {
      total.failed++;
      console.log(`FAILED a known difference does not occur any more: ${known.why}`);
    }
  }
}
process.exitCode = total.failed > 0 ? 1 : 0;
