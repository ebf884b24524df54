// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run test:kernel`: compiles the kernel's own iommufd selftests, unmodified, and runs them under `iommulator run`; then plays
 * the recordings of the real kernel there. What must pass is listed in test/kernel/expected-VERSION.txt.
 *
 *   npm run test:kernel -- --filter iommufd_ioas        a fixture, a variant, or a test by its name or its full name
 *   npm run test:kernel -- --verbose                    prints what each failed test said
 *   npm run test:kernel -- --update                     writes the list anew: what passes now must pass from now on
 *   npm run test:kernel -- --record FILE                keeps the output of the run
 *   npm run test:kernel -- --native                     runs it on this machine's own /dev/iommu, to compare
 *   npm run test:kernel -- --without-huge-pages         as on a machine that gives none
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { withLock } from '../lib/lock.mjs';
import { Skip, cacheFolder, prepareKernel } from './fetch.mjs';
import { judgeFailNth } from './fail_nth.mjs';
import { withHugePages } from './machine.mjs';
import { compileSelftests, runSelftest } from './run_selftest.mjs';
import { judgeScripts } from './scripts.mjs';
import { judgeWithoutMock } from './without_mock.mjs';
import { byFixture, compare, formatExpected, parseExpected } from './tap.mjs';

const MOST_SHOWN = 60;

const HUGE_PAGES = 'huge pages';

/**
 * What tests need of the machine, seen by running them without it: memory of MAP_HUGETLB. Where it is missing they are not
 * judged.
 * @type {readonly [need: string, tests: RegExp][]}
 */
const NEEDS = [[HUGE_PAGES, /_huge(page)?\.\w+$|\.huge_map$|\.access_domain_destory$/]];

/** @param {string} test */
const needOf = (test) => NEEDS.find(([, tests]) => tests.test(test))?.[0];

const root = fileURLToPath(new URL('../..', import.meta.url));

/** @param {import('./tap.mjs').TestResult[]} results */
function printFixtures(results) {
  const row = (/** @type {(string | number)[]} */ [name = '', ...counts]) =>
    console.log(
      `${String(name).padEnd(32)}${counts.map((count) => String(count).padStart(9)).join('')}`,
    );
  row(['fixture', 'passed', 'failed', 'skipped']);
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const [fixture, counts] of byFixture(results)) {
    row([fixture, counts.passed, counts.failed, counts.skipped]);
    total.passed += counts.passed;
    total.failed += counts.failed;
    total.skipped += counts.skipped;
  }
  row(['all', total.passed, total.failed, total.skipped]);
}

/** @param {string} heading @param {readonly { name: string, result?: string, notes: string[] }[]} tests */
function printTests(heading, tests) {
  if (tests.length > 0) console.log(`\n${heading}`);
  for (const { name, result, notes } of tests.slice(0, MOST_SHOWN)) {
    console.log(`  ${name}${result === 'failed' ? '' : ` (${result})`}`);
    for (const note of notes.slice(0, 4)) console.log(`      ${note}`);
  }
  if (tests.length > MOST_SHOWN) console.log(`  ... and ${tests.length - MOST_SHOWN} more`);
}

/**
 * Arguments of the harness for the names that were asked for, and what they select.
 * @param {readonly string[]} filters
 */
function selection(filters) {
  const args = filters.flatMap((name) =>
    name.includes('.') ? ['-r', name] : ['-f', name, '-v', name, '-t', name],
  );
  const selected = (/** @type {string} */ test) =>
    filters.length === 0 || filters.some((name) => name === test || test.split('.').includes(name));
  return { args, selected };
}

