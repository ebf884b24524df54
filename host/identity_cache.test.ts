// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { IdentityCache } from './identity_cache.ts';

test('nothing is believed between a change and the next call of its thread', () => {
  const cache = new IdentityCache(true, () => true);
  const before = cache.generation;
  expect(cache.usable).toBe(true);
  cache.changes(7);
  expect(cache.generation).not.toBe(before);
  expect(cache.usable).toBe(false);
  cache.arrives(8);
  expect(cache.usable).toBe(false);
  cache.arrives(7);
  expect(cache.usable).toBe(true);
});

test('a thread that ends in the middle of its change does not stop the cache for good', () => {
  const living = new Set([7]);
  const cache = new IdentityCache(true, (tid) => living.has(tid));
  cache.changes(7);
  for (let i = 0; i < 1000; i += 1) expect(cache.usable).toBe(false);
  living.clear();
  for (let i = 0; i < 1000 && !cache.usable; i += 1);
  expect(cache.usable).toBe(true);
});

test('nothing is kept where descriptors can be closed unseen', () => {
  expect(new IdentityCache(false, () => true).usable).toBe(false);
});
