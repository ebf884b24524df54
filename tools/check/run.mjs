// SPDX-License-Identifier: Apache-2.0
/**
 * `npm run check`: everything about the sources that a machine can check. `npm run check -- lint types` runs some of it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { citationProblems } from './citations.mjs';
import { spdxProblems } from './spdx.mjs';

process.chdir(fileURLToPath(new URL('../..', import.meta.url)));

/**
 * Runs a tool of node_modules; its output is shown where it fails.
 * @param {string} name  in node_modules/.bin
 * @param {string[]} args
 * @returns {string[]} what it printed, where it failed
 */
function tool(name, args) {
  const path = `node_modules/.bin/${name}`;
  if (!existsSync(path)) return [`${path} is missing: run npm ci`];
  const done = spawnSync(path, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (done.status === 0) return [];
  return [
    `${done.stdout ?? ''}${done.stderr ?? ''}`.trim() ||
      `${name} failed: ${done.error?.message ?? done.signal}`,
  ];
}

/** @type {Readonly<Record<string, { what: string, run: () => string[] }>>} */
const checks = {
  types: {
    what: 'types of the sources, the tests and the tools',
    run: () => [...tool('tsc', ['-b']), ...tool('tsc', ['-p', 'tsconfig.test.json'])],
  },
  lint: {
    what: 'oxlint with types, and the floors',
    run: () => tool('oxlint', ['--type-aware', '--deny-warnings']),
  },
  format: {
    what: 'format; `npx prettier --write .` mends it',
    run: () => tool('prettier', ['--check', '--log-level', 'warn', '.']),
  },
  spdx: { what: 'a licence line in each source file', run: spdxProblems },
  citations: { what: 'cited specifications are defined in docs/specs.md', run: citationProblems },
};

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !(name in checks));
if (unknown.length > 0) {
  console.error(
    `there is no check ${unknown.join(', ')}; there are: ${Object.keys(checks).join(', ')}`,
  );
  process.exit(2);
}

let failed = 0;
for (const [name, { what, run }] of Object.entries(checks)) {
  if (asked.length > 0 && !asked.includes(name)) continue;
  const start = performance.now();
  const problems = run();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(
    `${problems.length === 0 ? 'ok    ' : 'FAILED'} ${name.padEnd(9)} ${seconds} s  ${what}`,
  );
  for (const problem of problems) console.log(problem.replaceAll(/^/gm, '       '));
  if (problems.length > 0) failed++;
}
process.exitCode = failed > 0 ? 1 : 0;
