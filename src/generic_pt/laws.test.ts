// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { FRAME_SHIFT } from '../memory/frame.ts';
import { Ram } from '../memory/ram.ts';
import { Faults, sweepFaults } from '../sim/faults.ts';
import { readDirty, setDirty } from './dirty.ts';
import { dumpTable } from './dump.ts';
import { amdv1, amdv1Mock } from './fmt/amdv1.ts';
import { vtdss } from './fmt/vtdss.ts';
import { x8664 } from './fmt/x86_64.ts';
import { itemLg2, levelSizes, type TableFormat } from './format.ts';
import { IotlbGather } from './gather.ts';
import { map } from './map.ts';
import { Prot } from './prot.ts';
import { Table, type TableOptions } from './table.ts';
import { unmap } from './unmap.ts';
import { forEachRun, NO_FRAME, translate } from './walk.ts';

/*
 * What is true of every format: written once, applied to every format, level, page size and permission. A new format is one
 * line in `formats`.
 */

const formats: readonly { format: TableFormat; options: TableOptions }[] = [
  { format: amdv1, options: { topLevel: 3 } },
  { format: amdv1, options: { topLevel: 5 } },
  { format: amdv1, options: { topLevel: 1, dynamicTop: true } },
  { format: amdv1Mock, options: { topLevel: 2 } },
  { format: amdv1Mock, options: { topLevel: 4, forceCoherent: true } },
  { format: vtdss, options: { topLevel: 2 } },
  { format: vtdss, options: { topLevel: 3, maxVaLg2: 46 } },
  { format: vtdss, options: { topLevel: 4, forceCoherent: true } },
  { format: x8664, options: { topLevel: 3, signExtend: true } },
  { format: x8664, options: { topLevel: 4, signExtend: true } },
  { format: x8664, options: { topLevel: 4, maxVaLg2: 56 } },
];

const RW = Prot.READ | Prot.WRITE;

class Fixture {
  readonly faults = new Faults();
  readonly ram = new Ram({ faults: this.faults });
  readonly table: Table;
  readonly gather = new IotlbGather();

  constructor(format: TableFormat, options: TableOptions) {
    const table = Table.create(format, this.ram, options);
    if (typeof table === 'number') throw new Error('no memory for a table');
    this.table = table;
  }

  map(start: number, frames: number, oa: number, prot: number = RW): number {
    const rc = map(this.table, start, frames, oa, prot, this.gather);
    this.flush();
    return rc;
  }

  unmap(start: number, frames: number): number {
    const unmapped = unmap(this.table, start, frames, this.gather);
    this.flush();
    return unmapped;
  }

  /** What a domain does after a flush of the hardware. */
  flush(): void {
    for (const table of this.gather.tables) this.ram.free(table);
    this.gather.reset();
  }

  /** Frames of tables beside the top. */
  get tables(): number {
    return this.ram.liveFrames - 2;
  }

  dirty(start: number, frames: number, clears: boolean): [number, number][] {
    const told: [number, number][] = [];
    const gather = clears ? this.gather : undefined;
    const rc = readDirty(
      this.table,
      start,
      frames,
      (at, length) => told.push([at, length]),
      gather,
    );
    if (rc !== 0) throw new Error(`reading dirty bits failed: ${rc}`);
    this.gather.reset();
    return told;
  }
}

/** Nothing in its items says that reading is allowed: what is present can be read. */
const alwaysReads = ({ read, leafBits }: TableFormat): boolean =>
  (read.lo & ~leafBits.lo) === 0 && (read.hi & ~leafBits.hi) === 0;

/** Leaves are marked as written when they are made, so that the hardware need not do it. */
const isDirtyAtFirst = ({ dirty, writableBits }: TableFormat): boolean =>
  (dirty.lo & writableBits.lo) !== 0;

