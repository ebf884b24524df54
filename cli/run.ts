// SPDX-License-Identifier: Apache-2.0
import { openSync } from 'node:fs';
import { isatty } from 'node:tty';
import type { Injected } from '../host/fault_injection.ts';
import { HostError } from '../host/host_error.ts';
import type { Observer } from '../host/observer.ts';
import { run } from '../host/run.ts';
import type { Served } from '../host/device.ts';
import type { StaleTranslation } from '../src/machine/stale_translations.ts';
import type { MachineDescription } from '../src/machine/description.ts';
import type { Machine } from '../src/machine/machine.ts';
import type { DmaObserver } from '../src/pci/dma.ts';
import { OUR_FAILURE } from './exit_status.ts';
import { DescriptorSink, type LineSink } from './line_sink.ts';
import type { RunArguments } from './run_arguments.ts';
import { styleFor } from './style.ts';

const STANDARD_ERROR = 2;

/** Opens FILE of `-o`. Node marks it close-on-exec, so the program does not inherit it. */
function openOutput(path: string): number {
  try {
    return openSync(path, 'w');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HostError(`cannot write to the file of -o: ${why}`);
  }
}

/** What is printed during and after the run. */
interface Reports {
  readonly observer: Observer;
  readonly dma: ((machine: Machine) => DmaObserver | undefined) | undefined;
  /** Failures that were asked for, as they happen. */
  readonly injections: readonly Injected[];
  /** Told of a DMA that was served from what was to be forgotten; absent: nobody looks. */
  readonly stale: ((found: StaleTranslation) => void) | undefined;
  /** How many it was told of. */
  readonly staleCount: number;
  finish(exitStatus: number): void;
}

/** Loads what printing needs, and only then: a run without reports starts without it. */
async function reportsOf(
  options: RunArguments,
  sink: LineSink,
  colours: boolean,
): Promise<Reports> {
  const { all, counting, LastLooks, tracing, watching } = await import('./observers.ts');
  const looks = new LastLooks();
  const observers: Observer[] = [];
  const atEnd: ((exitStatus: number) => void)[] = [];
  let dma: Reports['dma'];
  let tell = (text: string): void => sink.line(text);
  if (options.strace) {
    const { Printer } = await import('./strace/printer.ts');
    const printer = new Printer(sink, styleFor(colours, process.env));
    observers.push(tracing(printer, looks));
    dma = () => watching(printer);
    tell = (text) => printer.afterwards(text);
    atEnd.push((exitStatus) => printer.exited(exitStatus));
  }
  if (options.summary) {
    const { Summary } = await import('./summary/summary.ts');
    const summary = new Summary();
    observers.push(counting(summary, looks));
    atEnd.push(() => {
      for (const line of summary.lines()) sink.line(line);
    });
  }
  if (options.explain) {
    const { explaining } = await import('./explaining.ts');
    const other = dma;
    dma = (machine) => explaining(machine, tell, other?.(machine));
  }
  if (options.explainAt) {
    const { ExplainAt } = await import('./explain_at.ts');
    const explained = new ExplainAt(options.explainAt, tell);
    const other = dma;
    dma = (machine) => {
      explained.begin(machine);
      return other?.(machine);
    };
    observers.push(explained.observer);
    atEnd.push(() => explained.finish());
  }
  const injections: Injected[] = [];
  observers.push({ injected: (event) => injections.push(event) });
  const seen = { stale: 0 };
  const stale = ({ text }: StaleTranslation): void => {
    seen.stale++;
    tell(text);
  };
  return {
    observer: all(observers, looks),
    dma,
    injections,
    stale: options.check ? stale : undefined,
    get staleCount() {
      return seen.stale;
    },
    finish: (exitStatus) => {
      for (const report of atEnd) report(exitStatus);
    },
  };
}

/**
 * What programs find of the machine that was asked for. The engine, and for a machine file YAML and its schema, are loaded here, while
 * the host makes a thread for the program.
 */
async function serveMachine(
  name: string | undefined,
  reports: Reports | undefined,
): Promise<Served> {
  const { Machine } = await import('../src/machine/machine.ts');
  const { serve } = await import('./devices.ts');
  const description = name === undefined ? undefined : await described(name);
  const { MachineError } = await import('../src/machine/machine_error.ts');
  let made: Machine;
  try {
    made = new Machine({ ...(description && { description }), onStale: reports?.stale });
  } catch (error) {
    if (error instanceof MachineError)
      throw new HostError(`this machine can not be: ${error.message}`);
    throw error;
  }
  made.dmaObserver = reports?.dma?.(made);
  return serve(made);
}

async function described(name: string): Promise<MachineDescription> {
  const { findMachine } = await import('./machine/machine_file.ts');
  return findMachine(name);
}

/** Runs a program under the engine; returns the exit status that iommulator ends with. Throws HostError. */
export async function runCommand(options: RunArguments): Promise<number> {
  const fd = options.output === undefined ? STANDARD_ERROR : openOutput(options.output);
  const sink = new DescriptorSink(fd);
  const { strace, summary, failNth, check, explain, explainAt } = options;
  const wanted =
    strace || summary || failNth !== undefined || check || explain || explainAt !== undefined;
  const reports = wanted ? await reportsOf(options, sink, isatty(fd)) : undefined;
  const {
    exitStatus,
    why,
    faultPoints = 0,
  } = await run({
    command: options.command,
    devices: () => serveMachine(options.machine, reports),
    asRoot: options.asRoot,
    fast: options.fast,
    allowIoUring: options.allowIoUring,
    failNth: failNth ?? 0,
    check,
    ...(reports && { observer: reports.observer }),
  });
  if (why !== '') console.error(`iommulator: ${why}`);
  reports?.finish(exitStatus);
  if (failNth !== undefined && !reports?.injections.some(({ nth }) => nth === failNth)) {
    console.error(
      `iommulator: the run passed ${faultPoints} fault points: number ${failNth} was not reached`,
    );
  }
  const wrong = reports?.injections.filter(({ difference }) => difference !== '') ?? [];
  for (const { nth, difference } of wrong) {
    console.error(
      `iommulator: the call in which fault point ${nth} failed left a trace: ${difference}`,
    );
  }
  const stale = reports?.staleCount ?? 0;
  if (stale > 0) {
    const count = stale === 1 ? '1 DMA was' : `${stale} DMAs were`;
    console.error(`iommulator: ${count} served from what was to be forgotten`);
  }
  if (sink.failure !== undefined && options.output !== undefined) {
    console.error(`iommulator: ${options.output} is incomplete: ${sink.failure}`);
  }
  return wrong.length > 0 || stale > 0 ? OUR_FAILURE : exitStatus;
}
