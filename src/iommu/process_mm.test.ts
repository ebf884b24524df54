// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { Ram } from '../memory/ram.ts';
import { Faults } from '../sim/faults.ts';
import { ProcessMm } from './process_mm.ts';

const PAGE = 0x1000;
const AT = 0x7f00_0000_0000n;
const RW = { readable: true, writable: true };
const READ = { read: true, write: false, execute: false };
const WRITE = { read: false, write: true, execute: false };
const EXECUTE = { read: false, write: false, execute: true };

let faults: Faults;
let ram: Ram;
let mm: ProcessMm;
/** What hardware was told, and the item at `AT` at that time. */
let told: string[];

beforeEach(() => {
  faults = new Faults();
  ram = new Ram({ faults });
  const made = ProcessMm.create(ram);
  if (typeof made === 'number') throw new Error('no memory');
  mm = made;
  told = [];
  mm.subscribe({
    invalidate: (start, last) =>
      told.push(`${start.toString(16)}-${last.toString(16)} item ${item(AT).toString(16)}`),
    release: () => told.push(`released, ${mm.alive ? 'alive' : 'dead'}, ${ram.liveFrames} frames`),
  });
});

/** The item of an address, read from RAM as hardware does: by the root, 9 bits a level. 0 where nothing leads to it. */
function item(address: bigint): bigint {
  let table = mm.root;
  for (let level = mm.levels - 1; level >= 0; level--) {
    const index = Number((address >> BigInt(12 + 9 * level)) & 511n);
    const bytes = ram.bytes(Number(table / 2048n), 2);
    const entry = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(index * 8, true);
    if (level === 0 || (entry & 1n) === 0n) return entry;
    table = entry & 0x000f_ffff_ffff_f000n;
  }
  return 0n;
}

