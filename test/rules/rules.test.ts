// SPDX-License-Identifier: Apache-2.0
/** Every rule of chapters A to C, on every hardware: see README.md. */
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { answerRules } from './answers.ts';
import { attachRules } from './attach.ts';
import { domainRules } from './domains.ts';
import { faultRules } from './faults.ts';
import { groupRules } from './groups.ts';
import { handlerRules } from './handlers.ts';
import { requestRules } from './requests.ts';
import { Rig, type RigOptions } from './rig.ts';
import {
  type Chapter,
  EXCEPTIONS,
  HARDWARES,
  type Hardware,
  type Rule,
  RULES,
  type RuleTest,
} from './rules.ts';
import { svaRules } from './sva.ts';

const chapters: Chapter<Rule> = {
  ...domainRules,
  ...attachRules,
  ...groupRules,
  ...svaRules,
  ...faultRules,
  ...requestRules,
  ...answerRules,
  ...handlerRules,
};

const testsOf = (rule: Rule, hardware: Hardware): RuleTest[] =>
  chapters[rule].filter(({ on = HARDWARES }) => on.includes(hardware));

const exceptionOf = (rule: Rule, hardware: Hardware) =>
  EXCEPTIONS.find((each) => each.rule === rule && each.hardware === hardware);

/** Runs a test, and what holds for all at its end. */
function checkRule(hardware: Hardware, { check }: RuleTest): void {
  const made: Rig[] = [];
  check((options?: RigOptions) => {
    const rig = new Rig(hardware, options);
    made.push(rig);
    return rig;
  });
  expect(made.length).toBeGreaterThan(0);
  for (const rig of made) rig.checkEnd();
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe.each(HARDWARES)('%s', (hardware) => {
  for (const rule of RULES) {
    if (exceptionOf(rule, hardware)) continue;
    for (const each of testsOf(rule, hardware))
      it(`${rule} on ${hardware}: ${each.says}`, () => checkRule(hardware, each));
  }
});

describe('the table of rules', () => {
  test('has them all: four of chapter A, eleven of B, fourteen of C', () => {
    const count = (chapter: string): number =>
      new Set(RULES.filter((rule) => rule.startsWith(chapter))).size;
    expect([count('A'), count('B'), count('C'), RULES.length]).toEqual([4, 11, 14, 29]);
  });

  test.each(RULES.flatMap((rule) => HARDWARES.map((hardware) => [rule, hardware] as const)))(
    'has a test of %s for %s, or a reason why there is none',
    (rule, hardware) => {
      const isTested = testsOf(rule, hardware).length > 0;
      const { why } = exceptionOf(rule, hardware) ?? {};
      expect(isTested || why !== undefined).toBe(true);
    },
  );

  test('gives in README.md the reasons that it has, and no others', () => {
    const readme = readFileSync(new URL('README.md', import.meta.url), 'utf8');
    const rows = [...readme.matchAll(/^\| ([ABC]\d+) \| (\w+) \| (.*) \|$/gm)];
    expect(rows.map(([, rule, hardware, why]) => ({ rule, hardware, why }))).toEqual(EXCEPTIONS);
  });
});
