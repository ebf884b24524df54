// SPDX-License-Identifier: Apache-2.0
/** Compiles the kernel's iommufd selftest and runs it. */
import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { compileC } from './compile.mjs';
import { libcap } from './fetch.mjs';
import { killTree } from './kill_tree.mjs';
import { TapReader } from './tap.mjs';

/** The harness ends a test after 30 s; a run that prints nothing for longer is stuck itself. */
export const SILENCE_MS = 45_000;

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The selftests, compiled as the kernel's Makefile does: with its headers, as GNU source, without a change.
 * iommufd_fail_nth is compiled so that it is known to compile; it needs fault injection to be run.
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
  compile('iommufd_fail_nth', []);
  return compile('iommufd', cap.link);
}

/**
 * @param {string} program
 * @param {string[]} args
 * @param {{ tree: string, native: boolean, prefix?: string[], record: string | undefined }} options
 *   tree: the kernel's, which is left out of what is printed; prefix: what the command is put behind
 */
export async function runSelftest(program, args, { tree, native, prefix = [], record }) {
  const runner = native ? [] : [join(root, 'bin/iommulator'), 'run', '--'];
  // The tests pin memory; the limit is raised as far as this user may. Both outputs share a pipe to keep their order.
  const script = 'ulimit -l unlimited 2>/dev/null || ulimit -l "$(ulimit -H -l)"; exec "$@" 2>&1';
  const child = spawn('bash', ['-c', script, 'bash', ...prefix, ...runner, program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const reader = new TapReader();
  /** What was printed before the first test and after the last. @type {string[]} */
  const rest = [];
  const recording = record === undefined ? undefined : createWriteStream(record);
  let stuck = false;
  const onSilence = () => {
    stuck = true;
    if (child.pid !== undefined) killTree(child.pid);
  };
  let timer = setTimeout(onSilence, SILENCE_MS);
  const stop = (/** @type {NodeJS.Signals} */ signal) => {
    if (child.pid !== undefined) killTree(child.pid);
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  const ended = new Promise((resolve) =>
    child.once('close', (code, signal) => resolve({ code, signal })),
  );
  for await (const line of createInterface({ input: child.stdout })) {
    clearTimeout(timer);
    timer = setTimeout(onSilence, SILENCE_MS);
    recording?.write(`${line}\n`);
    const shorter = line.replaceAll(`${tree}/tools/testing/selftests/iommu/`, '');
    reader.line(shorter);
    if (reader.running === undefined && !/^(ok|not ok|#|1\.\.|TAP)/.test(line)) rest.push(shorter);
    if (process.stderr.isTTY)
      process.stderr.write(
        `\r\x1b[K${reader.results.length}/${reader.planned} ${reader.running ?? ''}`,
      );
  }
  clearTimeout(timer);
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  const { code, signal } = /** @type {{ code: number | null, signal: string | null }} */ (
    await ended
  );
  process.off('SIGINT', stop).off('SIGTERM', stop);
  recording?.end();
  return { reader, rest, stuck, ended: signal ?? `status ${code}` };
}
