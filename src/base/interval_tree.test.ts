// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IntervalNode, IntervalTree } from './interval_tree.ts';
import { Prng } from './prng.ts';

class Area extends IntervalNode<bigint> {
  readonly name: string;
  constructor(start: bigint, last: bigint, name = '') {
    super(start, last);
    this.name = name;
  }
}
class Pages extends IntervalNode<number> {}

const MAX = 0xffff_ffff_ffff_ffffn;
const areas = (...ends: [bigint, bigint][]): IntervalTree<bigint, Area> => {
  const tree = new IntervalTree<bigint, Area>(1n);
  for (const [start, last] of ends) tree.insert(new Area(start, last));
  return tree;
};
const ends = (node: { start: unknown; last: unknown } | undefined): unknown =>
  node && [node.start, node.last];

describe('first and next', () => {
  it('take both ends as inclusive', () => {
    const tree = areas([10n, 19n]);
    expect(tree.first(0n, 9n)).toBeUndefined();
    expect(ends(tree.first(0n, 10n))).toEqual([10n, 19n]);
    expect(ends(tree.first(19n, 30n))).toEqual([10n, 19n]);
    expect(tree.first(20n, 30n)).toBeUndefined();
  });

  it('work at both ends of 64 bits', () => {
    const tree = areas([0n, 0n], [MAX, MAX]);
    const low = tree.first(0n, MAX);
    expect(ends(low)).toEqual([0n, 0n]);
    expect(low && ends(tree.next(low, 0n, MAX))).toEqual([MAX, MAX]);
  });

  it('find a long interval that starts far to the left', () => {
    const tree = areas([0n, 100n], [10n, 11n], [20n, 21n], [30n, 31n], [40n, 41n]);
    const first = tree.first(50n, 60n);
    expect(ends(first)).toEqual([0n, 100n]);
    expect(first && tree.next(first, 50n, 60n)).toBeUndefined();
  });

  it('deliver equal starts in order of insertion', () => {
    const tree = new IntervalTree<bigint, Area>(1n);
    for (const name of ['a', 'b', 'c', 'd']) tree.insert(new Area(5n, 9n, name));
    expect([...tree].map((area) => area.name)).toEqual(['a', 'b', 'c', 'd']);
  });
});

describe('firstHole', () => {
  const tree = areas([10n, 19n], [22n, 29n], [40n, 49n]);

  it('skips holes that are too short', () => {
    expect(tree.firstHole(10n, 100n, 1n)).toEqual({ start: 20n, last: 21n });
    expect(tree.firstHole(10n, 100n, 3n)).toEqual({ start: 30n, last: 39n });
    expect(tree.firstHole(10n, 100n, 11n)).toEqual({ start: 50n, last: 100n });
    expect(tree.firstHole(10n, 100n, 52n)).toBeUndefined();
  });

  it('clips to the range at both ends before measuring', () => {
    expect(tree.firstHole(32n, 35n, 4n)).toEqual({ start: 32n, last: 35n });
    expect(tree.firstHole(32n, 35n, 5n)).toBeUndefined();
    expect(tree.firstHole(12n, 18n, 1n)).toBeUndefined();
    expect(tree.firstHole(5n, 4n, 1n)).toBeUndefined();
  });

  it('sees the hole that a removal makes after an earlier search', () => {
    const one = areas([0n, 9n], [20n, MAX]);
    const middle = new Area(10n, 19n);
    one.insert(middle);
    expect(one.firstHole(0n, MAX, 1n)).toBeUndefined();
    one.remove(middle);
    expect(one.firstHole(0n, MAX, 10n)).toEqual({ start: 10n, last: 19n });
    expect(one.firstHole(0n, MAX, 11n)).toBeUndefined();
  });

  it('is all of 64 bits in an empty tree', () => {
    expect(areas().firstHole(0n, MAX, MAX + 1n)).toEqual({ start: 0n, last: MAX });
  });
});

describe('spans', () => {
  it('tile the range, joining neighbours that touch or overlap', () => {
    const tree = areas([10n, 19n], [20n, 24n], [23n, 40n], [42n, 50n]);
    expect([...tree.spans(0n, 45n)]).toEqual([
      { used: false, start: 0n, last: 9n },
      { used: true, start: 10n, last: 40n },
      { used: false, start: 41n, last: 41n },
      { used: true, start: 42n, last: 45n },
    ]);
  });

  it('end at the top of 64 bits', () => {
    expect([...areas([MAX, MAX]).spans(MAX - 1n, MAX)]).toEqual([
      { used: false, start: MAX - 1n, last: MAX - 1n },
      { used: true, start: MAX, last: MAX },
    ]);
  });
});

