// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { chooseVersion } from './fetch.mjs';
import { TapReader, byFixture, compare, formatExpected, parseExpected } from './tap.mjs';

const output = `TAP version 13
1..5
# Starting 5 tests from 3 test cases.
#  RUN           iommufd.simple_close ...
#            OK  iommufd.simple_close
ok 1 iommufd.simple_close
#  RUN           iommufd_ioas.no_domain.ioas_destroy ...
# iommufd.c:66:ioas_destroy:Expected 0 (0) == -1 (-1)
# ioas_destroy: Test terminated by assertion
#          FAIL  iommufd_ioas.no_domain.ioas_destroy
not ok 2 iommufd_ioas.no_domain.ioas_destroy
#  RUN           iommufd_ioas.one.area ...
#            OK  iommufd_ioas.one.area
ok 3 iommufd_ioas.one.area # SKIP no buffer
#  RUN           iommufd_viommu.x.y ...
#            OK  iommufd_viommu.x.y
ok 4 iommufd_viommu.x.y # XFAIL known
#  RUN           iommufd_viommu.x.hangs ...`;

function read(text: string): TapReader {
  const reader = new TapReader();
  for (const line of text.split('\n')) reader.line(line);
  return reader;
}

const all = { has: new Set(['huge pages']), selected: () => true };

test('tests, skips and what a failing test said are read', () => {
  const { planned, results, running } = read(output);
  expect(planned).toBe(5);
  expect(results.map(({ result }) => result)).toEqual(['passed', 'failed', 'skipped', 'failed']);
  expect(results[1]?.notes).toEqual([
    'iommufd.c:66:ioas_destroy:Expected 0 (0) == -1 (-1)',
    'ioas_destroy: Test terminated by assertion',
  ]);
  expect(results[2]?.notes).toEqual(['no buffer']);
  expect(running).toBe('iommufd_viommu.x.hangs');
});

test('fixtures are counted', () => {
  expect([...byFixture(read(output).results)]).toEqual([
    ['iommufd', { passed: 1, failed: 0, skipped: 0 }],
    ['iommufd_ioas', { passed: 0, failed: 1, skipped: 1 }],
    ['iommufd_viommu', { passed: 0, failed: 1, skipped: 0 }],
  ]);
});

test('a failed, a skipped and a missing test are regressions where the list has them', () => {
  const expected = parseExpected(
    '# a comment\niommufd_ioas.no_domain.ioas_destroy\niommufd_ioas.one.area\n\na.gone\n',
  );
  const { regressions, progress } = compare(expected, read(output).results, all);
  expect(regressions.map(({ name, result }) => `${name} ${result}`)).toEqual([
    'iommufd_ioas.no_domain.ioas_destroy failed',
    'iommufd_ioas.one.area skipped',
    'a.gone missing',
  ]);
  expect(progress).toEqual(['iommufd.simple_close']);
});

test('a test that needs huge pages is not judged where there are none', () => {
  const expected = parseExpected('iommufd_ioas.one.area  # huge pages\n');
  const judged = compare(expected, read(output).results, { ...all, has: new Set<string>() });
  expect([judged.regressions, judged.unjudged]).toEqual([[], ['iommufd_ioas.one.area']]);
  expect(compare(expected, read(output).results, all).regressions).toHaveLength(1);
});

test('a test that was not asked for is not missed', () => {
  const selected = (name: string) => name.startsWith('iommufd.');
  expect(
    compare(parseExpected('a.gone'), read(output).results, { ...all, selected }).regressions,
  ).toEqual([]);
});

test('the list is written as it is read', () => {
  const text = 'a.b  # huge pages\nc.d.e\n';
  expect(formatExpected('', parseExpected(text))).toBe(text);
});

test('a version that has left the archive is replaced by the next one', () => {
  expect(chooseVersion(['7.10', '7.3', '6.12'], '7.2')).toBe('7.3');
  expect(chooseVersion(['7.2', '7.3'], '7.2')).toBe('7.2');
  expect(chooseVersion(['6.12'], '7.2')).toBeUndefined();
});