/** The three smallest pages, in frames. */
function smallestSizes(pgsizeBitmap: bigint): [number, number, number] {
  const lg2s = Array.from({ length: 64 }, (_, n) => n).filter(
    (n) => (pgsizeBitmap & (1n << BigInt(n))) !== 0n,
  );
  const [small = 0, middle = 0, large = 0] = lg2s.map((lg2) => 2 ** (lg2 - FRAME_SHIFT));
  return [small, middle, large];
}

interface Case {
  readonly name: string;
  readonly format: TableFormat;
  readonly options: TableOptions;
  readonly level: number;
  /** Frames of a page, and items that it is made of. */
  readonly size: number;
  readonly items: number;
  readonly prot: number;
}

function cases(prots: readonly number[] = [RW]): Case[] {
  const all: Case[] = [];
  for (const { format, options } of formats) {
    const highest = options.dynamicTop ? format.maxTopLevel : options.topLevel;
    const { pgsizeBitmap } = new Fixture(format, options).table;
    for (let level = 0; level <= highest; level++) {
      for (let lg2 = 0; lg2 < 64; lg2++) {
        if ((levelSizes(format, level) & pgsizeBitmap & (1n << BigInt(lg2))) === 0n) continue;
        for (const prot of prots) {
          const top = options.dynamicTop ? 'growing' : `top ${options.topLevel}`;
          const name = `${format.name} ${top}, level ${level}, 2^${lg2} bytes, prot ${prot}`;
          const items = 2 ** (lg2 - itemLg2(format, level));
          all.push({ name, format, options, level, size: 2 ** (lg2 - FRAME_SHIFT), items, prot });
        }
      }
    }
  }
  return all;
}

/** Where a page can be without any larger page fitting: an odd multiple of its size for `va`, an even one for `oa`. */
const place = ({ size, format }: Case): { va: number; oa: number } => {
  const isInReach = 3 * size <= 2 ** (format.maxOaLg2 - FRAME_SHIFT);
  return { va: size, oa: isInReach ? 2 * size : 0 };
};

type Named = readonly [string, Case];
const named = (all: readonly Case[]): Named[] => all.map((one) => [one.name, one]);

const usable = named(cases());

