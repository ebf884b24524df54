// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { withLock } from './lock.mjs';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iommulator-lock-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test('the lock is held while the work runs, and gone afterwards, also when it fails', async () => {
  const path = join(folder, 'a.lock');
  expect(await withLock(path, 'nobody', () => readFileSync(path, 'utf8'))).toBe(`${process.pid}\n`);
  expect(existsSync(path)).toBe(false);
  await expect(withLock(path, 'nobody', () => Promise.reject(new Error('no')))).rejects.toThrow(
    'no',
  );
  expect(existsSync(path)).toBe(false);
});

test('the second of two waits for the first', async () => {
  const path = join(folder, 'a.lock');
  const order: string[] = [];
  const first = withLock(path, 'the second', async () => {
    order.push('first begins');
    await new Promise((resolve) => setImmediate(resolve));
    order.push('first ends');
  });
  await Promise.all([first, withLock(path, 'the first', () => order.push('second'))]);
  expect(order).toEqual(['first begins', 'first ends', 'second']);
});

test('the lock of a process that has died is taken away', async () => {
  const path = join(folder, 'a.lock');
  const { pid } = spawnSync('true');
  writeFileSync(path, `${pid}\n`);
  expect(await withLock(path, 'a ghost', () => 'mine')).toBe('mine');
});
