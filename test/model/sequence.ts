// SPDX-License-Identifier: Apache-2.0
/** Runs sequences: the engine and the model side by side. */
import type { FileMemory } from '../../src/memory/file_memory.ts';
import { apply } from './apply.ts';
import type { EngineOutcome, Outcome } from './outcome.ts';
import type { Script, Setup, Step } from './commands.ts';
import { Comparison, Mismatch } from './compare.ts';
import { Engine } from './engine.ts';
import { Generator } from './generate.ts';
import { endAll } from './faults.ts';
import { perform } from './perform.ts';
import { resolve } from './resolve.ts';
import { World } from './world.ts';

/** What a run of sequences did. */
export class Tally {
  sequences = 0;
  steps = 0;
  /** Fault points that were failed, each in a call of its own. */
  faults = 0;
  /** Failed calls after which a domain had other tables without a map in them than before. */
  emptyTables = 0;
  /** By command and outcome, how often. */
  readonly outcomes = new Map<string, number>();

  count(step: Step, code: string): void {
    this.steps++;
    const atPasid = step.op.startsWith('device_') && 'pasid' in step && step.pasid !== 0;
    const key = `${step.op}${atPasid ? '@pasid' : ''} ${code}`;
    this.outcomes.set(key, (this.outcomes.get(key) ?? 0) + 1);
  }
}

/** Where and how a sequence failed. */
export class SequenceError extends Error {
  readonly script: Script;
  /** Index of the step that failed; the length of the script where its end did. */
  readonly at: number;

  constructor(script: Script, at: number, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.script = script;
    this.at = at;
  }
}

/** More fault points than any call has. */
const MOST_FAULTS = 10_000;

/** Steps that go on without the memory they asked for, or are done in part: the model is told what fails. */
const SURVIVING: readonly Step['op'][] = [
  'trigger_iopf',
  'page_request',
  'queue_read',
  'trigger_vevent',
  'vfio_unmap',
];

class Sequence {
  readonly world: World;
  readonly engine: Engine;
  readonly setup: Setup;
  readonly faults: boolean;
  private readonly comparison: Comparison;
  private readonly tally: Tally;

  constructor(setup: Setup, faults: boolean, tally: Tally) {
    this.setup = setup;
    this.faults = faults;
    this.world = new World(setup);
    this.engine = new Engine(setup);
    this.comparison = new Comparison(this.world, this.engine);
    this.world.leaves = (hwpt) => this.comparison.leaves(hwpt);
    this.tally = tally;
  }

  step(step: Step): void {
    const resolved = resolve(this.world, step);
    const found = this.faults ? this.failEach(resolved) : perform(this.engine, resolved);
    const before = this.world.changes;
    const expected = apply(this.world, resolved);
    compareOutcomes(found, expected);
    this.comparison.check(expected.code !== 'OK' && before === this.world.changes);
    this.tally.count(step, expected.code);
  }

  /** Makes a step with the first fault point failing, then the second, ..., until it meets no more: that one counts. */
  private failEach(step: Step): EngineOutcome {
    const { faults } = this.engine;
    for (let nth = 1; nth < MOST_FAULTS; nth++) {
      faults.plan({ nth });
      const outcome = perform(this.engine, step);
      faults.clear();
      const { injected } = faults;
      if (injected === undefined) return outcome;
      this.tally.faults++;
      const where = `with its fault point ${nth} (${injected}) failing`;
      try {
        if (SURVIVING.includes(step.op)) {
          compareOutcomes(outcome, apply(this.world, { ...step, failing: nth }));
          this.comparison.check(false);
          continue;
        }
        if (outcome.code === 'OK') throw new Mismatch(`${where} the call succeeds`);
        this.comparison.check(true);
      } catch (error) {
        throw new Mismatch(
          `${where} the call (${outcome.code}: ${outcome.why}): ${(error as Error).message}`,
          { cause: error },
        );
      }
    }
    throw new Error(`a call passes more than ${MOST_FAULTS} fault points`);
  }

