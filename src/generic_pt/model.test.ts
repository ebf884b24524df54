// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { Ram } from '../memory/ram.ts';
import { Faults } from '../sim/faults.ts';
import { dumpTable } from './dump.ts';
import { amdv1, amdv1Mock } from './fmt/amdv1.ts';
import { vtdss } from './fmt/vtdss.ts';
import { x8664 } from './fmt/x86_64.ts';
import { IotlbGather } from './gather.ts';
import { map } from './map.ts';
import { Table } from './table.ts';
import { unmap } from './unmap.ts';
import { forEachRun, NO_FRAME, translate } from './walk.ts';

/* Random maps and unmaps beside a model that cannot be wrong: a plain Map from each frame to the frame it is mapped to. */

const RW = 3;
/** Frames that the sequences work on: three leaf tables' worth, with borders inside. */
const SPACE = 1536;

interface Step {
  readonly kind: 'map' | 'unmap' | 'unmap one';
  readonly at: number;
  readonly frames: number;
  readonly oa: number;
  /** Fail this allocation of the step; 0: none. */
  readonly fail: number;
}

const lengths = fc.oneof(fc.integer({ min: 1, max: 24 }), fc.constantFrom(64, 256, 512, 600, 1024));
const steps = fc.array(
  fc.record({
    kind: fc.constantFrom('map', 'map', 'unmap', 'unmap one'),
    at: fc.nat(SPACE / 2 - 1),
    frames: lengths,
    oa: fc.nat(4095),
    fail: fc.constantFrom(0, 0, 0, 1, 2),
  }),
  { maxLength: 60 },
) as fc.Arbitrary<Step[]>;

function expectSame(actual: unknown, expected: unknown): void {
  expect(actual).toEqual(expected);
}

class World {
  readonly faults = new Faults();
  readonly ram = new Ram({ faults: this.faults });
  readonly table: Table;
  readonly gather = new IotlbGather();
  readonly model = new Map<number, number>();
  /** What was mapped by one call each, by its start, while all of it is. */
  readonly maps = new Map<number, number>();
  readonly granule: number;

  constructor(format: typeof amdv1, topLevel: number, dynamicTop: boolean) {
    const table = Table.create(format, this.ram, { topLevel, dynamicTop });
    if (typeof table === 'number') throw new Error('no memory for a table');
    this.table = table;
    this.granule = 2 ** (format.granuleLg2 - 11);
  }

  run(step: Step): void {
    // In units of the granule, near the end of a table of level 1, so that both levels take part.
    const base = 512 * 512 * this.granule - SPACE * this.granule;
    const at = base + step.at * this.granule * 2;
    const frames = step.frames * this.granule;
    if (step.kind === 'map') this.map(at, frames, step.oa * this.granule, step.fail);
    else if (step.kind === 'unmap') this.unmapSome(at, frames);
    else this.unmapOne(step.at);
    for (const table of this.gather.tables) this.ram.free(table);
    this.gather.reset();
    this.check(base, SPACE * 3 * this.granule);
  }

  map(at: number, frames: number, oa: number, fail: number): void {
    const { table, model, maps, faults, gather } = this;
    const [before, live] = [dumpTable(table), this.ram.liveFrames];
    if (fail > 0) faults.plan({ nth: fail });
    const rc = map(table, at, frames, oa, RW, gather);
    faults.clear();
    const isFree = ![...Array(frames).keys()].some((i) => model.has(at + i));
    if (rc === 0) {
      expectSame([isFree, fail > 0 && faults.injected !== undefined], [true, false]);
      for (let i = 0; i < frames; i++) model.set(at + i, oa + i);
      maps.set(at, frames);
      return;
    }
    if (rc === -Errno.ENOMEM) expectSame([fail > 0, faults.injected], [true, 'alloc']);
    else expectSame([rc, isFree], [-Errno.EADDRINUSE, false]);
    expectSame(dumpTable(table), before);
    expectSame(this.ram.liveFrames, live);
  }

  /** Anything: what it says has gone has gone, and the rest stays. */
  unmapSome(at: number, frames: number): void {
    const gone = unmap(this.table, at, frames, this.gather);
    if (gone > 0 && gone < frames) expectSame(this.model.has(at + gone), false);
    if (gone === 0 && this.model.has(at)) expectSame(this.isInsideAnEntry(at), true);
    for (let i = 0; i < gone; i++) expectSame(this.model.delete(at + i), true);
    for (const [start, length] of this.maps) {
      if (start < at + gone && start + length > at) this.maps.delete(start);
    }
  }

  /** Exactly one earlier map: exactly that goes. */
  unmapOne(pick: number): void {
    const [at, frames] = [...this.maps][pick % Math.max(1, this.maps.size)] ?? [0, 0];
    if (frames === 0) return;
    expectSame(unmap(this.table, at, frames, this.gather), frames);
    for (let i = 0; i < frames; i++) this.model.delete(at + i);
    this.maps.delete(at);
  }

  check(base: number, frames: number): void {
    for (let at = base; at < base + frames; at++) {
      const found = translate(this.table, at);
      if (found !== (this.model.get(at) ?? NO_FRAME)) {
        expectSame(`frame ${at} is at ${found}`, `frame ${at} is at ${this.model.get(at)}`);
      }
    }
    for (const [at, length] of this.maps) {
      const told: number[] = [];
      forEachRun(this.table, at, length, (frame, count) => void told.push(frame, count));
      expectSame(told, [this.model.get(at), length]);
    }
  }

  /** Two neighbours that one entry maps: unmapping the second alone is refused. */
  private isInsideAnEntry(at: number): boolean {
    const line = dumpTable(this.table).find((text) => {
      const found = /frame 0x(\w+): (\d+) frames to/.exec(text);
      const size = Number(found?.[2]);
      const start = Math.floor(parseInt(found?.[1] ?? '', 16) / size) * size;
      return start < at && at < start + size;
    });
    return line !== undefined;
  }
}

describe.each([
  { format: amdv1Mock, topLevel: 2, dynamicTop: false },
  { format: amdv1, topLevel: 3, dynamicTop: false },
  { format: amdv1, topLevel: 1, dynamicTop: true },
  { format: vtdss, topLevel: 2, dynamicTop: false },
  { format: x8664, topLevel: 4, dynamicTop: false },
])('$format.name from level $topLevel', ({ format, topLevel, dynamicTop }) => {
  it('maps what a plain Map maps, whatever is done and fails, and leaks nothing', () => {
    fc.assert(
      fc.property(steps, (sequence) => {
        const world = new World(format, topLevel, dynamicTop);
        for (const step of sequence) world.run(step);
        world.table.free();
        expectSame(world.ram.liveFrames, 0);
      }),
      { seed: 7, numRuns: 40 },
    );
  });
});
