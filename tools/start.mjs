// SPDX-License-Identifier: Apache-2.0
/** `npm start`: an ordinary program uses /dev/iommu on a machine that has none, and every call is shown. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
const bold = (/** @type {string} */ text) => (colour ? `\x1b[1m${text}\x1b[0m` : text);

const args = ['run', '--strace', '--', 'node', 'examples/first_map/first_map.mjs'];

console.log(`${bold('$ iommulator run --strace -- node examples/first_map/first_map.mjs')}\n`);
const { status, signal, error } = spawnSync('bin/iommulator', args, {
  cwd: root,
  stdio: 'inherit',
});
if (error) console.error(`npm start: ${error.message}`);
if (status !== 0) {
  console.error(`\nThe example did not run to its end (${signal ?? `status ${status}`}).`);
  process.exit(status ?? 1);
}

console.log(`
${bold('What was shown')}
  An ordinary program opened /dev/iommu, made an I/O address space, mapped its own memory into it and made a few
  mistakes. It needed no hardware, no root and no kernel module: its system calls on that file were answered by the
  engine in this folder. A failed call ends with the sentence that says which check refused it.

${bold('What to try next')}
  bin/iommulator run --strace -- python3 examples/first_map/first_map.py    the same from Python
  bin/iommulator run --summary -- node examples/first_map/first_map.mjs     counts and times instead of calls
  bin/iommulator run --help                                                 all options
  npm test                                                                  the project's own tests
  npm run test:kernel                                                       the kernel's own iommufd test, under run
`);