describe('laws of a page of every size', () => {
  it('there are enough of them to mean something', () => {
    expect(usable.length).toBeGreaterThan(150);
  });

  it.each(named(cases([Prot.READ, Prot.WRITE, RW])))('maps as one entry: %s', (_name, one) => {
    const { self: f, table } = fixture(one);
    const { va, oa } = place(one);
    expect(f.map(va, one.size, oa, one.prot)).toBe(0);
    const leaves = dumpTable(table).filter((line) => / frames to /.test(line));
    expect(leaves).toHaveLength(one.items);
    const isReadable = (one.prot & Prot.READ) !== 0 || alwaysReads(one.format);
    const rights = `${isReadable ? 'R' : ''}${one.prot & Prot.WRITE ? 'W' : ''}`;
    for (const line of leaves) {
      expect(line).toContain(` L${one.level}[`);
      expect(line).toContain(`${one.size} frames to 0x${oa.toString(16)} ${rights}`);
    }
  });

  it.each(usable)(
    'translates its first, middle and last frame and none beside: %s',
    (_name, one) => {
      const { self: f, table } = fixture(one);
      const { va, oa } = place(one);
      f.map(va, one.size, oa);
      for (const offset of [0, Math.floor(one.size / 2), one.size - 1]) {
        expect(translate(table, va + offset)).toBe(oa + offset);
      }
      expect(translate(table, va - 1)).toBe(NO_FRAME);
      expect(translate(table, va + one.size)).toBe(NO_FRAME);
    },
  );

  it.each(usable)('unmaps, and every table but the top is free again: %s', (_name, one) => {
    const { self: f, table } = fixture(one);
    const { va, oa } = place(one);
    f.map(va, one.size, oa);
    expect(f.unmap(va, one.size)).toBe(one.size);
    expect(translate(table, va)).toBe(NO_FRAME);
    // Tables that the range covers only in part stay, as on Linux, until the table is freed.
    expect(dumpTable(table).some((line) => / frames to /.test(line))).toBe(false);
    table.free();
    expect(f.ram.liveFrames).toBe(0);
  });

  it.each(usable.filter(([, { size }]) => size > 2))(
    'goes as a whole when a part at its start is unmapped: %s',
    (_name, one) => {
      const { self: f, table } = fixture(one);
      const { va, oa } = place(one);
      f.map(va, one.size, oa);
      expect(f.unmap(va, 2)).toBe(one.size);
      expect(translate(table, va + one.size - 1)).toBe(NO_FRAME);
    },
  );

  it.each(usable.filter(([, { size }]) => size > 2))(
    'stays when the unmap starts inside it: %s',
    (_name, one) => {
      const { self: f, table } = fixture(one);
      const { va, oa } = place(one);
      f.map(va, one.size, oa);
      const before = dumpTable(table);
      expect(f.unmap(va + one.size / 2, one.size / 2)).toBe(0);
      expect(dumpTable(table)).toEqual(before);
    },
  );

  it.each(usable)('is not mapped over, and nothing has changed: %s', (_name, one) => {
    const { self: f, table } = fixture(one);
    const { va, oa } = place(one);
    f.map(va, one.size, oa);
    const [before, live] = [dumpTable(table), f.ram.liveFrames];
    expect(f.map(va, one.size, oa)).toBe(-Errno.EADDRINUSE);
    if (one.size >= 4) expect(f.map(va + one.size / 2, one.size / 2, oa)).toBe(-Errno.EADDRINUSE);
    expect(dumpTable(table)).toEqual(before);
    expect(f.ram.liveFrames).toBe(live);
  });

  it.each(usable)('takes the place of an empty table, which is freed: %s', (_name, one) => {
    if (one.level === 0 || one.options.dynamicTop) return;
    const { self: f, table } = fixture(one);
    const { va, oa } = place(one);
    const small = 2;
    f.map(va, small, oa + 2);
    f.unmap(va, small); // covers no table: they stay, empty
    const withEmpty = f.tables;
    f.map(va, one.size, oa);
    expect(f.tables).toBeLessThan(withEmpty);
    expect(translate(table, va + one.size - 1)).toBe(oa + one.size - 1);
    table.free();
    expect(f.ram.liveFrames).toBe(0);
  });

  it.each(usable)('is clean at first, dirty where written, clean when read: %s', (_name, one) => {
    const { self: f } = fixture(one);
    const { va, oa } = place(one);
    f.map(va, one.size, oa);
    const item = one.size / one.items;
    const written = va + one.size - 1;
    // Linux tells one item less of a contiguous entry than it has (kernel-quirks 1).
    const told = one.items === 1 ? one.size : one.size - item;
    if (isDirtyAtFirst(one.format)) expect(f.dirty(va, one.size, true)).toEqual([[va, told]]);
    expect(f.dirty(va, one.size, false)).toEqual([]);
    expect(setDirty(f.table, written)).toBe(0);
    expect(f.dirty(va, one.size, false)).toEqual([[va, told]]);
    expect(f.dirty(va, one.size, true)).toEqual([[va, told]]);
    expect(f.dirty(va, one.size, false)).toEqual([]);
    expect(translate(f.table, written)).toBe(oa + one.size - 1);
  });

  it.each(usable.filter(([, { items }]) => items > 1))(
    'reading any part cleans all, the last item is told as itself: %s',
    (_name, one) => {
      const { self: f } = fixture(one);
      const { va, oa } = place(one);
      f.map(va, one.size, oa);
      setDirty(f.table, va);
      const item = one.size / one.items;
      const last = va + one.size - item;
      expect(f.dirty(last, item, true)).toEqual([[last, item]]);
      expect(f.dirty(va, one.size, false)).toEqual([]);
    },
  );

  it.each(usable)('fails at the n-th allocation with everything as it was: %s', (_name, one) => {
    const { self: f, table } = fixture(one);
    const { va, oa } = place(one);
    const [before, live] = [dumpTable(table), f.ram.liveFrames];
    sweepFaults(
      (faults) => {
        const rc = f.map(va, one.size, oa);
        if (!faults.injected) return expect(rc).toBe(0);
        expect(rc).toBe(-Errno.ENOMEM);
        expect(dumpTable(table)).toEqual(before);
        return expect(f.ram.liveFrames).toBe(live);
      },
      { faults: f.faults },
    );
  });
});

