// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest';
import { LocalMm } from '../memory/local_mm.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { IovaBitmap } from './iova_bitmap.ts';

const AT = 0x10_0000n;
const IOVA = 0x4000_0000n;
const FIRST = Number(IOVA / 2048n);

/** What is set in bitmap memory of two pages that starts `offset` bytes into the first: the bits, by number. */
function setIn(
  offset: number,
  lg2: number,
  bits: number,
  ranges: readonly (readonly [frame: number, frames: number])[],
  pages = 2,
): number[] {
  const mm = new LocalMm();
  const bytes = mm.map(AT, pages * PAGE_SIZE);
  const bitmap = new IovaBitmap(mm, AT + BigInt(offset), IOVA, BigInt(bits) << BigInt(lg2), lg2);
  for (const [frame, frames] of ranges) bitmap.set(FIRST + frame, frames);
  bitmap.flush();
  const found: number[] = [];
  for (let bit = 0; bit < (bytes.length - offset) * 8; bit++) {
    const byte = bytes[offset + (bit >>> 3)] ?? 0;
    if (byte & (1 << (bit & 7))) found.push(bit);
  }
  return found;
}

test('a bit stands for a frame', () => {
  expect(
    setIn(0, 11, 64, [
      [0, 1],
      [5, 2],
      [63, 1],
    ]),
  ).toEqual([0, 5, 6, 63]);
});

test('a bit of several frames is set by any of them', () => {
  expect(
    setIn(0, 13, 64, [
      [3, 1],
      [7, 2],
    ]),
  ).toEqual([0, 1, 2]);
});

test('a frame of several bits sets all of them', () => {
  expect(
    setIn(0, 9, 64, [
      [2, 1],
      [4, 2],
    ]),
  ).toEqual([8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23]);
});

const bits = (first: number, end: number): number[] =>
  Array.from({ length: end - first }, (_, index) => first + index);

test('a stretch that is longer than the bitmap sets bits beyond it, as far as its page goes', () => {
  expect(setIn(0, 11, 12, [[10, 20]])).toEqual(bits(10, 30));
  expect(setIn(0, 0, 8, [[0, 20]])).toEqual(bits(0, PAGE_SIZE * 8));
});

test('and a page further where the bitmap does not begin with a page', () => {
  expect(setIn(96, 0, 8, [[0, 40]], 3)).toEqual(bits(0, (2 * PAGE_SIZE - 96) * 8));
});

test('a stretch that begins in the bitmap is counted from where it begins', () => {
  const last = PAGE_SIZE * 8 - 8;
  const found = setIn(0, 11, last + 16, [[last + 8, PAGE_SIZE * 8]], 3);
  expect(found).toEqual(bits(last + 8, 2 * PAGE_SIZE * 8));
});

test('a range goes on in the next page of the bitmap, wherever the bitmap begins', () => {
  const offset = PAGE_SIZE - 1;
  expect(setIn(offset, 11, 64, [[6, 5]])).toEqual([6, 7, 8, 9, 10]);
  expect(
    setIn(offset, 11, 64, [
      [20, 1],
      [2, 1],
      [21, 1],
    ]),
  ).toEqual([2, 20, 21]);
});

test('what can not be written is left out, and what can is not', () => {
  const offset = PAGE_SIZE - 1;
  expect(
    setIn(
      offset,
      11,
      64,
      [
        [6, 5],
        [20, 1],
        [1, 1],
      ],
      1,
    ),
  ).toEqual([1, 6, 7]);
});