async function main() {
  const { values } = parseArgs({
    options: {
      filter: { type: 'string', multiple: true, default: [] },
      verbose: { type: 'boolean', default: false },
      update: { type: 'boolean', default: false },
      native: { type: 'boolean', default: false },
      'without-huge-pages': { type: 'boolean', default: false },
      record: { type: 'string' },
    },
  });
  if (values.update && (values.filter.length > 0 || values.native))
    throw new Error('--update needs a whole run under iommulator: leave out --filter and --native');
  const kernel = await prepareKernel();
  const programs = compileSelftests(kernel);
  const { args, selected } = selection(values.filter);
  console.log(
    `iommufd selftest of Linux ${kernel.release}${values.native ? ', on the real /dev/iommu' : ', under iommulator run'}\n`,
  );

  const start = performance.now();
  const options = { tree: kernel.tree, native: values.native, record: values.record };
  const { reader, rest, stuck, ended, has } = await withLock(
    join(cacheFolder(), 'selftest.lock'),
    'another run of the selftest',
    () =>
      withHugePages(!values['without-huge-pages'], async (hugePages) => {
        const done = await runSelftest(programs.iommufd, args, options);
        const has = new Set(hugePages ? [HUGE_PAGES] : []);
        return { ...done, has };
      }),
  );
  const { results, planned } = reader;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  if (results.length === 0) {
    for (const line of rest) console.error(line);
    throw new Error(stuck ?? `the selftest did not start (${ended})`);
  }
  printFixtures(results);
  console.log(`\n${results.length} of ${planned} tests ran in ${seconds} s`);
  if (results.length < planned)
    console.log(`it ended early, in ${reader.running ?? 'no test'}: ${stuck ?? ended}`);
  if (results.length < planned) for (const line of rest.slice(-5)) console.log(`  ${line}`);
  if (values.verbose)
    printTests(
      'failed:',
      results.filter(({ result }) => result === 'failed'),
    );

  const list = join(root, `test/kernel/expected-${kernel.version}.txt`);
  const vtdList = join(root, `test/kernel/vtd-${kernel.version}.txt`);
  if (values.native) return;
  if (!values.update && !existsSync(list)) {
    console.log(`there is no list for ${kernel.version}: nothing is judged (--update makes one)`);
    return;
  }
  const expected = existsSync(list) ? parseExpected(readFileSync(list, 'utf8')) : new Map();
  const { regressions, progress, unjudged } = compare(expected, results, { has, selected });
  if (values.update) {
    const passing = results.filter(
      ({ name, result }) => result === 'passed' || unjudged.includes(name),
    );
    const heading =
      `# Tests of Linux ${kernel.version}'s tools/testing/selftests/iommu/iommufd.c that must pass under \`iommulator run\`:\n` +
      `# ${passing.length} of ${planned}. Written by: npm run test:kernel -- --update\n` +
      `# What follows a name is what the test needs of the machine; without it the test is not judged.\n`;
    const moved = new Map(passing.map(({ name }) => [name, needOf(name)]));
    writeFileSync(list, formatExpected(heading, moved));
    console.log(
      `\nthe list has ${passing.length} tests now (${progress.length} more, ${regressions.length} fewer)`,
    );
    await judgeWithoutMock(kernel, programs.iommufd, vtdList, true);
    return;
  }
  if (unjudged.length > 0) {
    const missing = NEEDS.map(([need]) => need).filter((need) => !has.has(need));
    console.log(
      `${unjudged.length} failed and are not judged: this machine does not give ${missing.join(', ')}`,
    );
  }
  if (progress.length > 0)
    console.log(
      `\n${progress.length} pass that the list does not have yet (--update adds them):\n  ${progress.join('\n  ')}`,
    );
  printTests('REGRESSIONS: the list says that these pass, and they do not:', regressions);
  if (regressions.length > 0) process.exitCode = 1;
  else
    console.log(
      `\nok: everything passes that must (${[...expected.keys()].filter(selected).length - unjudged.length} tests)`,
    );
  if (values.filter.length > 0) return;
  const ranges = join(root, `test/kernel/fail_nth-${kernel.version}.txt`);
  if (!existsSync(ranges))
    console.log(`there are no ranges for ${kernel.version}: iommufd_fail_nth is not judged`);
  else if (!(await judgeFailNth(programs.failNth, ranges))) process.exitCode = 1;
  const judged = await withHugePages(!values['without-huge-pages'], () => judgeScripts(kernel));
  if (!judged) process.exitCode = 1;
  if (!(await judgeWithoutMock(kernel, programs.iommufd, vtdList, false))) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  if (error instanceof Skip) console.log(`skipped: ${error.message}`);
  else {
    console.error(`test:kernel: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