function fixture(one: Case): { self: Fixture; table: Table } {
  const self = new Fixture(one.format, one.options);
  return { self, table: self.table };
}

describe.each(formats)(
  'laws of ranges: $format.name, top $options.topLevel',
  ({ format, options }) => {
    const granule = 2 ** (format.granuleLg2 - FRAME_SHIFT);

    it('a range that nothing fits but the smallest page is mapped with these', () => {
      const f = new Fixture(format, options);
      const frames = 64 * granule;
      f.map(64 * granule, frames, 65 * granule);
      const leaves = dumpTable(f.table).filter((line) => / frames to /.test(line));
      expect(leaves).toHaveLength(64);
      expect(leaves[0]).toContain(`: ${granule} frames to`);
    });

    it('pages grow and shrink with the alignment inside one range', () => {
      const f = new Fixture(format, options);
      const [small, middle, large] = smallestSizes(f.table.pgsizeBitmap);
      const [start, end] = [middle - small, 2 * large + middle + small];
      f.map(start, end - start, start + 16 * large);
      const sizes = dumpTable(f.table).flatMap((line) => {
        const found = /: (\d+) frames to (\S+)/.exec(line);
        return found ? [{ frames: Number(found[1]), to: found[2] }] : [];
      });
      // The items of one contiguous entry say the same.
      const pages = sizes.filter(({ to }, i) => sizes[i - 1]?.to !== to);
      expect(pages.map(({ frames }) => frames)).toEqual([
        small,
        ...Array.from({ length: large / middle - 1 }, () => middle),
        large,
        middle,
        small,
      ]);
    });

    it('runs join what is contiguous and stop at a hole', () => {
      const f = new Fixture(format, options);
      f.map(0, 4 * granule, 100 * granule);
      f.map(4 * granule, 4 * granule, 104 * granule);
      f.map(8 * granule, granule, 7 * granule);
      const told: [number, number][] = [];
      const tell = (frame: number, frames: number): void => void told.push([frame, frames]);
      expect(forEachRun(f.table, granule, 8 * granule, tell)).toBe(true);
      expect(told).toEqual([
        [101 * granule, 7 * granule],
        [7 * granule, granule],
      ]);
      expect(forEachRun(f.table, 0, 10 * granule, () => undefined)).toBe(false);
    });

    it('output addresses carry from the lower half of an item into the upper', () => {
      const f = new Fixture(format, options);
      const oa = 2 ** 21 - 8 * granule + granule; // 2^32 bytes are inside, in units of either granule
      f.map(64 * granule, 32 * granule, oa);
      for (let i = 0; i < 32 * granule; i++)
        expect(translate(f.table, 64 * granule + i)).toBe(oa + i);
      const upper = 2 ** 20 * granule - 3 * granule;
      f.map(128 * granule, 9 * granule, upper);
      for (let i = 0; i < 9 * granule; i++)
        expect(translate(f.table, 128 * granule + i)).toBe(upper + i);
    });

    it('a large page is refused where a table below still has one small page', () => {
      const f = new Fixture(format, options);
      const large = 512 * granule;
      f.map(2 * large + 7 * granule, granule, 3 * granule);
      const before = dumpTable(f.table);
      expect(f.map(2 * large, large, 4 * large)).toBe(-Errno.EADDRINUSE);
      expect(f.map(2 * large, 2 * large, 4 * large)).toBe(-Errno.EADDRINUSE);
      expect(dumpTable(f.table)).toEqual(before);
    });

    it('an unmap over a hole stops there and says how far it came', () => {
      const f = new Fixture(format, options);
      f.map(0, granule, 7 * granule);
      f.map(2 * granule, granule, 7 * granule);
      expect(f.unmap(0, 3 * granule)).toBe(granule);
      expect(translate(f.table, 2 * granule)).toBe(7 * granule);
    });

    it.each([
      ['no permission', { prot: 0 }, Errno.EINVAL],
      ['no length', { frames: 0 }, Errno.EINVAL],
      ['an output address beyond the format', { oa: 2 ** 42 }, Errno.ERANGE],
      ['an input address beyond the table', { start: 'beyond' }, Errno.ERANGE],
      ['a range that leaves the table', { start: 'border' }, Errno.ERANGE],
      ['an end beyond 2^64', { start: 2 ** 53 - 8, frames: 16 }, Errno.EOVERFLOW],
    ])('refuses %s', (_what, wrong, errno) => {
      if (options.topLevel === 5 && errno === Errno.ERANGE && 'start' in wrong) return; // it reaches all of 2^64
      if (options.dynamicTop && 'start' in wrong && errno === Errno.ERANGE) return;
      const f = new Fixture(format, options);
      const { frames, oa, prot, ...rest } = { start: 0, frames: 8, oa: 8, prot: RW, ...wrong };
      // The upper half of a table that extends the sign ends at 2^53: beyond the lower half is the hole.
      const start =
        rest.start === 'beyond'
          ? Math.max(f.table.end, options.signExtend ? 0 : 2 ** 53 - 8)
          : rest.start === 'border'
            ? f.table.end - 4
            : Number(rest.start);
      expect(f.map(start, frames, oa, prot)).toBe(-errno);
      expect(f.tables).toBe(0);
    });

    it('a map that collides half way leaves everything as it was', () => {
      const f = new Fixture(format, options);
      const tableFrames = 512 * granule;
      f.map(3 * tableFrames + granule, granule, 5 * granule);
      const [before, live] = [dumpTable(f.table), f.ram.liveFrames];
      expect(f.map(granule, 4 * tableFrames, 4 * granule)).toBe(-Errno.EADDRINUSE);
      expect(dumpTable(f.table)).toEqual(before);
      expect(f.ram.liveFrames).toBe(live);
    });
  },
);

