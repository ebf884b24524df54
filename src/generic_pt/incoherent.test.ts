// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Prng } from '../base/prng.ts';
import { FRAME_LANES, Ram } from '../memory/ram.ts';
import { Faults } from '../sim/faults.ts';
import { readDirty, setDirty } from './dirty.ts';
import { amdv1 } from './fmt/amdv1.ts';
import { vtdss } from './fmt/vtdss.ts';
import { x8664 } from './fmt/x86_64.ts';
import type { TableFormat } from './format.ts';
import { IotlbGather } from './gather.ts';
import { isPresent, isTable, oaFrame } from './item.ts';
import { map } from './map.ts';
import { Table, type TableOptions } from './table.ts';
import { unmap } from './unmap.ts';

/*
 * Hardware that does not look into the processor's cache sees a table only as far as its lines have been flushed. Here its memory is
 * a copy, full of garbage at first, into which the lines go that the table reports. What it sees must be the table.
 */

const LINE_LANES = 16;
const RW = 3;

class Incoherent {
  readonly faults = new Faults();
  readonly ram = new Ram({ faults: this.faults });
  readonly table: Table;
  readonly seen = new Map<number, Uint32Array>();
  readonly gather = new IotlbGather();
  /** Reports so far, and the one to lose. */
  reports = 0;
  lost = -1;
  /** What was wrong when something became visible. */
  readonly errors: string[] = [];

  constructor(format: TableFormat, options: TableOptions, lost = -1) {
    this.lost = lost;
    const onWrite = (table: number, index: number, items: number): void => {
      if (this.reports++ !== this.lost) this.flush(table, index, items);
    };
    const table = Table.create(format, this.ram, { ...options, onWrite });
    if (typeof table === 'number') throw new Error('no memory');
    this.table = table;
  }

  /** Whole lines go, as a processor flushes them. */
  flush(table: number, index: number, items: number): void {
    const seen = this.memory(table);
    const first = Math.floor((2 * index) / LINE_LANES) * LINE_LANES;
    const end = Math.ceil((2 * (index + items)) / LINE_LANES) * LINE_LANES;
    const lane = this.ram.laneOf(table);
    const lanes = this.ram.lanesOf(table);
    for (let i = first; i < end; i++) seen[i] = lanes[lane + i] ?? 0;
  }

  memory(table: number): Uint32Array {
    let seen = this.seen.get(table);
    if (!seen) this.seen.set(table, (seen = new Uint32Array(2 * FRAME_LANES).fill(0xa5a5_a5a5)));
    return seen;
  }

  /** What the hardware reaches that is not the table; undefined where all is well. */
  difference(at: number = this.table.top, level: number = this.table.topLevel): string | undefined {
    const { table, ram } = this;
    const seen = this.memory(at);
    const lane = ram.laneOf(at);
    const lanes = ram.lanesOf(at);
    for (let i = 0; i <= 2 * table.indexMask; i += 2) {
      const [lo, hi] = [seen[i] ?? 0, seen[i + 1] ?? 0];
      if (lo !== lanes[lane + i] || hi !== lanes[lane + i + 1]) return `L${level}[${i / 2}]`;
      if (!isPresent(table.format, lo, hi) || !isTable(table.format, lo, level)) continue;
      const below = this.difference(oaFrame(table.format, lo, hi), level - 1);
      if (below !== undefined) return below;
    }
    return undefined;
  }

  map(start: number, frames: number, oa: number): void {
    if (map(this.table, start, frames, oa, RW, this.gather) !== 0) throw new Error('not mapped');
  }

  unmap(start: number, frames: number): void {
    unmap(this.table, start, frames, this.gather);
  }

  clean(frame: number): void {
    setDirty(this.table, frame);
    this.hardwareWrote();
    readDirty(this.table, frame, 2, undefined, this.gather);
  }

  run(seed: number): void {
    const prng = new Prng(seed);
    const granule = 2 ** (this.table.format.granuleLg2 - 11);
    for (let step = 0; step < 24; step++) {
      const start = prng.below(1536) * granule;
      const frames = (1 + prng.below(700)) * granule;
      const kind = prng.below(4);
      if (kind < 2) {
        if (prng.below(3) === 0) this.faults.plan({ nth: 1 + prng.below(3) });
        map(this.table, start, frames, prng.below(4096) * granule, RW, this.gather);
        this.faults.clear();
      } else if (kind === 2) {
        unmap(this.table, start, frames, this.gather);
      } else {
        if (setDirty(this.table, start) === 0) this.hardwareWrote();
        readDirty(this.table, start, frames, undefined, this.gather);
      }
      const difference = this.difference();
      if (difference !== undefined) this.errors.push(`step ${step}: ${difference}`);
      for (const table of this.gather.tables) this.ram.free(table);
      this.gather.reset();
    }
  }

