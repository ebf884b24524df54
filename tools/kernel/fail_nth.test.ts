// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { parseRanges, readTrace } from './fail_nth.mjs';

const opened = (pid: number): string =>
  `[pid ${pid}] open("/proc/self/task/${pid}/fail-nth") = 1023`;
const failed = (point: number, rest = ''): string =>
  `  fault point ${point} (alloc) was made to fail${rest}`;

describe('the trace of iommufd_fail_nth', () => {
  it('is counted test by test', () => {
    const call = 'ioctl(1022, IOMMU_IOAS_ALLOC, {size=12, flags=0}) = -1 ENOMEM (no memory)';
    const lines = [opened(7), call, failed(1), call, failed(2), opened(8), call, failed(1)];
    expect(readTrace(lines.join('\n'))).toEqual([
      { injected: 2, wrong: [] },
      { injected: 1, wrong: [] },
    ]);
  });

  it.each([
    ['ioctl(5, IOMMU_IOAS_MAP, {}) = 0', '', 'no error'],
    ['ioctl(5, IOMMU_IOAS_MAP, {}) = -1 EINVAL (odd)', '', 'EINVAL'],
    ['ioctl(5, IOMMU_IOAS_MAP, {}) = -1 ENOMEM (x)', ', which left a trace: +IOAS 3', '+IOAS 3'],
  ])('tells what must not be: %s%s', (call, rest, expected) => {
    const [test] = readTrace([opened(7), call, failed(1, rest)].join('\n'));
    expect(test?.wrong).toHaveLength(1);
    expect(test?.wrong[0]).toContain(expected);
  });
});

it('reads ranges, and nothing else', () => {
  const ranges = parseRanges('# TEST LEAST MOST\nfixture.test 5 20\n\n');
  expect([...ranges.values()]).toEqual([{ test: 'fixture.test', least: 5, most: 20 }]);
});