  /** Everything is closed, in one of several orders; nothing may be left. */
  end(): void {
    const { engine, setup } = this;
    for (const each of engine.devices) {
      const device = engine.devices.indexOf(each);
      for (const pasid of [...(each.bound?.group.attachments.keys() ?? [])])
        perform(engine, { op: 'device_detach', device, pasid });
      perform(engine, { op: 'device_unbind', device });
    }
    while (engine.devices.length > 0) perform(engine, { op: 'device_remove', device: 0 });
    const processes = engine.clients.map(({ process, mm }) => ({ process, mm }));
    if (setup.seed % 2 === 0) processes.reverse();
    if (setup.seed % 3 === 0) engine.clients[0].process.close(engine.fd);
    for (const by of [0, 1] as const) engine.unmapShared(by);
    for (const { process, mm } of processes) {
      if (setup.seed % 5 === 0) mm.kill();
      process.exit();
    }
    endAll(this.world);
    this.comparison.checkLastAnswers();
    for (const file of engine.files as readonly FileMemory[]) file.pinObserver?.gone();
    this.tally.emptyTables += this.comparison.emptyTables;
    this.expectNothingLeft();
  }

  private expectNothingLeft(): void {
    const { iommufd, mock, users } = this.engine;
    const left = {
      contexts: iommufd.contexts.length,
      pins: iommufd.memory.pinCount,
      segments: iommufd.memory.segmentCount,
      'frames of tables': mock.ram.liveFrames,
      devices: mock.devices.length,
      groups: mock.core.groups.size,
      warnings: mock.core.warnings.length,
      'locked pages': users[0].lockedPages + users[1].lockedPages,
    };
    const bad = Object.entries(left).filter(([, count]) => count !== 0);
    if (bad.length > 0)
      throw new Mismatch(
        `left at the end: ${bad.map(([what, count]) => `${what}: ${count}`).join(', ')}`,
      );
  }
}

function compareOutcomes(found: EngineOutcome, expected: Outcome): void {
  if (found.code !== expected.code) {
    const why = found.why ? ` (${found.why})` : '';
    throw new Mismatch(`the engine says ${found.code}${why}, the model ${expected.code}`);
  }
  for (const [name, value] of Object.entries(expected.out)) {
    const other = found.out[name];
    if (value instanceof Uint8Array && other instanceof Uint8Array)
      compareBytes(name, other, value);
    else if (value !== other)
      throw new Mismatch(
        `${name} is ${String(other)} in the engine, ${String(value)} in the model`,
      );
  }
}

function compareBytes(name: string, found: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(found, expected) === 0) return;
  const at = expected.findIndex((byte, index) => byte !== found[index]);
  throw new Mismatch(
    `byte ${at} of ${expected.length} of ${name} is ${found[at]} in the engine, ${expected[at]} in the model`,
  );
}

/** Makes up a sequence and runs it; throws SequenceError. */
export function runRandom(setup: Setup, length: number, faults: boolean, tally: Tally): void {
  const sequence = new Sequence(setup, faults, tally);
  const generator = new Generator(sequence.world, setup.seed);
  const steps: Step[] = [];
  try {
    while (steps.length < length) {
      const step = generator.next();
      steps.push(step);
      sequence.step(step);
    }
    sequence.end();
    tally.sequences++;
  } catch (error) {
    const at = sequenceEnd(error, steps);
    throw new SequenceError({ setup, faults, steps }, at, error);
  }
}

const sequenceEnd = (error: unknown, steps: readonly Step[]): number =>
  error instanceof Mismatch && error.message.startsWith('left at the end')
    ? steps.length
    : steps.length - 1;

/** Runs a given sequence; throws SequenceError. `tell` hears every step before it is made, references resolved. */
export function runScript(script: Script, tell?: (step: Step, index: number) => void): void {
  const { setup, faults, steps } = script;
  const sequence = new Sequence(setup, faults, new Tally());
  let at = 0;
  try {
    for (const step of steps) {
      tell?.(resolve(sequence.world, step), at);
      sequence.step(step);
      at++;
    }
    sequence.end();
  } catch (error) {
    throw new SequenceError(script, at, error);
  }
}
