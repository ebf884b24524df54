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
 * Prints what differs; true where nothing does.
 * @param {import('./fetch.mjs').Kernel} kernel
 */
export async function judgeScripts({ tree, release }) {
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
      const start = performance.now();
      const env = { ...process.env, S: join(golden, 'scripts'), O: folder, TMPDIR: '/dev/shm' };
      const done = spawnSync(
        join(root, 'bin/iommulator'),
        ['run', '--as-root', '--', 'bash', '-c', loop, program],
        { encoding: 'utf8', env, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' },
      );
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      const names = readdirSync(join(golden, 'results')).map((file) =>
        file.slice(0, -'.res'.length),
      );
      let [lines, equal] = [0, 0];
      /** @type {string[]} */
      const differences = [];
      for (const name of names.toSorted()) {
        const expected = linesOf(join(golden, `results/${name}.res`));
        const found = linesOf(join(folder, `${name}.res`));
        for (let line = 0; line < Math.max(expected.length, found.length); line++) {
          lines++;
          if (expected[line] === found[line]) equal++;
          else
            differences.push(
              `${name} line ${line}: expected ${expected[line]}, got ${found[line]}`,
            );
        }
      }
      console.log(
        `\n${names.length} recorded scripts under run: ${equal} of ${lines} answers are Linux's, in ${seconds} s`,
      );
      for (const difference of differences.slice(0, MOST_SHOWN)) console.log(`  ${difference}`);
      if (differences.length > MOST_SHOWN)
        console.log(`  ... and ${differences.length - MOST_SHOWN} more`);
      if (done.status !== 0) console.log(`  it ended with status ${done.status}: ${done.stderr}`);
      return differences.length === 0 && done.status === 0;
    },
  );
}
