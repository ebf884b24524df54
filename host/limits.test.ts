// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { parseUnsigned } from './fail_nth.ts';
import { limitsIn, limitsOf, UNLIMITED } from './limits.ts';

describe('limits of a process', () => {
  const text = [
    'Limit                     Soft Limit           Hard Limit           Units     ',
    'Max locked memory         65536                unlimited            bytes     ',
    'Max file locks            unlimited            unlimited            locks     ',
  ].join('\n');

  test('are read from /proc', () => {
    expect(limitsIn(text, 'Max locked memory')).toEqual({ soft: 65536n, hard: UNLIMITED });
    expect(limitsIn(text, 'Max file locks')).toEqual({ soft: UNLIMITED, hard: UNLIMITED });
    expect(limitsIn(text, 'Max stack size')).toBeUndefined();
  });

  test('are unknown of a process that is gone', () => {
    expect(limitsOf(0x7fff_fff0, 'Max locked memory')).toBeUndefined();
  });
});

test.each([
  ['0', 0],
  ['12\n', 12],
  ['+5', 5],
  ['0x1F', 31],
  ['017', 15],
  ['4294967295', 4294967295],
  ['4294967296', -34],
  ['08', -22],
  ['', -22],
  [' 1', -22],
  ['1\n\n', -22],
  ['-0', -22],
])('%j is read as the kernel reads numbers: %i', (text, value) => {
  expect(parseUnsigned(text)).toBe(value);
});
