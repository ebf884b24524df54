// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run test:kernel`: compiles the kernel's own iommufd selftest, unmodified, and runs it under `iommulator run`.
 * What must pass is listed in test/kernel/expected-VERSION.txt.
 *
 *   npm run test:kernel -- --filter iommufd_ioas        a fixture, a variant, or a test by its name or its full name
 *   npm run test:kernel -- --verbose                    prints what each failed test said
 *   npm run test:kernel -- --update                     writes the list anew: what passes now must pass from now on
 *   npm run test:kernel -- --record FILE                keeps the output of the run
 *   npm run test:kernel -- --native                     runs it on this machine's own /dev/iommu, to compare
 *   npm run test:kernel -- --without-huge-pages         as on a machine that gives none
 */
import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compileC } from './compile.mjs';
import { Skip, libcap, prepareKernel } from './fetch.mjs';
import { withHugePages } from './huge_pages.mjs';
import { killTree } from './kill_tree.mjs';
import { TapReader, byFixture, compare, formatExpected, parseExpected } from './tap.mjs';

/** The harness ends a test after 30 s; a run that prints nothing for longer is stuck itself. */
const SILENCE_MS = 45_000;

/** Tests that map memory with MAP_HUGETLB (seen by running without huge pages). */
const NEEDS_HUGE_PAGES = /_huge(page)?\.\w+$|\.huge_map$|\.access_domain_destory$/;

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The selftests, compiled as the kernel's Makefile does: with its headers, as GNU source, without a change.
 * iommufd_fail_nth is compiled so that it is known to compile; it needs fault injection to be run.
 * @param {import('./fetch.mjs').Kernel} kernel
 */
function compileSelftests({ tree, release }) {
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
 * @param {{ tree: string, native: boolean, record: string | undefined }} options
 *   tree: the kernel's, which is left out of what is printed
 */
async function run(program, args, { tree, native, record }) {
  const prefix = native ? [] : [join(root, 'bin/iommulator'), 'run', '--'];
  // The tests pin memory; the limit is raised as far as this user may. Both outputs share a pipe to keep their order.
  const script = 'ulimit -l unlimited 2>/dev/null || ulimit -l "$(ulimit -H -l)"; exec "$@" 2>&1';
  const child = spawn('bash', ['-c', script, 'bash', ...prefix, program, ...args], {
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
  for (const { name, result, notes } of tests) {
    console.log(`  ${name}${result === 'failed' ? '' : ` (${result})`}`);
    for (const note of notes.slice(0, 4)) console.log(`      ${note}`);
  }
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
  const program = compileSelftests(kernel);
  const { args, selected } = selection(values.filter);
  console.log(
    `iommufd selftest of Linux ${kernel.release}${values.native ? ', on the real /dev/iommu' : ', under iommulator run'}\n`,
  );

  const start = performance.now();
  const { reader, rest, stuck, ended, hugePages } = await withHugePages(
    !values['without-huge-pages'],
    async (available) => ({
      ...(await run(program, args, {
        tree: kernel.tree,
        native: values.native,
        record: values.record,
      })),
      hugePages: available,
    }),
  );
  const { results, planned } = reader;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  if (results.length === 0) {
    for (const line of rest) console.error(line);
    throw new Error(
      stuck ? 'nothing was printed for too long: stopped' : `the selftest did not start (${ended})`,
    );
  }
  printFixtures(results);
  console.log(`\n${results.length} of ${planned} tests ran in ${seconds} s`);
  if (stuck)
    console.log(`stopped: nothing was printed for ${SILENCE_MS / 1000} s in ${reader.running}`);
  else if (results.length < planned)
    console.log(`it ended early (${ended}) in ${reader.running ?? 'no test'}`);
  if (results.length < planned) for (const line of rest.slice(-5)) console.log(`  ${line}`);
  if (!hugePages) console.log('there are too few huge pages: tests that need them are not judged');
  if (values.verbose)
    printTests(
      'failed:',
      results.filter(({ result }) => result === 'failed'),
    );

  const list = join(root, `test/kernel/expected-${kernel.version}.txt`);
  if (values.native) return;
  if (!values.update && !existsSync(list)) {
    console.log(`there is no list for ${kernel.version}: nothing is judged (--update makes one)`);
    return;
  }
  const expected = existsSync(list) ? parseExpected(readFileSync(list, 'utf8')) : new Map();
  const { regressions, progress, unjudged } = compare(expected, results, { hugePages, selected });
  if (values.update) {
    const passing = results.filter(
      ({ name, result }) => result === 'passed' || unjudged.includes(name),
    );
    const heading =
      `# Tests of Linux ${kernel.version}'s tools/testing/selftests/iommu/iommufd.c that must pass under \`iommulator run\`:\n` +
      `# ${passing.length} of ${planned}. Written by: npm run test:kernel -- --update\n` +
      `# Those marked "huge pages" are judged only where the machine gives some.\n`;
    const moved = new Map(
      passing.map(({ name }) => [name, { hugePages: NEEDS_HUGE_PAGES.test(name) }]),
    );
    writeFileSync(list, formatExpected(heading, moved));
    console.log(
      `\nthe list has ${passing.length} tests now (${progress.length} more, ${regressions.length} fewer)`,
    );
    return;
  }
  if (unjudged.length > 0) console.log(`${unjudged.length} not judged, for want of huge pages`);
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
