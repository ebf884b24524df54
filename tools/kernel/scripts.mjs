// SPDX-License-Identifier: Apache-2.0
/** Plays all recorded scripts (test/golden) with the program that recorded them, under `iommulator run`, and compares each line. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withUndo } from '../lib/on_exit.mjs';
import { compileC } from './compile.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const golden = join(root, 'test/golden');
const TIMEOUT_MS = 300_000;
const MOST_SHOWN = 10;

/** Lines of answers; what a script says of its set-up is none. @param {string} path */
const linesOf = (path) =>
  existsSync(path)
    ? readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('SETUP'))
    : [];

/**
 * Plays every script; by its name, what differs, and how many lines were compared.
 * @param {import('./fetch.mjs').Kernel} kernel
 * @param {readonly string[]} options of `run`
 */
export async function playScripts({ tree, release }, options = []) {
  const source = join(golden, 'player/exec.c');
  const program = compileC('exec', [source, join(tree, 'drivers/iommu/iommufd/iommufd_test.h')], {
    compile: ['-w', '-I', join(tree, 'usr/include'), '-I', join(tree, 'drivers/iommu/iommufd')],
    key: release,
  });
  const folder = mkdtempSync(join(tmpdir(), 'iommulator-scripts-'));
  return withUndo(
    () => rmSync(folder, { recursive: true, force: true }),
    () => {
      const loop =
        'ulimit -l unlimited; for s in "$S"/*.txt; do b=${s##*/}; "$0" "$s" >"$O/${b%.txt}.res"; done';
      const env = { ...process.env, S: join(golden, 'scripts'), O: folder, TMPDIR: '/dev/shm' };
      const { status, stderr } = spawnSync(
        join(root, 'bin/iommulator'),
        ['run', '--as-root', ...options, '--', 'bash', '-c', loop, program],
        { encoding: 'utf8', env, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' },
      );
      const names = readdirSync(join(golden, 'results')).map((file) =>
        file.slice(0, -'.res'.length),
      );
      /** @type {Map<string, { lines: number, differences: string[] }>} */
      const played = new Map();
      for (const name of names.toSorted()) {
        const expected = linesOf(join(golden, `results/${name}.res`));
        const found = linesOf(join(folder, `${name}.res`));
        const lines = Math.max(expected.length, found.length);
        /** @type {string[]} */
        const differences = [];
        for (let line = 0; line < lines; line++) {
          if (expected[line] === found[line]) continue;
          differences.push(`${name} line ${line}: expected ${expected[line]}, got ${found[line]}`);
        }
        played.set(name, { lines, differences });
      }
      return { played, failure: status === 0 ? '' : `it ended with status ${status}: ${stderr}` };
    },
  );
}

/**
 * Prints what differs; true where nothing does.
 * @param {import('./fetch.mjs').Kernel} kernel
 */
export async function judgeScripts(kernel) {
  const start = performance.now();
  const { played, failure } = await playScripts(kernel);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const all = [...played.values()];
  const lines = all.reduce((sum, one) => sum + one.lines, 0);
  const differences = all.flatMap((one) => one.differences);
  console.log(
    `\n${played.size} recorded scripts under run: ${lines - differences.length} of ${lines} answers are Linux's, in ${seconds} s`,
  );
  for (const difference of differences.slice(0, MOST_SHOWN)) console.log(`  ${difference}`);
  if (differences.length > MOST_SHOWN)
    console.log(`  ... and ${differences.length - MOST_SHOWN} more`);
  if (failure !== '') console.log(`  ${failure}`);
  return differences.length === 0 && failure === '';
}
