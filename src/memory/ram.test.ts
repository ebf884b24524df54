// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Faults } from '../sim/faults.ts';
import { FRAME_LANES, MAX_RUN_LG2, NO_MEMORY, Ram } from './ram.ts';

const small = (frames = 2048): Ram => new Ram({ firstFrame: 4096, frames });

describe('RAM', () => {
  it('gives runs that are aligned to their length', () => {
    const ram = small();
    ram.alloc(0);
    expect(ram.alloc(3) % 8).toBe(0);
    expect(ram.alloc(1) % 2).toBe(0);
  });

  it('gives zeroes, also where something was written before', () => {
    const ram = small();
    const first = ram.alloc(1);
    ram.lanesOf(first).fill(0xffffffff);
    ram.free(first);
    const again = ram.alloc(1);
    expect(again).toBe(first);
    expect(ram.bytes(again, 2).every((byte) => byte === 0)).toBe(true);
  });

  it('shows the same bytes as lanes and as bytes, little end first', () => {
    const ram = small();
    const frame = ram.alloc(0) && ram.alloc(0);
    ram.lanesOf(frame)[ram.laneOf(frame)] = 0x11223344;
    expect([...ram.bytes(frame).subarray(0, 4)]).toEqual([0x44, 0x33, 0x22, 0x11]);
  });

  it('lies in bytes that somebody else has too', () => {
    const theirs = new ArrayBuffer(2 ** 22 + 4096);
    const chunk = (): Uint32Array => new Uint32Array(theirs, 4096, 2 ** 20);
    const ram = new Ram({ firstFrame: 4096, frames: 2048, chunk });
    const frame = ram.alloc(0) + 1;
    expect(ram.alloc(0)).toBe(frame);
    ram.bytes(frame)[3] = 7;
    expect(new Uint8Array(theirs)[4096 + 2048 + 3]).toBe(7);
  });

  it('answers NO_MEMORY when it is used up, and works again after a free', () => {
    const ram = small(2048);
    const all = ram.alloc(MAX_RUN_LG2);
    expect(ram.alloc(0)).toBe(NO_MEMORY);
    ram.free(all);
    expect(ram.alloc(0)).not.toBe(NO_MEMORY);
  });

  it('joins free neighbours to the largest run', () => {
    const ram = small(2048);
    const frames = Array.from({ length: 2048 }, () => ram.alloc(0));
    for (const frame of frames) ram.free(frame);
    expect(ram.alloc(MAX_RUN_LG2)).toBe(4096);
  });

  it('fails the allocation that the fault point asks for, and nothing has changed', () => {
    const ram = new Ram({ faults: new Faults({ nth: 2 }) });
    ram.alloc(1);
    expect(ram.alloc(1)).toBe(NO_MEMORY);
    expect(ram.liveFrames).toBe(2);
  });

  it.each([
    ['a frame inside a run', (ram: Ram): number => ram.alloc(2) + 1],
    ['a frame outside', (): number => 1],
    [
      'a run that was freed',
      (ram: Ram): number => {
        const frame = ram.alloc(0);
        ram.free(frame);
        return frame;
      },
    ],
  ])('refuses to free %s', (_name, pick) => {
    const ram = small();
    const frame = pick(ram);
    expect(() => ram.free(frame)).toThrow('is not an allocated run');
  });

  it('never gives out a frame twice, whatever is allocated and freed', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(5), fc.nat())), (steps) => {
        const ram = small(4096);
        const live = new Map<number, number>();
        const taken = new Set<number>();
        for (const [isAlloc, lg2, pick] of steps) {
          const victim = [...live.keys()][pick % Math.max(1, live.size)];
          if (isAlloc || victim === undefined) {
            const frame = ram.alloc(lg2);
            expect(frame % 2 ** lg2).toBe(0);
            for (let i = 0; i < 2 ** lg2; i++) {
              expect(taken.has(frame + i)).toBe(false);
              taken.add(frame + i);
            }
            live.set(frame, lg2);
          } else {
            ram.free(victim);
            for (let i = 0; i < 2 ** (live.get(victim) ?? 0); i++) taken.delete(victim + i);
            live.delete(victim);
          }
          expect(ram.liveFrames).toBe(taken.size);
        }
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it('has 512 lanes a frame', () => {
    expect(FRAME_LANES).toBe(512);
  });
});
