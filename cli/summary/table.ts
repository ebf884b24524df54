// SPDX-License-Identifier: Apache-2.0
import type { Durations } from './durations.ts';

/** One row of the summary. */
export interface Row {
  readonly name: string;
  readonly durations: Durations;
  readonly errors: number;
}

const number = (value: number, digits: number): string => value.toFixed(digits);

function cells(row: Row, allMicros: number): string[] {
  const { count, total, median } = row.durations;
  return [
    number(allMicros === 0 ? 0 : (100 * total) / allMicros, 2),
    number(total / 1e6, 6),
    number(median, 1),
    `${count}`,
    row.errors === 0 ? '' : `${row.errors}`,
    row.name,
  ];
}

/**
 * Lines like those of `strace -c`, the call that took longest first. `seconds` is the time that the engine worked on
 * the calls, without the kernel's share of stopping and continuing the program.
 */
export function tableLines(rows: readonly Row[]): string[] {
  const head = ['% time', 'seconds', 'median us', 'calls', 'errors', 'call'];
  const micros = rows.reduce((sum, row) => sum + row.durations.total, 0);
  const calls = rows.reduce((sum, row) => sum + row.durations.count, 0);
  const errors = rows.reduce((sum, row) => sum + row.errors, 0);
  const sorted = rows.toSorted((a, b) => b.durations.total - a.durations.total);
  const body = sorted.map((row) => cells(row, micros));
  const share = rows.length === 0 ? '0.00' : '100.00';
  const totalErrors = errors === 0 ? '' : `${errors}`;
  const total = [share, number(micros / 1e6, 6), '', `${calls}`, totalErrors, 'total'];
  const all = [head, ...body, total];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const rule = widths.map((width) => '-'.repeat(width)).join(' ');
  const last = head.length - 1;
  const line = (row: string[]): string =>
    row
      .map((cell, column) => (column === last ? cell : cell.padStart(widths[column] ?? 0)))
      .join(' ');
  return [line(head), rule, ...body.map(line), rule, line(total)];
}
