// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { LocalMm } from '../memory/local_mm.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { clientArray } from './client_data.ts';

const AT = 0x10_0000n;

/** Two pages of memory whose bytes count up, and how often it was read. */
function memory() {
  const mm = new LocalMm();
  const bytes = mm.map(AT, 2 * PAGE_SIZE);
  bytes.forEach((_, at) => (bytes[at] = at));
  let reads = 0;
  const copyIn = mm.copyIn.bind(mm);
  mm.copyIn = (address, into) => {
    reads += 1;
    return copyIn(address, into);
  };
  return { mm, bytes, reads: () => reads };
}

const entries = (address: bigint, entryLength: number, entryCount: number) => ({
  address,
  entryLength,
  entryCount,
});

test('many entries are fetched with one read', () => {
  const { mm, bytes, reads } = memory();
  const array = clientArray(mm, 1, entries(AT, 8, 64));
  const entry = new Uint8Array(8);
  for (let index = 0; index < 64; index++) {
    expect(array.entry(index).copyIn(0, entry)).toBe(true);
    expect([...entry]).toEqual([...bytes.subarray(index * 8, index * 8 + 8)]);
  }
  expect(reads()).toBe(1);
});

test('entries before one that cannot be read are had, across batches and pages', () => {
  const { mm } = memory();
  const start = AT + BigInt(2 * PAGE_SIZE - 40);
  const array = clientArray(mm, 1, entries(start, 16, 1000));
  const entry = new Uint8Array(16);
  expect([0, 1, 2, 3].map((index) => array.entry(index).copyIn(0, entry))).toEqual([
    true,
    true,
    false,
    false,
  ]);
});

test('an array of more than a batch is read to its end', () => {
  const { mm, bytes } = memory();
  const array = clientArray(mm, 1, entries(AT, 24, 341));
  const entry = new Uint8Array(24);
  for (let index = 0; index < 341; index++) {
    expect(array.entry(index).copyIn(0, entry)).toBe(true);
    expect(entry[0]).toBe(bytes[index * 24]);
  }
});

test('two arrays in turns do not see each other’s entries', () => {
  const { mm, bytes } = memory();
  const one = clientArray(mm, 1, entries(AT, 4, 8));
  const other = clientArray(mm, 1, entries(AT + 100n, 4, 8));
  const entry = new Uint8Array(4);
  for (let index = 0; index < 8; index++) {
    one.entry(index).copyIn(0, entry);
    expect(entry[0]).toBe(bytes[index * 4]);
    other.entry(index).copyIn(0, entry);
    expect(entry[0]).toBe(bytes[100 + index * 4]);
  }
});

test('what is written to an entry is read back', () => {
  const { mm } = memory();
  const array = clientArray(mm, 1, entries(AT, 4, 8));
  const entry = new Uint8Array(4);
  array.entry(1).copyIn(0, entry);
  array.entry(1).copyOut(0, Uint8Array.of(9, 9, 9, 9));
  array.entry(1).copyIn(0, entry);
  expect([...entry]).toEqual([9, 9, 9, 9]);
});
