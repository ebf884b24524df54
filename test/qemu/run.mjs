// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run test:qemu [-- OPTIONS]`: an unmodified QEMU under `run`; then the VT-d driver on QEMU's hardware and on our model, compared.
 *
 *   passthrough, vtd   only one of them
 *   --sequences N      random sequences (2000)
 *   --seed N           the first seed (1); with `--sequences 1` to see one again
 *   --only TEXT        only scenarios with TEXT in their names
 *   --verbose          prints every trace
 *
 * QEMU=PATH names a QEMU, QEMU_ARGS adds arguments; without, a private one is fetched from Debian. Exit status: 0 (also where no QEMU can
 * be had, which it says: `skipped: ...`), 1 (something failed), 2 (bad usage, or the QEMU that is named will not do).
 */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Skip, findQemu } from '../../tools/qemu/qemu.mjs';
import { withUndo } from '../../tools/lib/on_exit.mjs';
import { passthrough, ways } from './passthrough.mjs';
import { bundle } from './vtd/bundle.mjs';

const parts = ['passthrough', 'vtd'];

/** Ends with a sentence instead of a stack. */
class Usage extends Error {}

function options() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        sequences: { type: 'string', default: '2000' },
        seed: { type: 'string', default: '1' },
        only: { type: 'string', default: '' },
        verbose: { type: 'boolean', default: false },
      },
    });
    const unknown = positionals.find((part) => !parts.includes(part));
    if (unknown !== undefined) throw new Error(`there is no part ${unknown}`);
    const [sequences, seed] = [Number(values.sequences), Number(values.seed)];
    if (![sequences, seed].every((number) => Number.isInteger(number) && number >= 0))
      throw new Error('--sequences and --seed take integers');
    const asked = positionals.length > 0 ? positionals : parts;
    return { asked, sequences, seed, only: values.only, verbose: values.verbose };
  } catch (error) {
    throw new Usage(error instanceof Error ? error.message : String(error));
  }
}

/** @param {object} argument @returns {Promise<boolean>} whether it ended well */
async function vtd(argument) {
  const { folder, file } = await bundle();
  let stop = () => {};
  // On SIGTERM it ends its QEMU; its own exit does the rest.
  const undo = () => {
    stop();
    rmSync(folder, { recursive: true, force: true });
  };
  return withUndo(undo, () => {
    const child = spawn(
      process.execPath,
      ['--enable-source-maps', file, JSON.stringify(argument)],
      {
        stdio: 'inherit',
      },
    );
    stop = () => child.kill('SIGTERM');
    return new Promise((resolve) => child.on('close', (code) => resolve(code === 0)));
  });
}

try {
  const { asked, ...rest } = options();
  const qemu = await findQemu();
  console.log(`QEMU ${qemu.version}`);
  const results = [];
  if (asked.includes('passthrough')) {
    for (const [name, way] of Object.entries(ways)) {
      console.log(`-- a device passed through, by ${name}`);
      results.push(await passthrough(qemu, way));
    }
  }
  if (asked.includes('vtd')) results.push(await vtd({ qemu, version: qemu.version, ...rest }));
  process.exitCode = results.includes(false) ? 1 : 0;
} catch (error) {
  if (error instanceof Skip) console.log(`skipped: ${error.message}`);
  else {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
  }
}
