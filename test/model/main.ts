// SPDX-License-Identifier: Apache-2.0
/**
 * The body of run.mjs, replay.mjs and scripts.mjs, which bundle it: the module loader of the test runner makes this code three times as slow.
 * Arguments: `run FROM TO LENGTH FAULT_EVERY FOLDER` (sequences FROM to TO - 1; every FAULT_EVERY-th with faults), `replay FILE`, or
 * `scripts FROM TO FOLDER`.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromText, type Step, toText } from './commands.ts';
import { scriptOf } from './export.ts';
import { Generator } from './generate.ts';
import { runRandom, runScript, SequenceError, Tally } from './sequence.ts';
import { shrink } from './shrink.ts';

const text = (step: Step): string =>
  Object.entries(step)
    .map(([name, value]) =>
      name === 'op'
        ? `${String(value)}:`
        : `${name} ${typeof value === 'bigint' ? `0x${value.toString(16)}` : JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? `0x${item.toString(16)}` : item))}`,
    )
    .join(' ');

/** Tells its parent through standard output: one JSON object a line. */
const tell = (message: object): void => console.log(JSON.stringify(message));

function save(error: SequenceError, folder: string): void {
  const { seed } = error.script.setup;
  const small = shrink(error);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `sequence-${seed}.json`);
  writeFileSync(file, toText(small.script));
  const lines = [...small.script.steps.entries()].map(
    ([index, step]) => `  ${index + 1}. ${text(step)}`,
  );
  const stack = small.cause instanceof Error ? (small.cause.stack ?? '') : '';
  const deeper =
    small.cause instanceof Error && small.cause.constructor === Error ? `\n${stack}` : '';
  const what = `sequence ${seed}, shrunk to ${lines.length} steps: ${small.message}\n${lines.join('\n')}${deeper}`;
  tell({ kind: 'failure', seed, file, what });
}

function run(from: number, to: number, length: number, faultEvery: number, folder: string): void {
  const tally = new Tally();
  let failures = 0;
  for (let seed = from; seed < to; seed++) {
    try {
      runRandom(Generator.setup(seed), length, faultEvery > 0 && seed % faultEvery === 0, tally);
    } catch (error) {
      if (!(error instanceof SequenceError)) throw error;
      save(error, folder);
      if (++failures >= 3) break;
    }
    if (seed % 100 === 0) tell({ kind: 'progress', done: seed - from });
  }
  const { sequences, steps, faults, emptyTables, outcomes } = tally;
  tell({
    kind: 'done',
    sequences,
    steps,
    faults,
    emptyTables,
    outcomes: Object.fromEntries(outcomes),
  });
}

function replay(file: string): void {
  const script = fromText(readFileSync(file, 'utf8'));
  try {
    runScript(script, (step, index) => console.log(`${index + 1}. ${text(step)}`));
    console.log('the model agrees');
  } catch (error) {
    if (!(error instanceof SequenceError)) throw error;
    console.log(`differs: ${error.message}`);
    if (error.cause instanceof Error) console.log(error.cause.stack);
    process.exitCode = 1;
  }
}

/** Calls of a script, at most: those that a script can not say are left out. */
const SCRIPT_LENGTH = 100;

function writeScripts(from: number, to: number, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (let seed = from; seed < to; seed++) {
    const file = join(folder, `m${String(seed).padStart(4, '0')}.txt`);
    writeFileSync(file, scriptOf(seed, SCRIPT_LENGTH));
  }
}

const [command, ...args] = process.argv.slice(2);
if (command === 'replay') replay(args[0] ?? '');
else if (command === 'scripts') writeScripts(Number(args[0]), Number(args[1]), args[2] ?? '.');
else {
  const [from = 0, to = 0, length = 0, faultEvery = 0] = args.slice(0, 4).map(Number);
  run(from, to, length, faultEvery, args[4] ?? '.');
}
