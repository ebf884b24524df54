// SPDX-License-Identifier: Apache-2.0
/** Compiles the kernel's iommufd selftest and runs it. */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { withUndo } from '../lib/on_exit.mjs';
import { compileC } from './compile.mjs';
import { libcap } from './fetch.mjs';
import { killTree } from './kill_tree.mjs';
import { TapReader } from './tap.mjs';

/** The harness ends a test after 30 s; a run that prints nothing for longer is stuck itself. */
const SILENCE_MS = 45_000;

/** So many tests that the harness had to end say that nobody answers any more. */
const MOST_TIMEOUTS = 3;

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The selftests, compiled as the kernel's Makefile does: with its headers, as GNU source, without a change.
 * @param {import('./fetch.mjs').Kernel} kernel
 */
export function compileSelftests({ tree, release }) {
  const selftests = join(tree, 'tools/testing/selftests');
  const shared = ['iommu/iommufd_utils.h', 'kselftest.h', 'kselftest_harness.h'].map((file) =>
    join(selftests, file),
  );
  shared.push(
    join(tree, 'drivers/iommu/iommufd/iommufd_test.h'),
    join(tree, 'usr/include/linux/iommufd.h'),
  );
  const flags = [
    '-Wno-unused-function',
    '-D_GNU_SOURCE=',
    '-isystem',
    join(tree, 'usr/include'),
    '-I',
    selftests,
  ];
  const cap = libcap();
  const compile = (/** @type {string} */ name, /** @type {readonly string[]} */ link) =>
    compileC(name, [join(selftests, `iommu/${name}.c`), ...shared], {
      compile: [...flags, ...cap.compile],
      link,
      key: release,
    });
  return { iommufd: compile('iommufd', cap.link), failNth: compile('iommufd_fail_nth', []) };
}

/**
 * @param {string} program
 * @param {string[]} args
 * @param {{ tree: string, native: boolean, record: string | undefined, machine?: string }} options
 *   tree: the kernel's, which is left out of what is printed
 */
export async function runSelftest(program, args, { tree, native, record, machine }) {
  // The tests are written for root, of which the root of a container often lacks a part.
  const options = ['--as-root', ...(machine ? ['--machine', machine] : [])];
  const runner = native ? [] : [join(root, 'bin/iommulator'), 'run', ...options, '--'];
  // The tests pin memory; the limit is raised as far as this user may. Both outputs share a pipe to keep their order.
  const script = 'ulimit -l unlimited 2>/dev/null || ulimit -l "$(ulimit -H -l)"; exec "$@" 2>&1';
  const child = spawn('bash', ['-c', script, 'bash', ...runner, program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const reader = new TapReader();
  /** What was printed before the first test and after the last. @type {string[]} */
  const rest = [];
  /** Why it was stopped. @type {string | undefined} */
  let stuck;
  const kill = () => {
    if (child.pid !== undefined && child.exitCode === null) killTree(child.pid);
  };
  const stop = (/** @type {string} */ why) => {
    stuck ??= why;
    kill();
  };
  const silence = () => stop(`nothing was printed for ${SILENCE_MS / 1000} s`);
  const ended = new Promise((resolve) =>
    child.once('close', (code, signal) => resolve(signal ?? `status ${code}`)),
  );
  const recording = record === undefined ? undefined : createWriteStream(record);
  const { isTTY } = process.stderr;
  await withUndo(kill, async () => {
    let timer = setTimeout(silence, SILENCE_MS);
    let timeouts = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      clearTimeout(timer);
      timer = setTimeout(silence, SILENCE_MS);
      recording?.write(`${line}\n`);
      const shorter = line.replaceAll(`${tree}/tools/testing/selftests/iommu/`, '');
      const done = reader.line(shorter);
      if (done?.notes.some((note) => note.endsWith('Test terminated by timeout'))) timeouts++;
      if (timeouts === MOST_TIMEOUTS) stop(`${timeouts} tests had to be ended after 30 s`);
      if (reader.running === undefined && !/^(ok|not ok|#|1\.\.|TAP)/.test(line))
        rest.push(shorter);
      const progress = `${reader.results.length}/${reader.planned} ${reader.running ?? ''}`;
      if (isTTY) process.stderr.write(`\r\x1b[K${progress}`);
    }
    clearTimeout(timer);
    await ended;
  });
  if (isTTY) process.stderr.write('\r\x1b[K');
  recording?.end();
  return { reader, rest, stuck, ended: /** @type {string} */ (await ended) };
}
