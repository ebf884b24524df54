// SPDX-License-Identifier: Apache-2.0
/**
 * Reads what the kernel's test harness prints (TAP version 13, tests named FIXTURE.TEST or FIXTURE.VARIANT.TEST) and
 * compares it with a list of tests that must pass.
 */

/**
 * @typedef {{ name: string, result: 'passed' | 'failed' | 'skipped', notes: string[] }} TestResult
 *   notes: what was printed while it ran, and why it was skipped
 */

/** Fed line by line, so that a run that is cut off still tells what it had done. */
export class TapReader {
  planned = 0;
  /** @type {TestResult[]} */
  results = [];
  /** The test that began and has not ended. @type {string | undefined} */
  running = undefined;
  /** @type {string[]} */
  #notes = [];

  /** @param {string} line @returns {TestResult | undefined} the test that it ends */
  line(line) {
    const plan = /^1\.\.(\d+)$/.exec(line);
    if (plan) this.planned = Number(plan[1]);
    const run = /^# +RUN +(\S+) \.\.\.$/.exec(line);
    if (run) {
      this.running = run[1];
      this.#notes = [];
      return undefined;
    }
    // An XFAIL is a failure that the test's author expects, and counts as what it is.
    const end = /^(ok|not ok) \d+ (\S+)(?: # (SKIP|XFAIL|XPASS)\b ?(.*))?$/.exec(line);
    if (!end) {
      const isVerdict = /^# +(OK|FAIL) /.test(line);
      if (line !== '' && !isVerdict) this.#notes.push(line.replace(/^# */, ''));
      return undefined;
    }
    const [, status, name = '', directive, reason] = end;
    if (reason) this.#notes.push(reason);
    const passed = status === 'ok' && directive !== 'XFAIL';
    /** @type {TestResult} */
    const result = {
      name,
      result: directive === 'SKIP' ? 'skipped' : passed ? 'passed' : 'failed',
      notes: this.#notes,
    };
    this.results.push(result);
    this.running = undefined;
    this.#notes = [];
    return result;
  }
}

/** @param {string} name  FIXTURE.TEST or FIXTURE.VARIANT.TEST */
const fixtureOf = (name) => name.slice(0, name.indexOf('.'));

/**
 * Counts by fixture, in the order of the run.
 * @param {readonly TestResult[]} results
 */
export function byFixture(results) {
  /** @type {Map<string, { passed: number, failed: number, skipped: number }>} */
  const fixtures = new Map();
  for (const { name, result } of results) {
    const counts = fixtures.get(fixtureOf(name)) ?? { passed: 0, failed: 0, skipped: 0 };
    counts[result]++;
    fixtures.set(fixtureOf(name), counts);
  }
  return fixtures;
}

/**
 * Tests that must pass, each with what it needs of the machine, if it needs anything (`huge pages`).
 * @typedef {Map<string, string | undefined>} Expected
 */

/** @param {string} text  the checked-in list @returns {Expected} */
export function parseExpected(text) {
  /** @type {Expected} */
  const expected = new Map();
  for (const line of text.split('\n')) {
    const [name = '', needs] = line.split(/\s+# /);
    if (name !== '' && !name.startsWith('#')) expected.set(name.trim(), needs?.trim());
  }
  return expected;
}

/** @param {string} heading @param {Expected} expected */
export function formatExpected(heading, expected) {
  const lines = [...expected].map(([name, needs]) =>
    needs === undefined ? name : `${name}  # ${needs}`,
  );
  return `${heading}${lines.join('\n')}\n`;
}

/**
 * @param {Expected} expected
 * @param {readonly TestResult[]} results
 * @param {{ has: ReadonlySet<string>, selected: (name: string) => boolean }} run
 *   has: the needs that the machine met; selected: which tests were asked for
 */
export function compare(expected, results, { has, selected }) {
  const found = new Map(results.map((result) => [result.name, result]));
  const regressions = [];
  const unjudged = [];
  for (const [name, needs] of expected) {
    if (!selected(name)) continue;
    const result = found.get(name);
    if (result?.result === 'passed') continue;
    if (needs !== undefined && !has.has(needs)) unjudged.push(name);
    else
      regressions.push(
        result ?? { name, result: /** @type {const} */ ('missing'), notes: ['it did not run'] },
      );
  }
  const progress = results.filter(({ name, result }) => result === 'passed' && !expected.has(name));
  return { regressions, unjudged, progress: progress.map(({ name }) => name) };
}
