// SPDX-License-Identifier: Apache-2.0
/** Compiles clients and runs them under the compiled supervisor (npm test builds it first). */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

const here = fileURLToPath(new URL('.', import.meta.url));
const root = join(here, '../..');
export const harness = join(here, 'harness.mjs');
export const launcher = join(root, 'bin/iommulator');
const directory = mkdtempSync(join(tmpdir(), 'iommulator-test-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const works = (command: string): boolean =>
  spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
/** Why the tests with real clients cannot run here, or '' where they can. */
export const cannotRun =
  process.platform !== 'linux' ? 'skipped: not Linux' : works('gcc') ? '' : 'skipped: no gcc';
export const hasPython = works('python3');

const built = new Map<string, string>();

/** The path of `clients/NAME.c`, compiled. */
export function client(name: string, ...flags: string[]): string {
  const key = [name, ...flags].join(' ');
  let path = built.get(key);
  if (path === undefined) {
    path = join(directory, `${name}-${built.size}`);
    const source = join(here, 'clients', `${name}.c`);
    execFileSync('gcc', ['-O1', '-w', '-pthread', ...flags, '-o', path, source]);
    built.set(key, path);
  }
  return path;
}

export interface Event {
  readonly opened?: string;
  readonly value?: number;
  readonly made?: boolean;
  readonly released?: string;
  readonly release?: string;
  readonly last?: string;
  readonly gone?: string;
  readonly other?: string;
  readonly exitStatus?: number;
  readonly why?: string;
  readonly leakedDescriptors?: number;
  readonly calls?: Readonly<Record<string, number>>;
}

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly events: readonly Event[];
}

let logs = 0;

/** Runs a command under the test device; `options` are those of run(). */
export function supervise(
  command: readonly string[],
  options: Readonly<Record<string, unknown>> = {},
): Outcome {
  const log = join(directory, `log-${(logs += 1)}`);
  const arguments_ = [harness, JSON.stringify({ ...options, log }), ...command];
  return outcome(process.execPath, arguments_, log);
}

/** Runs any command; `log` is read as the harness's events where it exists. */
export function outcome(command: string, arguments_: readonly string[], log = ''): Outcome {
  const done = spawnSync(command, arguments_, {
    encoding: 'utf8',
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean) : [];
  return {
    status: done.status,
    stdout: done.stdout,
    stderr: done.stderr,
    events: lines.map((line) => JSON.parse(line) as Event),
  };
}

/** The opens and releases of a log as words, in order: `open`, `mark` (an open that fails on purpose), `release`. */
export function story(events: readonly Event[]): string {
  return events
    .map(({ opened, made, released }) => {
      if (opened !== undefined) return made === true ? 'open' : 'mark';
      return released === undefined ? '' : 'release';
    })
    .filter(Boolean)
    .join(' ');
}

/** What the supervisor said about itself at the end. */
export const ending = (events: readonly Event[]): Event =>
  events.find(({ exitStatus }) => exitStatus !== undefined) ?? {};
