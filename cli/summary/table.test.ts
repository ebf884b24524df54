// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Durations } from './durations.ts';
import { tableLines } from './table.ts';

function row(name: string, errors: number, ...micros: number[]) {
  const durations = new Durations();
  for (const value of micros) durations.add(value);
  return { name, errors, durations };
}

describe('the summary table', () => {
  it('lists calls by total time, with errors only where there are any', () => {
    const rows = [row('IOMMU_DESTROY', 0, 100), row('IOMMU_IOAS_MAP', 2, 100, 100, 100)];
    expect(tableLines(rows)).toEqual([
      '% time  seconds median us calls errors call',
      '------ -------- --------- ----- ------ --------------',
      ' 75.00 0.000300      99.8     3      2 IOMMU_IOAS_MAP',
      ' 25.00 0.000100      99.8     1        IOMMU_DESTROY',
      '------ -------- --------- ----- ------ --------------',
      '100.00 0.000400               4      2 total',
    ]);
  });

  it('without a call has only a total', () => {
    expect(tableLines([]).at(-1)?.trim()).toMatch(/^0\.00 0\.000000 +0 +total$/);
  });
});