describe('the address space of a process', () => {
  it('has nothing in its tables before a page is touched', () => {
    expect(mm.mmap(AT, 4 * PAGE, RW)).toBe(0);
    expect(item(AT)).toBe(0n);
    expect(mm.handleFault(AT + 5n, READ)).toBe(true);
    // Present, writable, user, accessed, dirty; XD, as it may not be executed.
    expect(item(AT) & 0x8000_0000_0000_0fffn).toBe(0x8000_0000_0000_0067n);
    expect(item(AT + 0x1000n)).toBe(0n);
  });

  it('has the items that its protections say', () => {
    mm.mmap(AT, PAGE, { readable: true });
    mm.mmap(AT + 0x1000n, PAGE, { readable: true, executable: true });
    expect(mm.handleFault(AT, READ)).toBe(true);
    expect(mm.handleFault(AT + 0x1000n, EXECUTE)).toBe(true);
    expect(item(AT) & 0x8000_0000_0000_0fffn).toBe(0x8000_0000_0000_0025n);
    expect(item(AT + 0x1000n) & 0x8000_0000_0000_0fffn).toBe(0x25n);
  });

  it('refuses faults that no mapping allows', () => {
    mm.mmap(AT, PAGE, { readable: true });
    expect(mm.handleFault(AT, WRITE)).toBe(false);
    expect(mm.handleFault(AT, EXECUTE)).toBe(false);
    expect(mm.handleFault(AT + 0x1000n, READ)).toBe(false);
    expect(mm.pageFaults).toBe(0);
    expect(item(AT)).toBe(0n);
  });

  it('shows the processor and hardware the same bytes', () => {
    mm.mmap(AT, 2 * PAGE, RW);
    expect(mm.copyOut(AT + 0xffen, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    const second = Number((item(AT + 0x1000n) & 0x000f_ffff_ffff_f000n) / 2048n);
    expect([...ram.bytes(second, 2).subarray(0, 3)]).toEqual([3, 4, 0]);
    const back = new Uint8Array(4);
    expect(mm.copyIn(AT + 0xffen, back)).toBe(true);
    expect([...back]).toEqual([1, 2, 3, 4]);
    expect(mm.copyIn(AT + 0x1ffen, back)).toBe(false);
  });

  it('tells hardware of an unmap when the items are gone and the pages are not', () => {
    mm.mmap(AT, 3 * PAGE, RW);
    mm.copyOut(AT, new Uint8Array(3 * PAGE));
    const live = ram.liveFrames;
    expect(mm.munmap(AT, PAGE)).toBe(0);
    expect(told).toEqual(['7f0000000000-7f0000000fff item 0']);
    expect(ram.liveFrames).toBe(live - 2);
    expect(mm.mappingAt(AT)).toBeUndefined();
    expect(mm.mappingAt(AT + 0x1000n)).toMatchObject({ start: AT + 0x1000n, writable: true });
    expect(mm.handleFault(AT, READ)).toBe(false);
  });

  it('cuts a mapping in two', () => {
    mm.mmap(AT, 3 * PAGE, RW);
    mm.munmap(AT + 0x1000n, PAGE);
    expect(mm.mappingAt(AT)).toMatchObject({ start: AT, last: AT + 0xfffn });
    expect(mm.mappingAt(AT + 0x2000n)).toMatchObject({ start: AT + 0x2000n });
    expect(mm.mmap(AT, 2 * PAGE, RW)).toBe(-Errno.EEXIST);
    expect(mm.mmap(AT + 0x1000n, PAGE, RW)).toBe(0);
  });

  it('takes a page out of the tables when its protection changes, and keeps what is in it', () => {
    mm.mmap(AT, 2 * PAGE, RW);
    mm.copyOut(AT, Uint8Array.of(7));
    expect(mm.mprotect(AT, PAGE, { readable: true })).toBe(0);
    expect(told).toHaveLength(1);
    expect(item(AT)).toBe(0n);
    expect(mm.handleFault(AT, WRITE)).toBe(false);
    expect(mm.handleFault(AT, READ)).toBe(true);
    expect(item(AT) & 2n).toBe(0n);
    const back = new Uint8Array(1);
    mm.copyIn(AT, back);
    expect(back[0]).toBe(7);
    expect(mm.mprotect(AT + 0x1000n, 2 * PAGE, {})).toBe(-Errno.ENOMEM);
    expect(mm.mappingAt(AT + 0x1000n)?.writable).toBe(true);
  });

  it('makes a page that was reclaimed present again at the next fault', () => {
    mm.mmap(AT, PAGE, RW);
    mm.copyOut(AT, Uint8Array.of(9));
    const before = item(AT);
    expect(mm.reclaim(AT, PAGE)).toBe(0);
    expect(told).toHaveLength(1);
    expect(item(AT)).toBe(0n);
    expect(mm.handleFault(AT, READ)).toBe(true);
    expect(item(AT)).toBe(before);
  });

  it('ends by telling hardware first, and leaves nothing behind', () => {
    mm.mmap(AT, 2 * PAGE, RW);
    mm.copyOut(AT, new Uint8Array(2 * PAGE));
    const live = ram.liveFrames;
    mm.exit();
    mm.exit();
    expect(told).toEqual([`released, dead, ${live} frames`]);
    expect(ram.liveFrames).toBe(0);
    expect(mm.handleFault(AT, READ)).toBe(false);
    expect(mm.mmap(AT, PAGE, RW)).toBe(-Errno.ENOMEM);
  });

  it('takes whole pages of user addresses', () => {
    expect(mm.mmap(AT + 1n, PAGE, RW)).toBe(-Errno.EINVAL);
    expect(mm.mmap(AT, PAGE + 1, RW)).toBe(-Errno.EINVAL);
    expect(mm.mmap(AT, 0, RW)).toBe(-Errno.EINVAL);
    expect(mm.mmap(2n ** 47n - 0x1000n, 2 * PAGE, RW)).toBe(-Errno.ENOMEM);
    expect(mm.mmap(2n ** 47n - 0x1000n, PAGE, RW)).toBe(0);
    expect(mm.handleFault(2n ** 47n - 1n, READ)).toBe(true);
    expect(item(2n ** 47n - 1n) & 1n).toBe(1n);
  });

  it('with five levels has 56 bits', () => {
    const wide = ProcessMm.create(ram, { levels: 5 });
    if (typeof wide === 'number') throw new Error('no memory');
    mm = wide;
    expect(mm.mmap(2n ** 55n, PAGE, RW)).toBe(0);
    expect(mm.handleFault(2n ** 55n, READ)).toBe(true);
    expect(item(2n ** 55n) & 1n).toBe(1n);
  });

  it('without memory does not make a page present, and keeps none', () => {
    mm.mmap(AT, PAGE, RW);
    for (let nth = 1; ; nth++) {
      const live = ram.liveFrames;
      faults.plan({ nth });
      const done = mm.handleFault(AT, READ);
      faults.clear();
      if (done) break;
      expect(ram.liveFrames).toBe(live);
      expect(item(AT)).toBe(0n);
      expect(nth).toBeLessThan(10);
    }
    mm.exit();
    expect(ram.liveFrames).toBe(0);
  });
});
