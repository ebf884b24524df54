// SPDX-License-Identifier: Apache-2.0
import { type Comparison, describeDifference } from './recordings.ts';

/** How far the engine is equal, in a few lines; with `show`, as many of the first differences of scripts too. */
export function summary(
  done: readonly Comparison[],
  fresh: readonly string[],
  show: number,
): string {
  const equal = done.filter(({ differences }) => differences.length === 0).length;
  const lines = done.reduce((sum, comparison) => sum + comparison.lines, 0);
  const different = done.flatMap(({ differences }) => differences);
  const text = [
    `scripts equal to Linux: ${equal} of ${done.length}; calls: ${lines - different.length} of ${lines}`,
  ];
  if (different.length > 0) text.push(`calls that differ: ${byOp(different.map(({ op }) => op))}`);
  if (fresh.length > 0) {
    text.push(
      `newly equal, add them with GOLDEN_UPDATE=1 npx vitest run test/golden: ${fresh.join(' ')}`,
    );
  }
  const firsts = done.flatMap(({ differences }) => differences.slice(0, 1));
  for (const difference of firsts.slice(0, show)) text.push(describeDifference(difference));
  return text.join('\n');
}

/** `map 3, unmap 1`: how often each op occurs, the most frequent first. */
function byOp(texts: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const text of texts) {
    const op = text.split(' ', 1)[0] ?? '';
    counts.set(op, (counts.get(op) ?? 0) + 1);
  }
  const sorted = [...counts].toSorted((a, b) => b[1] - a[1]);
  return sorted.map(([op, count]) => `${op} ${count}`).join(', ');
}
