// SPDX-License-Identifier: Apache-2.0
/**
 * The kernel's iommufd_fail_nth under `iommulator run`: it makes each allocation of a sequence of calls fail in turn, and looks at nothing
 * but whether the kernel survives. What it can not see is judged here: that failures were injected at all, which errno each gave, and
 * that each failed call left no trace (`run --check`).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withUndo } from '../lib/on_exit.mjs';
import { TapReader } from './tap.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const TIMEOUT_MS = 60_000;

/** What a failed allocation, pin, command or copy may give. */
const ERRNOS = new Set(['ENOMEM', 'EFAULT']);

/**
 * @typedef {{ test: string, least: number, most: number }} Range
 * @typedef {{ injected: number, wrong: string[] }} Seen  of one test
 */

/** Lines `TEST LEAST MOST`. @param {string} text @returns {Map<string, Range>} */
export function parseRanges(text) {
  const ranges = text
    .split('\n')
    .map((line) => /^(\S+) (\d+) (\d+)$/.exec(line))
    .flatMap((match) =>
      match ? [{ test: match[1] ?? '', least: Number(match[2]), most: Number(match[3]) }] : [],
    );
  return new Map(ranges.map((range) => [range.test, range]));
}

/**
 * What the trace of a run tells of each test, in their order: each opens its own fail-nth file, in a process of its own.
 * @param {string} trace
 * @returns {Seen[]}
 */
export function readTrace(trace) {
  /** @type {Seen[]} */
  const tests = [];
  let call = '';
  for (const line of trace.split('\n')) {
    const seen = tests.at(-1);
    if (/open\("\/proc\/self\/task\/\d+\/fail-nth"\)/.test(line))
      tests.push({ injected: 0, wrong: [] });
    const injected = /^ {2}fault point \d+ \(\w+\) was made to fail(.*)$/.exec(line);
    if (!injected) {
      if (!line.startsWith('  ')) call = line;
      continue;
    }
    if (!seen) continue;
    seen.injected++;
    const errno = /= -1 (E\w+)/.exec(call)?.[1] ?? 'no error';
    if (!ERRNOS.has(errno)) seen.wrong.push(`${errno} from ${call}`);
    if (injected[1] !== '') seen.wrong.push(`${call}${injected[1]}`);
  }
  return tests;
}

/**
 * Runs the program and prints a line for each test; true where all is as it should be.
 * @param {string} program
 * @param {string} list  the file with the ranges
 */
export async function judgeFailNth(program, list) {
  const ranges = parseRanges(readFileSync(list, 'utf8'));
  const folder = mkdtempSync(join(tmpdir(), 'iommulator-fail-nth-'));
  return withUndo(
    () => rmSync(folder, { recursive: true, force: true }),
    () => {
      const trace = join(folder, 'trace');
      const options = ['run', '--as-root', '--check', '--strace', '-o', trace, '--', program];
      const done = spawnSync(join(root, 'bin/iommulator'), options, {
        encoding: 'utf8',
        timeout: TIMEOUT_MS,
        killSignal: 'SIGKILL',
      });
      const reader = new TapReader();
      for (const line of done.stdout.split('\n')) reader.line(line);
      const seen = readTrace(readFileSync(trace, 'utf8'));
      let isGood = reader.results.length === ranges.size && done.status === 0;
      console.log('\niommufd_fail_nth                   result   failures injected');
      for (const [index, { name, result, notes }] of reader.results.entries()) {
        const { injected, wrong } = seen[index] ?? { injected: 0, wrong: [] };
        const range = ranges.get(name);
        const { least = 5, most = Infinity } = range ?? {};
        const isIn = injected >= least && injected <= most;
        const said = isIn ? '' : `  NOT in ${least}..${most}`;
        console.log(
          `${name.padEnd(34)} ${result.padEnd(8)} ${String(injected).padStart(6)}${said}`,
        );
        for (const line of [...wrong, ...(result === 'passed' ? [] : notes.slice(0, 4))])
          console.log(`      ${line}`);
        isGood &&= result === 'passed' && isIn && wrong.length === 0 && range !== undefined;
      }
      if (!isGood)
        console.log(
          `iommufd_fail_nth: NOT as it should be (status ${done.status})\n${done.stderr}`,
        );
      return isGood;
    },
  );
}
