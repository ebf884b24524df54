// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run test:nightly [-- PART...]`: what takes too long for every change, one part after the other, each with a limit. Random parts draw
 * anew with `VTD_SEED=N`, which a failure prints. Exit 1 where a part fails or overruns; 2 for a part that there is not.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const node = process.execPath;
const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--testTimeout=3600000', '--reporter=dot'];
const MILLION = { VTD_RANDOM: '1000000' };
const SEQUENCES = { VTD_SEQUENCES: '100000' };

/** @type {readonly { name: string, what: string, args: string[], env?: Record<string, string>, minutes: number }[]} */
const parts = [
  {
    name: 'structures',
    what: 'a million times random and flipped bits in what hardware for VT-d reads',
    args: [...vitest, 'src/hw/vtd/random.test.ts', 'src/hw/vtd/flipped_bits.test.ts'],
    env: MILLION,
    minutes: 20,
  },
  {
    name: 'driver',
    what: '100,000 sequences of the driver for VT-d, beside the model of the hardware and a plain map',
    args: [...vitest, 'src/hw/vtd/driver.test.ts', 'src/drivers/intel'],
    env: SEQUENCES,
    minutes: 90,
  },
  {
    name: 'orders',
    what: 'all orders of what can cross a page request',
    args: [...vitest, 'src/iommufd/fault_orders.test.ts', 'src/machine/fault_orders.test.ts'],
    env: { FAULT_ORDERS: 'all' },
    minutes: 30,
  },
  {
    name: 'model',
    what: '10,000 programs beside a model of the whole of iommufd',
    args: ['test/model/run.mjs', '10000'],
    minutes: 60,
  },
  {
    name: 'mutations',
    what: 'rules broken one by one',
    args: ['test/mutations/run.mjs'],
    minutes: 30,
  },
  {
    name: 'driver-mutations',
    what: 'lines taken out of the driver for VT-d one by one',
    args: ['test/mutations/driver.mjs'],
    minutes: 90,
  },
  {
    name: 'qemu',
    what: 'the driver on QEMU, and QEMU as a client',
    args: ['test/qemu/run.mjs'],
    minutes: 10,
  },
];

/** @param {(typeof parts)[number]} part @returns {Promise<string>} empty where all is well */
function run({ args, env, minutes }) {
  return new Promise((resolve) => {
    // A group of its own, so that what a part has started goes with it.
    const child = spawn(node, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: 'inherit',
      detached: true,
    });
    const end = () => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has gone already.
      }
    };
    let verdict = '';
    const timer = setTimeout(() => {
      verdict = `took more than ${minutes} minutes`;
      end();
    }, minutes * 60_000);
    process.once('exit', end);
    child.once('error', (error) => {
      verdict = error.message;
    });
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      process.off('exit', end);
      resolve(verdict || (status === 0 ? '' : `ended with ${signal ?? status}`));
    });
  });
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !parts.some((part) => part.name === name));
if (unknown.length > 0) {
  console.error(`there is no part ${unknown.join(', ')}; there are:`);
  for (const { name, what } of parts) console.error(`  ${name.padEnd(18)}${what}`);
  process.exit(2);
}
const lines = [];
for (const part of parts.filter(({ name }) => asked.length === 0 || asked.includes(name))) {
  console.log(`\n== ${part.name}: ${part.what}`);
  const start = performance.now();
  const verdict = await run(part);
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  if (verdict !== '') process.exitCode = 1;
  lines.push(
    `${verdict === '' ? 'ok    ' : 'FAILED'} ${part.name}, ${seconds} s ${verdict}`.trim(),
  );
}
console.log(`\nVTD_SEED=${process.env.VTD_SEED ?? 0}\n${lines.join('\n')}`);
