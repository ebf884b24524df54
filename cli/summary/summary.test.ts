// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Summary } from './summary.ts';

const file = { name: '/dev/iommu' };
const MAP = 'IOMMU_IOAS_MAP';

/** Threads n and n + 1 (n even) belong to process n. */
const summaryWhere = (...ending: number[]) =>
  new Summary({ of: (tid) => tid & ~1, isEnding: (pid) => ending.includes(pid) });

describe('the summary', () => {
  it('counts calls and errors by name', () => {
    const summary = summaryWhere();
    summary.called(10, file, MAP, 0, 30);
    summary.called(10, file, MAP, -22, 30);
    summary.called(10, file, 'pread64', -25, 5);
    const lines = summary.lines();
    expect(lines[2]).toMatch(/^ 92\.31 0\.000060 +\S+ +2 +1 IOMMU_IOAS_MAP$/);
    expect(lines[3]).toMatch(/ 1 +1 pread64$/);
  });

  it('says that nothing was left open where the program closed its files', () => {
    const summary = summaryWhere();
    summary.opened(10, file);
    summary.closed(file, '');
    expect(summary.lines().at(-1)).toBe('left open: nothing');
  });

  it('names files that went with their process, and what they held', () => {
    const summary = summaryWhere(12);
    summary.opened(10, file);
    summary.called(13, file, MAP, 0, 1);
    summary.closed(file, 'IOAS 1, IOAS 2');
    expect(summary.lines().slice(-2)).toEqual([
      'left open:',
      '  /dev/iommu of process 12, not closed, with IOAS 1, IOAS 2',
    ]);
  });

  it('names objects that programs left to the close, once where they are the same', () => {
    const summary = summaryWhere(12);
    for (const held of ['IOAS 1', 'IOAS 2', 'IOAS 1']) {
      summary.opened(10, file);
      summary.closed(file, held);
    }
    expect(summary.lines().slice(-3)).toEqual([
      'left open:',
      '  /dev/iommu, closed with IOAS 1 (2 times)',
      '  /dev/iommu, closed with IOAS 2',
    ]);
  });
});