describe.each([
  { topLevel: 3, bits: 48 },
  { topLevel: 4, bits: 57 },
  { topLevel: 3, bits: 42 },
])('a table that extends the sign of $bits bits', ({ topLevel, bits }) => {
  const half = 2 ** (bits - 1 - FRAME_SHIFT);
  const make = () => new Fixture(x8664, { topLevel, maxVaLg2: bits, signExtend: true });

  it('has the last page of the lower half and the first and the last of the upper, each its own', () => {
    const f = make();
    const places = [0, half - 2, 2 ** 53 - half, 2 ** 53 - 2];
    for (const [i, va] of places.entries()) expect(f.map(va, 2, 8 + 2 * i)).toBe(0);
    expect(places.map((va) => translate(f.table, va + 1))).toEqual([9, 11, 13, 15]);
    const dumped = dumpTable(f.table).flatMap((line) => {
      const found = /frame 0x(\w+): 2 frames/.exec(line);
      return found ? [parseInt(found[1] ?? '', 16)] : [];
    });
    expect(dumped).toEqual(places);
    for (const va of places) {
      expect(f.dirty(va, 2, true)).toEqual([[va, 2]]);
      expect(f.unmap(va, 2)).toBe(2);
    }
  });

  it.each([
    ['just above the lower half', half, 2],
    ['just below the upper half', 2 ** 53 - half - 2, 2],
    ['from the lower half on into the hole', half - 2, 4],
    ['from the hole on into the upper half', 2 ** 53 - half - 2, 4],
    ['from the lower half to the upper', half - 2, 2 ** 53 - 2 * half + 4],
  ])('refuses what is %s', (_what, start, frames) => {
    const f = make();
    f.map(half - 2, 2, 8);
    f.map(2 ** 53 - half, 2, 8);
    const before = dumpTable(f.table);
    expect(f.map(start, frames, 16)).toBe(-Errno.ERANGE);
    expect(f.unmap(start, frames)).toBe(0);
    expect(readDirty(f.table, start, frames, undefined, undefined)).toBe(-Errno.ERANGE);
    expect(dumpTable(f.table)).toEqual(before);
  });

  it('translates nothing in the hole', () => {
    const f = make();
    f.map(half - 2, 2, 8);
    f.map(2 ** 53 - half, 2, 8);
    expect([half, 2 ** 53 - half - 1].map((va) => translate(f.table, va))).toEqual([-1, -1]);
  });

  it('maps a range in the upper half with pages of every size', () => {
    const f = make();
    const [start, frames] = [2 ** 53 - half + 2, 2 ** 19 + 1024 - 2];
    expect(f.map(start, frames, start % 2 ** 20)).toBe(0);
    for (const at of [0, 1022, 2 ** 18, frames - 1]) {
      expect(translate(f.table, start + at)).toBe((start % 2 ** 20) + at);
    }
    expect(f.unmap(start, frames)).toBe(frames);
  });
});