  /** A dirty bit is the hardware's own write: in its memory at once. */
  hardwareWrote(): void {
    const { dirty } = this.table.format;
    const visit = (at: number, level: number): void => {
      const seen = this.memory(at);
      const lanes = this.ram.lanesOf(at);
      const lane = this.ram.laneOf(at);
      for (let i = 0; i <= 2 * this.table.indexMask; i += 2) {
        const [lo, hi] = [lanes[lane + i] ?? 0, lanes[lane + i + 1] ?? 0];
        if (!isPresent(this.table.format, lo, hi)) continue;
        if (isTable(this.table.format, lo, level)) {
          visit(oaFrame(this.table.format, lo, hi), level - 1);
          continue;
        }
        seen[i] = ((seen[i] ?? 0) & ~dirty.lo) | (lo & dirty.lo);
        seen[i + 1] = ((seen[i + 1] ?? 0) & ~dirty.hi) | (hi & dirty.hi);
      }
    };
    visit(this.table.top, this.table.topLevel);
  }
}

const kinds: readonly { format: TableFormat; options: TableOptions }[] = [
  { format: vtdss, options: { topLevel: 2 } },
  { format: x8664, options: { topLevel: 3, signExtend: true } },
  { format: amdv1, options: { topLevel: 1, dynamicTop: true } },
];

describe.each(kinds)('a walker that is not coherent, $format.name', ({ format, options }) => {
  it('sees after every operation what the table is, also where it failed', () => {
    for (let seed = 1; seed <= 12; seed++) {
      const world = new Incoherent(format, options);
      world.run(seed);
      expect(world.errors).toEqual([]);
    }
  });

  const RANGE = 2 ** 10; // one table of leaves of 4 KiB
  const scenarios: readonly [string, (world: Incoherent) => void, (world: Incoherent) => void][] = [
    ['a map where no table was', () => undefined, (w) => w.map(2, 2, 2)],
    ['a map beside another', (w) => w.map(2, 2, 2), (w) => w.map(4, 2, 6)],
    ['an unmap of one page', (w) => w.map(2, 4, 2), (w) => w.unmap(2, 2)],
    ['an unmap of a large page', (w) => w.map(0, 1024, 0), (w) => w.unmap(0, 1024)],
    ['the cleaning of dirty bits', (w) => w.map(2, 2, 2), (w) => w.clean(2)],
  ];

  it.each(scenarios)('needs every report of %s', (_what, prepare, change) => {
    const count = (lost: number): Incoherent => {
      const world = new Incoherent(format, options);
      prepare(world);
      world.lost = lost < 0 ? -1 : world.reports + lost;
      const before = world.reports;
      change(world);
      world.reports -= before;
      return world;
    };
    const whole = count(-1);
    expect(whole.difference()).toBeUndefined();
    expect(whole.reports).toBeGreaterThan(0);
    for (let lost = 0; lost < whole.reports; lost++) expect(count(lost).difference()).toBeDefined();
  });

  it('needs the report of a removed table, or walks on in freed memory', () => {
    const world = new Incoherent(format, options);
    world.map(0, RANGE, 2);
    world.lost = world.reports + 1; // after its leaves, the item that led to them
    world.unmap(0, RANGE);
    expect(world.difference()).toBeDefined();
  });

  it('sees a table whole before the item that points to it', () => {
    const order: string[] = [];
    const self = new Incoherent(format, {
      ...options,
      onTopChange: () => order.push('top'),
    });
    const { flush } = self;
    // At each report, whatever has become visible leads only to tables that are visible as a whole.
    self.flush = function check(table: number, index: number, items: number): void {
      flush.call(self, table, index, items);
      const seen = self.memory(table);
      for (let i = index; i < index + items; i++) {
        const [lo, hi] = [seen[2 * i] ?? 0, seen[2 * i + 1] ?? 0];
        const below = oaFrame(self.table.format, lo, hi);
        if (!isPresent(self.table.format, lo, hi) || !self.ram.has(below)) continue;
        order.push(self.memory(below).includes(0xa5a5_a5a5) ? 'half' : 'whole');
      }
    };
    // Output addresses below the RAM, so that what points into it is a table.
    expect(map(self.table, 0, 2, 8, RW, self.gather)).toBe(0);
    expect(map(self.table, 2 ** 27, 2, 8, RW, self.gather)).toBe(0);
    expect(order).not.toContain('half');
    expect(order).toContain('whole');
  });
});
