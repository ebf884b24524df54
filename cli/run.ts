// SPDX-License-Identifier: Apache-2.0
import { openSync } from 'node:fs';
import { isatty } from 'node:tty';
import { HostError } from '../host/host_error.ts';
import type { Observer } from '../host/observer.ts';
import { run } from '../host/run.ts';
import type { RunArguments } from './command_line.ts';
import { DescriptorSink, type LineSink } from './line_sink.ts';
import { styleFor } from './style.ts';
import { devicesOf } from './devices.ts';

const STANDARD_ERROR = 2;

/** Opens FILE of `-o`; Node marks it close-on-exec, so the program does not inherit it. */
function openOutput(path: string): number {
  try {
    return openSync(path, 'w');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HostError(`cannot write the trace: ${why}`);
  }
}

/** What is printed during and after the run. Modules that only printing needs are loaded only then. */
interface Reports {
  readonly observer: Observer | undefined;
  finish(exitStatus: number): void;
}

async function reportsOf(options: RunArguments, sink: LineSink, fd: number): Promise<Reports> {
  if (!options.strace && !options.summary) return { observer: undefined, finish: () => undefined };
  const { all, counting, tracing } = await import('./observers.ts');
  const observers: Observer[] = [];
  const atEnd: ((exitStatus: number) => void)[] = [];
  if (options.strace) {
    const { Printer } = await import('./strace/printer.ts');
    const printer = new Printer(sink, styleFor(isatty(fd), process.env));
    observers.push(tracing(printer));
    atEnd.push((exitStatus) => printer.exited(exitStatus));
  }
  if (options.summary) {
    const { Summary } = await import('./summary/summary.ts');
    const summary = new Summary();
    observers.push(counting(summary));
    atEnd.push(() => summary.lines().forEach((line) => sink.line(line)));
  }
  return {
    observer: all(observers),
    finish: (exitStatus) => atEnd.forEach((report) => report(exitStatus)),
  };
}

/** Runs a program; returns the exit status that iommulator ends with. */
export async function runCommand(options: RunArguments): Promise<number> {
  const fd = options.output === undefined ? STANDARD_ERROR : openOutput(options.output);
  const sink = new DescriptorSink(fd);
  const reports = await reportsOf(options, sink, fd);
  const { exitStatus } = await run({
    command: options.command,
    devices: devicesOf(),
    fast: options.fast,
    allowIoUring: options.allowIoUring,
    ...(reports.observer && { observer: reports.observer }),
  });
  reports.finish(exitStatus);
  return exitStatus;
}
