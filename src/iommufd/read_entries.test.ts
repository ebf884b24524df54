// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { copyStructFromUser } from '../iommu/user_data.ts';
import { LocalMm } from '../memory/local_mm.ts';
import { clientArray } from './client_data.ts';
import { ReadEntries } from './read_entries.ts';

const AT = 0x1000n;

it('an array keeps what was read of each entry, whatever becomes of the memory', () => {
  const mm = new LocalMm();
  mm.map(AT, 0x1000);
  mm.copyOut(AT, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  const array = new ReadEntries(clientArray(mm, 7, { address: AT, entryLength: 4, entryCount: 2 }));
  expect([array.type, array.entryLength, array.entryCount]).toEqual([7, 4, 2]);
  expect(copyStructFromUser(array.entry(1), 7, 4, 4)).toEqual(Uint8Array.of(5, 6, 7, 8));
  const part = new Uint8Array(2);
  expect(array.entry(0).copyIn(2, part)).toBe(true);
  mm.copyOut(AT, new Uint8Array(8));
  expect(array.entries).toEqual([Uint8Array.of(0, 0, 3, 4), Uint8Array.of(5, 6, 7, 8)]);
});

it('what can not be read is not kept', () => {
  const array = new ReadEntries(
    clientArray(new LocalMm(), 7, { address: AT, entryLength: 4, entryCount: 1 }),
  );
  expect(array.entry(0).copyIn(0, new Uint8Array(4))).toBe(false);
  expect(array.entries).toEqual([new Uint8Array(4)]);
});
