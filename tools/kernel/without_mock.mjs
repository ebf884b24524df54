// SPDX-License-Identifier: Apache-2.0
/**
 * What needs no device of the test driver also passes on a machine that has none: its IOMMU is a VT-d unit. Which tests and recorded
 * scripts these are is listed in test/kernel/vtd-VERSION.txt.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { runSelftest } from './run_selftest.mjs';
import { playScripts } from './scripts.mjs';

const MACHINE = 'vtd';
/** Fewer would not be worth the run. */
const LEAST_TESTS = 30;

/**
 * True where everything passes that the list has; with `update` the list is written anew.
 * @param {import('./fetch.mjs').Kernel} kernel
 * @param {string} program the selftest
 * @param {string} list
 * @param {boolean} update
 */
export async function judgeWithoutMock(kernel, program, list, update) {
  const options = { tree: kernel.tree, native: false, record: undefined, machine: MACHINE };
  const { reader } = await runSelftest(program, [], options);
  const tests = reader.results.filter(({ result }) => result === 'passed').map(({ name }) => name);
  const { played, failure } = await playScripts(kernel, ['--machine', MACHINE]);
  const scripts = [...played].filter(([, { differences }]) => differences.length === 0);
  const passing = new Set([...tests, ...scripts.map(([name]) => `script ${name}`)]);
  if (update) {
    const heading =
      `# What of the kernel's iommufd selftest and of the recorded scripts must pass with --machine ${MACHINE}, where no IOMMU is the\n` +
      `# test driver's. Written by: npm run test:kernel -- --update\n`;
    writeFileSync(list, heading + [...passing].map((name) => `${name}\n`).join(''));
  }
  if (!existsSync(list)) return true;
  const expected = readFileSync(list, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const missing = expected.filter((name) => !passing.has(name));
  const count = expected.filter((name) => !name.startsWith('script ')).length;
  console.log(
    `\non a VT-d machine: ${count} tests and ${expected.length - count} recorded scripts need no device of the test driver, ` +
      (missing.length === 0 ? 'and pass' : `and ${missing.length} of them fail`),
  );
  for (const name of missing) console.log(`  ${name}`);
  if (failure !== '') console.log(`  ${failure}`);
  return missing.length === 0 && count >= LEAST_TESTS && failure === '';
}
