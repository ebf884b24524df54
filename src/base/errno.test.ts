// SPDX-License-Identifier: Apache-2.0
import { afterEach, expect, test } from 'vitest';
import { Errno, ErrnoError } from './errno.ts';

afterEach(() => {
  ErrnoError.keepsStack = true;
});

const frames = (error: Error): number => (error.stack ?? '').split('\n    at ').length - 1;

test('it names itself, its code and its number', () => {
  const error = new ErrnoError('ENOSPC', 'no room');
  expect(String(error)).toBe('ErrnoError: no room');
  expect([error.code, error.errno]).toEqual(['ENOSPC', Errno.ENOSPC]);
  expect(Object.keys(error)).toEqual(['code']);
});

test('it keeps the stack of where it was thrown', () => {
  expect(frames(new ErrnoError('EINVAL', 'bad'))).toBeGreaterThan(0);
});

test('it keeps none where nobody will see it, and other errors keep theirs', () => {
  ErrnoError.keepsStack = false;
  expect(frames(new ErrnoError('EINVAL', 'bad'))).toBe(0);
  expect(frames(new TypeError('a bug'))).toBeGreaterThan(0);
});
