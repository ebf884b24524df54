// SPDX-License-Identifier: Apache-2.0
/** `npm start`: an ordinary driver in user space has a PCI device do DMA on a machine that has none, and every call is shown. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
const bold = (/** @type {string} */ text) => (colour ? `\x1b[1m${text}\x1b[0m` : text);

const args = ['run', '--strace', '--', 'node', 'examples/first_dma/first_dma.mjs'];

console.log(`${bold(`$ iommulator ${args.join(' ')}`)}\n`);
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
  An ordinary program found a PCI device in sysfs, bound it to /dev/iommu and mapped its own memory for it. The device read
  and wrote that memory by DMA, and was refused where nothing was mapped and where it may only read. No hardware, no root
  and no kernel module was needed: the program's system calls on those files were answered by the engine in this folder.
  A refused DMA, like a failed call, ends with the reason.

${bold('What to try next')}
  bin/iommulator run --strace -- python3 examples/first_dma/first_dma.py    the same from Python
  bin/iommulator run --strace -- node examples/first_map/first_map.mjs      mappings and mistakes, without a device
  bin/iommulator run -- ls -l /sys/bus/pci/devices/0000:00:02.0/            what a program finds of the device
  bin/iommulator machine                                                    the machine as a file; change it, use it
  bin/iommulator run --summary -- node examples/first_dma/first_dma.mjs     counts and times instead of calls
  bin/iommulator run --help                                                 all options
  npm test                                                                  the project's own tests
  npm run test:kernel                                                       the kernel's own iommufd test, under run
`);
