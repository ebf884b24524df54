// SPDX-License-Identifier: Apache-2.0
/**
 * The nodes of an interval tree and what needs no knowledge of the tree around them: summaries of subtrees and searches.
 * Used through interval_tree.ts.
 *
 * Gaps are worked out when a hole is searched for, not when intervals change: in a row of equal gaps each removal makes
 * the widest one, which would be carried to the root every time (removing and inserting at random among 10^6: 8.7 us
 * when kept up to date, 4.0 us so, most of it cache misses that a mere lookup has as well).
 * A change marks the gaps above it as unknown; what is above an unknown gap is unknown too, so marking stops there.
 */

/**
 * What an interval tree stores; users extend it. `start` and `last` may not change while it is in a tree.
 * Fields are declared and then assigned: with as many subclasses as there are, V8 takes 500 ns to define each, 5 us a node.
 */
export class IntervalNode<K extends bigint | number> {
  declare start: K;
  /** Inclusive. */
  declare last: K;
  // The tree's own fields. `tree...` so that subclasses are free in their names.
  declare treeLeft: IntervalNode<K> | undefined;
  declare treeRight: IntervalNode<K> | undefined;
  declare treeParent: IntervalNode<K> | undefined;
  /** 1 for a leaf, 0 while in no tree. */
  declare treeHeight: number;
  /** Lowest start and highest last of the subtree: the same objects as in the node they come from, no copies. */
  declare treeMin: K;
  declare treeMax: K;
  /** The widest step from a last to the next start in the subtree, that is 1 more than the widest hole, or unknown. */
  declare treeGap: K | undefined;

  constructor(start: K, last: K) {
    this.start = start;
    this.last = last;
    this.treeLeft = undefined;
    this.treeRight = undefined;
    this.treeParent = undefined;
    this.treeHeight = 0;
    this.treeMin = start;
    this.treeMax = last;
    this.treeGap = undefined;
  }
}

// TypeScript has no arithmetic on `bigint | number`; a tree holds one of the two throughout.
export const plus = <K>(a: K, b: K): K => ((a as number) + (b as number)) as K;
export const minus = <K>(a: K, b: K): K => ((a as number) - (b as number)) as K;

/** For messages. */
export function show<K extends bigint | number>(node: IntervalNode<K>): string {
  return `[0x${node.start.toString(16)}, 0x${node.last.toString(16)}]`;
}

/** Sets height, treeMin and treeMax from the node and its two children. */
export function summarise<K extends bigint | number>(node: IntervalNode<K>): void {
  const left = node.treeLeft;
  const right = node.treeRight;
  let height = 0;
  let min = node.start;
  let max = node.last;
  if (left !== undefined) {
    height = left.treeHeight;
    min = left.treeMin;
    if (left.treeMax > max) max = left.treeMax;
  }
  if (right !== undefined) {
    if (right.treeHeight > height) height = right.treeHeight;
    if (right.treeMax > max) max = right.treeMax;
  }
  node.treeHeight = height + 1;
  node.treeMin = min;
  node.treeMax = max;
}

/** Marks the gaps of `node` and of all above it as unknown. */
export function forgetGaps<K extends bigint | number>(node: IntervalNode<K> | undefined): void {
  for (let at = node; at !== undefined && at.treeGap !== undefined; at = at.treeParent) {
    at.treeGap = undefined;
  }
}

/** The widest gap below, worked out where it is unknown. */
function gapOf<K extends bigint | number>(node: IntervalNode<K>, zero: K): K {
  if (node.treeGap !== undefined) return node.treeGap;
  const left = node.treeLeft;
  const right = node.treeRight;
  let gap = zero;
  let max = node.last;
  if (left !== undefined) {
    gap = gapOf(left, zero);
    const step = minus(node.start, left.treeMax);
    if (step > gap) gap = step;
    if (left.treeMax > max) max = left.treeMax;
  }
  if (right !== undefined) {
    const below = gapOf(right, zero);
    if (below > gap) gap = below;
    const step = minus(right.treeMin, max);
    if (step > gap) gap = step;
  }
  node.treeGap = gap;
  return gap;
}

/** The first overlapping interval below `root`, whose treeMax must reach `start`. */
export function firstBelow<K extends bigint | number>(
  root: IntervalNode<K>,
  start: K,
  last: K,
): IntervalNode<K> | undefined {
  let node = root;
  for (;;) {
    // If something on the left reaches `start`, it is the answer or all that starts later is beyond `last` as well.
    const left = node.treeLeft;
    if (left !== undefined && !(left.treeMax < start)) {
      node = left;
      continue;
    }
    if (node.start > last) return undefined;
    if (!(node.last < start)) return node;
    const right = node.treeRight;
    if (right === undefined || right.treeMax < start) return undefined;
    node = right;
  }
}

/** The next in order of start. */
export function successor<K extends bigint | number>(
  node: IntervalNode<K>,
): IntervalNode<K> | undefined {
  let at = node;
  if (at.treeRight !== undefined) {
    at = at.treeRight;
    while (at.treeLeft !== undefined) at = at.treeLeft;
    return at;
  }
  let parent = at.treeParent;
  while (parent !== undefined && parent.treeRight === at) {
    at = parent;
    parent = at.treeParent;
  }
  return parent;
}

/** A search for a hole under way. */
export interface HoleSearch<K> {
  readonly zero: K;
  readonly one: K;
  readonly need: K;
  /** Where the next hole may start: everything from the beginning up to here is covered or too short. */
  cursor: K;
  last: K;
}

/** Visits what is below `node` in order of start; true once `search` holds the hole. */
export function searchHole<K extends bigint | number>(
  node: IntervalNode<K>,
  search: HoleSearch<K>,
): boolean {
  if (node.treeMax < search.cursor) return false;
  const min = node.treeMin;
  if (min > search.cursor) {
    if (min > search.last) return false;
    const step = minus(min, search.cursor);
    if (!(step < search.need)) {
      search.last = minus(min, search.one);
      return true;
    }
  }
  if (gapOf(node, search.zero) > search.need) {
    const { treeLeft, treeRight } = node;
    if (treeLeft !== undefined && searchHole(treeLeft, search)) return true;
    if (node.start > search.cursor) {
      if (node.start > search.last) return false;
      if (!(minus(node.start, search.cursor) < search.need)) {
        search.last = minus(node.start, search.one);
        return true;
      }
    }
    if (!(node.last < search.cursor)) search.cursor = plus(node.last, search.one);
    return treeRight !== undefined && searchHole(treeRight, search);
  }
  search.cursor = plus(node.treeMax, search.one);
  return false;
}
