// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { ClientMemory, isBadPage } from './client_memory.ts';
import type { FrameRun } from './frame.ts';
import { LocalFile, LocalMm } from './local_mm.ts';
import type { Mm } from './mm.ts';

const BASE = 0x40_0000n;
const PAGE = 4096;

function runsOf(
  memory: ClientMemory,
  mm: Mm,
  address: bigint,
  pages: number,
  write = true,
): FrameRun[] {
  const found = memory.lookup(mm, address, pages, write);
  if (isBadPage(found)) throw new Error(found.reason);
  return found;
}

function only(runs: readonly FrameRun[]): FrameRun {
  const [run, ...others] = runs;
  if (run === undefined || others.length > 0) throw new Error(`${runs.length} runs, not one`);
  return run;
}

function bytesAt(memory: ClientMemory, frame: number, length: number, offset = 0): number[] {
  const bytes = new Uint8Array(length);
  expect(memory.read(frame, offset, bytes)).toBe(true);
  return [...bytes];
}

describe('pages of a client', () => {
  it('are contiguous frames where the mapping is one', () => {
    const [memory, mm] = [new ClientMemory(), new LocalMm()];
    mm.map(BASE, 16 * PAGE);
    const whole = only(runsOf(memory, mm, BASE, 16));
    expect(whole.frames).toBe(32);
    expect(only(runsOf(memory, mm, BASE + 4096n, 2)).frame).toBe(whole.frame + 2);
  });

  it('are contiguous though neighbours are looked up first', () => {
    const [memory, mm] = [new ClientMemory(), new LocalMm()];
    mm.map(BASE, 16 * PAGE);
    const last = only(runsOf(memory, mm, BASE + 15n * 4096n, 1));
    const first = only(runsOf(memory, mm, BASE, 1));
    expect(last.frame - first.frame).toBe(30);
  });

  it('keep the alignment of the address up to the size of the mapping', () => {
    const [memory, mm] = [new ClientMemory(), new LocalMm()];
    mm.map(0x1000n, PAGE);
    mm.map(0x20_0000n * 5n, 0x20_0000);
    runsOf(memory, mm, 0x1000n, 1);
    expect((only(runsOf(memory, mm, 0x20_0000n * 5n, 512)).frame * 2048) % 0x20_0000).toBe(0);
  });

  it('are the same in two mappings of one file, at the same offset', () => {
    const [memory, one, two, file] = [
      new ClientMemory(),
      new LocalMm(),
      new LocalMm(),
      new LocalFile(8 * PAGE),
    ];
    one.map(BASE, 8 * PAGE, { file });
    two.map(0x70_0000n, 4 * PAGE, { file, offset: 4 * PAGE });
    const seen = only(runsOf(memory, one, BASE + 4n * 4096n, 4));
    expect(only(runsOf(memory, two, 0x70_0000n, 4))).toEqual(seen);
    expect(memory.lookupFile(file, 4, 4)).toEqual([seen]);
  });

  it('differ in private mappings of two address spaces', () => {
    const [memory, one, two] = [new ClientMemory(), new LocalMm(), new LocalMm()];
    one.map(BASE, PAGE);
    two.map(BASE, PAGE);
    expect(only(runsOf(memory, one, BASE, 1))).not.toEqual(only(runsOf(memory, two, BASE, 1)));
  });

  it.each([
    ['not mapped', (mm: LocalMm) => mm.map(BASE, PAGE), true],
    ['not writable', (mm: LocalMm) => mm.map(BASE, 2 * PAGE, { writable: false }), true],
    ['not readable', (mm: LocalMm) => mm.map(BASE, 2 * PAGE, { readable: false }), false],
    [
      'beyond the end of its file',
      (mm: LocalMm) => mm.map(BASE, 2 * PAGE, { file: new LocalFile(PAGE) }),
      true,
    ],
    ['of a process that is gone', (mm: LocalMm) => mm.kill(), true],
  ])('that are %s are refused', (reason, prepare, write) => {
    const [memory, mm] = [new ClientMemory(), new LocalMm()];
    prepare(mm);
    expect(memory.lookup(mm, BASE, 2, write)).toMatchObject({ reason });
  });
});

describe('a pin', () => {
  function pinned(pages = 4) {
    const [memory, mm] = [new ClientMemory(), new LocalMm()];
    const bytes = mm.map(BASE, pages * PAGE);
    bytes.forEach((_, i) => (bytes[i] = Math.floor(i / PAGE) + 1));
    const run = only(runsOf(memory, mm, BASE, pages));
    return { memory, mm, bytes, run, pin: memory.pin(run) };
  }

  it('is counted for each page it holds', () => {
    const { memory, run } = pinned();
    memory.pin({ frame: run.frame + 2, frames: 2 });
    expect([0, 2, 4].map((frame) => memory.pinsOf(run.frame + frame))).toEqual([1, 2, 1]);
  });

  it('reads and writes the page of the client', () => {
    const { memory, bytes, run } = pinned();
    expect(bytesAt(memory, run.frame, 2, PAGE - 1)).toEqual([1, 2]);
    memory.write(run.frame, PAGE, new Uint8Array([77]));
    expect(bytes[PAGE]).toBe(77);
  });

  it('holds the page, not the address: an unmap leaves the bytes, a new map does not show through', () => {
    const { memory, mm, run } = pinned();
    mm.unmap(BASE);
    mm.map(BASE, 4 * PAGE).fill(99);
    expect(bytesAt(memory, run.frame + 2, 2)).toEqual([2, 2]);
    expect(only(runsOf(memory, mm, BASE, 4)).frame).not.toBe(run.frame);
  });

  it('keeps pages of a process that exited, and loses those of one that was killed', () => {
    const exited = pinned();
    exited.mm.exit();
    expect(bytesAt(exited.memory, exited.run.frame, 2)).toEqual([1, 1]);
    const killed = pinned();
    killed.mm.kill();
    expect(bytesAt(killed.memory, killed.run.frame, 2)).toEqual([0xff, 0xff]);
  });

  it('lets saved pages go with its end, part by part', () => {
    const { memory, mm, run, pin } = pinned();
    mm.exit();
    const [before, after] = memory.unpinPart(pin, run.frame + 2, run.frame + 3);
    expect([before?.frames, after?.frames]).toEqual([2, 4]);
    if (before) memory.unpin(before);
    if (after) memory.unpin(after);
    expect([memory.pinCount, memory.segmentCount]).toEqual([0, 0]);
  });

  it('is known by whoever owns the memory', () => {
    const { memory, mm, pin } = pinned();
    expect(mm.pinObserver?.hasPins()).toBe(true);
    memory.unpin(pin);
    expect(mm.pinObserver?.hasPins()).toBe(false);
  });
});

describe('owners of pages that nobody holds', () => {
  it('are forgotten in the long run, the others are not', () => {
    const memory = new ClientMemory();
    const held = new LocalFile(PAGE);
    const pin = memory.pin(only(memory.lookupFile(held, 0, 1)));
    for (let i = 0; i < 1000; i++) memory.lookupFile(new LocalFile(PAGE), 0, 1);
    expect(memory.segmentCount).toBeLessThan(130);
    expect(only(memory.lookupFile(held, 0, 1)).frame).toBe(pin.start);
  });
});

describe('memory of our own', () => {
  it('lasts until it is freed and unpinned', () => {
    const memory = new ClientMemory();
    const run = memory.allocate(2);
    const pin = memory.pin(run);
    memory.unpin(pin);
    expect(bytesAt(memory, run.frame, 1)).toEqual([0]);
    memory.free(run);
    expect(memory.segmentCount).toBe(0);
  });
});