describe('a top that grows', () => {
  const grown = (): Fixture => new Fixture(amdv1, { topLevel: 1, dynamicTop: true });

  it('keeps what is mapped, and tells the hardware', () => {
    const told: [number, number][] = [];
    const onTopChange = (top: number, level: number): void => void told.push([top, level]);
    const f = new Fixture(amdv1, { topLevel: 1, dynamicTop: true, onTopChange });
    f.map(0, 2, 8);
    f.map(2 ** 40, 2, 10); // 2^51 bytes: a table at level 4
    expect(translate(f.table, 0)).toBe(8);
    expect(translate(f.table, 2 ** 40)).toBe(10);
    expect(f.table.topLevel).toBe(4);
    expect(told.map(([, level]) => level)).toEqual([2, 3, 4]);
    expect(told.at(-1)?.[0]).toBe(f.table.top);
  });

  it('reaches the last address of 2^64', () => {
    const f = grown();
    expect(f.map(2 ** 53 - 2, 2, 12)).toBe(0);
    expect(translate(f.table, 2 ** 53 - 1)).toBe(13);
    expect(f.unmap(2 ** 53 - 2, 2)).toBe(2);
  });

  it('is as it was where a map fails after it', () => {
    const f = grown();
    f.map(2 ** 26, 2, 8); // grows to level 3 and keeps it
    const [before, live] = [dumpTable(f.table), f.ram.liveFrames];
    f.faults.plan({ nth: 3 });
    expect(f.map(2 ** 50, 2, 8)).toBe(-Errno.ENOMEM);
    f.faults.clear();
    expect(dumpTable(f.table)).toEqual(before);
    expect(f.ram.liveFrames).toBe(live);
  });
});

describe('page sizes that a user of the table leaves out', () => {
  it('are not used, and what is not aligned to the rest is refused', () => {
    const pgsizeBitmap = (1n << 20n) | (1n << 12n);
    const f = new Fixture(amdv1Mock, { topLevel: 2, pgsizeBitmap });
    expect(f.map(1, 2, 2)).toBe(-Errno.ENXIO);
    expect(f.map(0, 3, 0)).toBe(-Errno.ENXIO);
    f.map(0, 512 + 4, 1024);
    const sizes = dumpTable(f.table).flatMap((line) => /: (\d+) frames to/.exec(line)?.[1] ?? []);
    expect(sizes).toEqual(['512', '2', '2', '2', '2']);
  });

  it('of the test driver are those of Linux', () => {
    // Asked of the format by hand: levels 0 to 2 give 2^11 to 2^37, and a whole table's size is left out.
    expect(new Fixture(amdv1Mock, { topLevel: 2 }).table.pgsizeBitmap).toBe(2n ** 37n - 2n ** 11n);
  });

  it('of a growing AMDv1 table are 2^12 to 2^51 but 2^39', () => {
    const { pgsizeBitmap } = new Fixture(amdv1, { topLevel: 2, dynamicTop: true }).table;
    expect(pgsizeBitmap).toBe(2n ** 52n - 2n ** 12n - 2n ** 39n);
  });
});