describe('misuse is refused', () => {
  it('inserting twice, removing what is not there, and reversed ends', () => {
    const tree = areas();
    const area = new Area(1n, 2n);
    expect(() => tree.remove(area)).toThrow('[0x1, 0x2] is in no tree');
    tree.insert(area);
    expect(() => tree.insert(area)).toThrow('[0x1, 0x2] is in a tree already');
    expect(() => tree.insert(new Area(3n, 2n))).toThrow('ends before it starts');
  });

  it('but what was cleared can be inserted again', () => {
    const tree = areas();
    const nodes = Array.from({ length: 20 }, (_, i) => new Area(BigInt(i), BigInt(i)));
    for (const node of nodes) tree.insert(node);
    tree.clear();
    expect([tree.size, [...tree]]).toEqual([0, []]);
    for (const node of nodes) tree.insert(node);
    expect([...tree]).toEqual(nodes);
  });
});

/** The datasheet, as an array in order of insertion. */
class Model {
  nodes: Pages[] = [];
  sorted(): Pages[] {
    return this.nodes.toSorted((a, b) => a.start - b.start); // stable
  }
  overlapping(start: number, last: number): Pages[] {
    return this.sorted().filter((node) => node.start <= last && node.last >= start);
  }
  used(at: number): boolean {
    return this.nodes.some((node) => node.start <= at && at <= node.last);
  }
  spans(start: number, last: number): { used: boolean; start: number; last: number }[] {
    const spans: { used: boolean; start: number; last: number }[] = [];
    for (let at = start; at <= last; at++) {
      const previous = spans.at(-1);
      if (previous?.used === this.used(at)) previous.last = at;
      else spans.push({ used: this.used(at), start: at, last: at });
    }
    return spans;
  }
}

const TOP = 60;
const range = fc
  .tuple(fc.integer({ min: 0, max: TOP }), fc.integer({ min: 0, max: 8 }))
  .map(([start, more]) => ({ start, last: Math.min(start + more, TOP) }));
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('insert' as const), range }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), which: fc.nat(99) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      range: fc
        .tuple(fc.nat(TOP), fc.nat(TOP))
        .map(([a, b]) => ({ start: Math.min(a, b), last: Math.max(a, b) })),
      length: fc.integer({ min: 1, max: 12 }),
    }),
  },
);

/** Balance, and that each summary is what the subtree says, an unknown gap having only unknown ones above it. */
function wrongIn(tree: IntervalTree<number, Pages>): string[] {
  const wrong: string[] = [];
  const check = (node: IntervalNode<number> | undefined): IntervalNode<number>[] => {
    if (node === undefined) return [];
    const { treeLeft, treeRight, treeGap } = node;
    const [left, right] = [check(treeLeft), check(treeRight)];
    const heights = [treeLeft?.treeHeight ?? 0, treeRight?.treeHeight ?? 0] as const;
    const all = [...left, node, ...right];
    const say = (what: string): number => wrong.push(`${what} of ${node.start}..${node.last}`);
    if (Math.abs(heights[0] - heights[1]) > 1) say('balance');
    if (node.treeHeight !== Math.max(...heights) + 1) say('height');
    if (node.treeMin !== Math.min(...all.map(({ start }) => start))) say('min');
    if (node.treeMax !== Math.max(...all.map(({ last }) => last))) say('max');
    // Steps within each side are those of the sides; between them, of what is before and what is after.
    const before = treeLeft ? Math.max(node.last, treeLeft.treeMax) : node.last;
    const steps = [
      treeLeft ? treeLeft.treeGap : 0,
      treeLeft ? node.start - treeLeft.treeMax : 0,
      treeRight ? treeRight.treeMin - before : 0,
      treeRight ? treeRight.treeGap : 0,
    ].map((step) => step ?? NaN);
    if (treeGap !== undefined && treeGap !== Math.max(0, ...steps)) say('gap');
    return all;
  };
  const [first] = tree;
  let root: IntervalNode<number> | undefined = first;
  while (root?.treeParent !== undefined) root = root.treeParent;
  if (check(root).length !== tree.size) wrong.push('size');
  return wrong;
}

