// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { LocalFile, LocalMm } from './local_mm.ts';
import { PAGE_SIZE } from './mm.ts';

const BASE = 0x10_0000n;
const PAGE = BigInt(PAGE_SIZE);

/** Four private pages, each filled with its number. */
function fourPages(): LocalMm {
  const mm = new LocalMm();
  const bytes = mm.map(BASE, 4 * PAGE_SIZE);
  for (let page = 0; page < 4; page++) bytes.fill(page, page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
  return mm;
}

/** The first byte of each of the four pages, or undefined where it can not be read. */
const firstBytes = (mm: LocalMm): (number | undefined)[] =>
  [0n, 1n, 2n, 3n].map((page) => {
    const byte = new Uint8Array(1);
    return mm.copyIn(BASE + page * PAGE, byte) ? byte[0] : undefined;
  });

describe('LocalMm', () => {
  it('unmaps the middle of a mapping and keeps the rest where it is', () => {
    const mm = fourPages();
    mm.unmap(BASE + PAGE, 2 * PAGE_SIZE);
    expect(firstBytes(mm)).toEqual([0, undefined, undefined, 3]);
    expect(mm.mappingAt(BASE + 3n * PAGE)).toMatchObject({ start: BASE + 3n * PAGE });
  });

  it('unmaps across mappings and holes', () => {
    const mm = fourPages();
    mm.map(BASE + 8n * PAGE, PAGE_SIZE);
    mm.unmap(BASE + 3n * PAGE, 6 * PAGE_SIZE);
    expect(firstBytes(mm)).toEqual([0, 1, 2, undefined]);
    expect(mm.mappingAt(BASE + 8n * PAGE)).toBeUndefined();
  });

  it('tells the keeper of pins exactly what goes', () => {
    const mm = fourPages();
    const gone: bigint[][] = [];
    mm.pinObserver = {
      hasPins: () => true,
      release: (start, last) => gone.push([start, last]),
      gone: () => undefined,
    };
    mm.unmap(BASE + PAGE, PAGE_SIZE);
    expect(gone).toEqual([[BASE + PAGE, BASE + 2n * PAGE - 1n]]);
  });

  it('maps other memory over a part', () => {
    const mm = fourPages();
    mm.unmap(BASE + PAGE, PAGE_SIZE);
    mm.map(BASE + PAGE, PAGE_SIZE).fill(9);
    expect(firstBytes(mm)).toEqual([0, 9, 2, 3]);
  });

  it('protects a part only, and keeps what is in it', () => {
    const mm = fourPages();
    expect(mm.protect(BASE + PAGE, PAGE_SIZE, { readable: false, writable: false })).toBe(true);
    expect(firstBytes(mm)).toEqual([0, undefined, 2, 3]);
    expect(mm.protect(BASE + PAGE, PAGE_SIZE, { readable: true, writable: false })).toBe(true);
    expect(firstBytes(mm)).toEqual([0, 1, 2, 3]);
    expect(mm.copyOut(BASE + PAGE, new Uint8Array(1))).toBe(false);
  });

  it('says when a part of what it protects is not mapped', () => {
    const mm = fourPages();
    expect(mm.protect(BASE + 3n * PAGE, 2 * PAGE_SIZE, { readable: true, writable: true })).toBe(
      false,
    );
  });

  it('keeps the offset in a shared file when it cuts a mapping', () => {
    const mm = new LocalMm();
    const file = new LocalFile(8 * PAGE_SIZE);
    mm.map(BASE, 4 * PAGE_SIZE, { file, offset: 2 * PAGE_SIZE });
    mm.unmap(BASE, PAGE_SIZE);
    expect(mm.mappingAt(BASE + PAGE)?.shared).toEqual({ file, offset: 3n * PAGE });
  });

  it('forks into a copy of private memory that shares files', () => {
    const mm = fourPages();
    const file = new LocalFile(PAGE_SIZE);
    mm.map(BASE + 8n * PAGE, PAGE_SIZE, { file });
    mm.unmap(BASE, PAGE_SIZE);
    const child = mm.fork();
    child.copyOut(BASE + PAGE, Uint8Array.of(7));
    child.copyOut(BASE + 8n * PAGE, Uint8Array.of(7));
    expect(firstBytes(mm)).toEqual([undefined, 1, 2, 3]);
    expect(firstBytes(child)).toEqual([undefined, 7, 2, 3]);
    expect(file.bytes[0]).toBe(7);
    child.exit();
    expect(firstBytes(mm)).toEqual([undefined, 1, 2, 3]);
  });
});
