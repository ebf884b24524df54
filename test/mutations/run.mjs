// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run test:mutations [-- [--in FOLDER] RULE...]`: breaks the code one line at a time (mutations.mjs), in a copy of the tree, and runs the
 * tests that cite the rule. Each must fail: a test that stays green does not test its rule. And each rule must have a mutation that the
 * tests of test/rules notice, on each hardware. Exit 1 unless all is so. With a folder only the tests in that are run.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { copyTree, root } from './copy.mjs';
import { mutations, notYet } from './mutations.mjs';

const LIMIT_MS = 60_000;
const { values: options, positionals: asked } = parseArgs({
  options: { in: { type: 'string' } },
  allowPositionals: true,
});
const chosen = mutations.filter(({ rule }) => asked.length === 0 || asked.includes(rule));
if (chosen.length === 0) {
  const rules = [...new Set(mutations.map(({ rule }) => rule))].join(', ');
  console.error(`there is no mutation for ${asked.join(', ')}; there are: ${rules}`);
  process.exit(2);
}

const copy = copyTree();

/** Rule ids in the names of tests; `B1` is not `B10`. @param {string} rule */
const cites = (rule) => new RegExp(String.raw`\b${rule}\b`);

/** Explorations, which run for a minute each: what they find must be seen by a plain test too. */
const EXPLORATION = /_orders\.test\.ts$/;

/** The tests of every rule, made from a table: its name has the rule and the hardware. */
const RULES = 'test/rules/rules.test.ts';
const ON_HARDWARE = /\b([ABC]\d+) on (\w+):/;

const testFiles = ['src', 'test/rules']
  .flatMap((folder) =>
    readdirSync(join(copy, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.test.ts') && !EXPLORATION.test(name))
      .map((name) => join(folder, name)),
  )
  .filter((file) => file.startsWith(options.in ?? ''));

/** Test files in which a rule is named. @param {string} rule */
const filesOf = (rule) =>
  testFiles.filter(
    (file) => file === RULES || cites(rule).test(readFileSync(join(copy, file), 'utf8')),
  );

/**
 * Runs the citing tests. `broken` says why they could not be run.
 * @param {string} rule @returns {{ passed: string[], failed: string[], broken: string | undefined }}
 */
function runTests(rule) {
  const report = join(copy, 'report.json');
  rmSync(report, { force: true });
  const args = [
    'run',
    ...filesOf(rule),
    '-t',
    cites(rule).source,
    '--reporter=json',
    `--outputFile=${report}`,
  ];
  const vitest = join(copy, 'node_modules/vitest/vitest.mjs');
  const done = spawnSync(process.execPath, [vitest, ...args], {
    cwd: copy,
    encoding: 'utf8',
    timeout: LIMIT_MS,
  });
  // Tests that never end have noticed.
  if (done.error) return { passed: [], failed: ['(the tests do not end)'], broken: undefined };
  let result;
  try {
    result = JSON.parse(readFileSync(report, 'utf8'));
  } catch {
    return { passed: [], failed: [], broken: `vitest made no report: ${done.stderr.trim()}` };
  }
  const tests = result.testResults.flatMap((/** @type {any} */ file) => file.assertionResults);
  /** @param {string} status @returns {string[]} */
  const named = (status) =>
    tests
      .filter((/** @type {any} */ test) => test.status === status)
      .map((/** @type {any} */ test) => test.fullName);
  const unloaded = result.testResults.find(
    (/** @type {any} */ file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  return { passed: named('passed'), failed: named('failed'), broken: unloaded?.message };
}

/** On which hardware a rule has tests of test/rules among these. @param {string} rule @param {string[]} names @returns {string[]} */
function hardwareIn(rule, names) {
  const found = names.map((name) => ON_HARDWARE.exec(name) ?? []);
  return [
    ...new Set(found.flatMap(([, id, hardware]) => (id === rule && hardware ? [hardware] : []))),
  ];
}

/** The text of a file with one line changed; undefined where the line is not there exactly once. @param {import('./mutations.mjs').Mutation} mutation */
function mutate({ file, line, by }) {
  const lines = readFileSync(join(copy, file), 'utf8').split('\n');
  const at = lines.flatMap((text, index) => (text.trim() === line ? [index] : []));
  const [only] = at;
  if (only === undefined || at.length > 1) return undefined;
  lines[only] = by;
  return lines.join('\n');
}

const start = performance.now();
let bad = 0;
/** @param {string} verdict @param {string} text */
const tell = (verdict, text) => {
  if (verdict !== 'caught') bad++;
  console.log(`${verdict.padEnd(8)} ${text}`);
};

// Unbroken, every rule must have tests, and they must pass: else a failure below would say nothing.
/** @type {Map<string, number>} */
const whole = new Map();
/** Rule and hardware of test/rules without a mutation that was noticed. @type {Set<string>} */
const unproven = new Set();
for (const rule of new Set(chosen.map((mutation) => mutation.rule))) {
  const { passed, failed, broken } = runTests(rule);
  whole.set(rule, passed.length);
  for (const hardware of hardwareIn(rule, passed)) unproven.add(`${rule} on ${hardware}`);
  if (broken ?? failed.length > 0)
    tell('BROKEN', `${rule} without any mutation: ${broken ?? failed.join('; ')}`);
  else if (passed.length === 0) tell('UNTESTED', `${rule}: no test has it in its name`);
}
if (bad > 0) {
  console.error(
    'the tests that cite the rules must be there and pass before a mutation can say anything',
  );
  process.exit(1);
}
for (const mutation of chosen) {
  const { rule, file, line, why } = mutation;
  const what = `${rule.padEnd(3)} ${file}: ${why}`;
  const text = mutate(mutation);
  if (text === undefined) {
    tell('STALE', `${what}\n         the line is not in the file exactly once: ${line}`);
    continue;
  }
  const original = readFileSync(join(copy, file), 'utf8');
  writeFileSync(join(copy, file), text);
  const { failed, broken } = runTests(rule);
  writeFileSync(join(copy, file), original);
  if (broken) tell('BROKEN', `${what}\n         ${broken}`);
  else if (failed.length === 0)
    tell(
      'SURVIVED',
      `${what}\n         ${whole.get(rule)} tests pass though the line is now: ${mutation.by || '(nothing)'}`,
    );
  else {
    const on = hardwareIn(rule, failed);
    for (const hardware of on) unproven.delete(`${rule} on ${hardware}`);
    const where = on.length > 0 ? `; on ${on.join(', ')}` : '';
    tell('caught', `${what} (${failed.length} of ${whole.get(rule)} tests${where})`);
  }
}
for (const each of unproven)
  tell('UNPROVEN', `${each}: no mutation makes its tests in test/rules fail`);
if (asked.length === 0)
  for (const { rule, why } of notYet)
    console.log(`-        ${rule.padEnd(3)} not applicable: ${why}`);
const seconds = ((performance.now() - start) / 1000).toFixed(0);
console.log(
  `${chosen.length} mutations in ${relative(process.cwd(), root) || 'this tree'}, ${bad} not as they should be, ${seconds} s`,
);
process.exitCode = bad > 0 ? 1 : 0;