it('keeps its shape and its summaries through each of many changes and searches', () => {
  const prng = new Prng(11);
  for (let round = 0; round < 12; round++) {
    const overlap = round % 2 === 1;
    const tree = new IntervalTree<number, Pages>(1);
    const model = new Model();
    for (let i = 0; i < 400; i++) {
      // Grows for the first half and shrinks in the second, with searches in between or not.
      if (prng.below(10) < (i < 200 ? 8 : 2)) {
        const start = prng.below(600);
        const node = new Pages(start, start + prng.below(overlap ? 40 : 3));
        if (overlap || model.overlapping(node.start, node.last).length === 0) {
          tree.insert(node);
          model.nodes.push(node);
        }
      } else if (model.nodes.length > 0) {
        const [node] = model.nodes.splice(prng.below(model.nodes.length), 1);
        if (node) tree.remove(node);
      }
      if (prng.below(3) === 0) tree.firstHole(prng.below(600), 700, 1 + prng.below(60));
      expect(wrongIn(tree)).toEqual([]);
    }
  }
});

describe.each([
  ['that may overlap', true],
  ['that are disjoint', false],
])('against an array, with intervals %s', (_, overlap) => {
  it('every question has the same answer after any changes', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const tree = new IntervalTree<number, Pages>(1);
        const model = new Model();
        for (const now of steps) {
          if (now.do === 'insert') {
            const { start, last } = now.range;
            if (!overlap && model.overlapping(start, last).length > 0) continue;
            const node = new Pages(start, last);
            tree.insert(node);
            model.nodes.push(node);
          } else if (now.do === 'remove') {
            const [node] = model.nodes.splice(now.which % (model.nodes.length || 1), 1);
            if (node) tree.remove(node);
          } else {
            const { start, last } = now.range;
            const found: Pages[] = [];
            for (let at = tree.first(start, last); at; at = tree.next(at, start, last)) {
              found.push(at);
            }
            expect(found).toEqual(model.overlapping(start, last));
            found.forEach((node, i) => expect(node).toBe(model.overlapping(start, last)[i]));
            const spans = model.spans(start, last);
            expect([...tree.spans(start, last)]).toEqual(spans);
            const hole = spans.find(
              (span) => !span.used && span.last - span.start + 1 >= now.length,
            );
            expect(tree.firstHole(start, last, now.length)).toEqual(
              hole && { start: hole.start, last: hole.last },
            );
          }
          expect(tree.size).toBe(model.nodes.length);
        }
        expect([...tree].every((node, i) => node === model.sorted()[i])).toBe(true);
        expect(wrongIn(tree)).toEqual([]);
      }),
      { seed: 7, numRuns: 1500 },
    );
  });
});

it('stays balanced and right over long rows of ascending and descending insertions', () => {
  for (const sign of [1, -1]) {
    const tree = new IntervalTree<number, Pages>(1);
    const nodes = Array.from({ length: 3000 }, (_, i) => {
      const start = 100_000 + sign * i * 10;
      return new Pages(start, start + 4);
    });
    for (const node of nodes) tree.insert(node);
    expect(wrongIn(tree)).toEqual([]);
    const low = Math.min(100_000, nodes.at(-1)?.start ?? 0);
    expect(tree.firstHole(low, low + 29_994, 6)).toBeUndefined();
    expect(tree.firstHole(low, low + 29_994, 5)?.start).toBe(low + 5);
    for (const node of nodes.filter((_, i) => i % 3 !== 0)) tree.remove(node);
    expect(wrongIn(tree)).toEqual([]);
    expect(tree.size).toBe(1000);
    const lowest = tree.first(0, 1e6)?.start ?? 0;
    expect(tree.firstHole(lowest, 1e6, 25)).toEqual({ start: lowest + 5, last: lowest + 29 });
  }
});

it('next goes on after other intervals were removed', () => {
  const tree = new IntervalTree<number, Pages>(1);
  const nodes = Array.from({ length: 50 }, (_, i) => new Pages(i * 2, i * 2));
  for (const node of nodes) tree.insert(node);
  const seen: number[] = [];
  for (let at = tree.first(0, 99); at; at = tree.next(at, 0, 99)) {
    seen.push(at.start);
    const [before, after] = [nodes[at.start / 2 - 1], nodes[at.start / 2 + 1]];
    if (before && before.treeHeight > 0) tree.remove(before);
    if (after) tree.remove(after);
  }
  expect(seen).toEqual(Array.from({ length: 25 }, (_, i) => i * 4));
});
