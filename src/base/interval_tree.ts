// SPDX-License-Identifier: Apache-2.0
/**
 * Sets of intervals with inclusive ends, ordered by start: the counterpart of the kernel's interval_tree and
 * interval_tree_span_iter, with the search for holes that the kernel builds on top of the latter.
 *
 * An AVL tree whose links live in the stored objects, so that an area is one object and not three. Each node also
 * summarises the subtree below it: lowest start, highest last, widest gap. With intervals that do not overlap the
 * widest gap is exact; with overlapping ones it may be too large (a long interval further left covers it), never too
 * small, so it is only ever used to skip subtrees.
 */
import type { HoleSearch } from './interval_node.ts';
import {
  firstBelow,
  forgetGaps,
  IntervalNode,
  minus,
  plus,
  searchHole,
  show,
  successor,
  summarise,
} from './interval_node.ts';

export { IntervalNode };

/** A stretch of numbers, both ends inclusive. */
export interface Interval<K> {
  start: K;
  last: K;
}

/** A stretch that is covered throughout (`used`) or nowhere. */
export interface Span<K> extends Interval<K> {
  used: boolean;
}

/**
 * Intervals of one kind of number (`one` is `1n` or `1` and says which), equal starts allowed and kept in order of
 * insertion. Insert, remove, first, next: O(log n). A node is in at most one tree.
 */
export class IntervalTree<K extends bigint | number, N extends IntervalNode<K>> {
  readonly #one: K;
  readonly #zero: K;
  #root: IntervalNode<K> | undefined = undefined;
  #size = 0;

  constructor(one: K) {
    this.#one = one;
    this.#zero = minus(one, one);
  }

  get size(): number {
    return this.#size;
  }

  /** Throws RangeError where the node is in a tree already or ends before it starts: both are bugs of the caller. */
  insert(node: N): void {
    if (node.treeHeight !== 0) throw new RangeError(`interval ${show(node)} is in a tree already`);
    if (node.last < node.start)
      throw new RangeError(`interval ${show(node)} ends before it starts`);
    node.treeLeft = node.treeRight = node.treeParent = undefined;
    node.treeHeight = 1;
    node.treeMin = node.start;
    node.treeMax = node.last;
    node.treeGap = undefined;
    this.#size++;
    const start = node.start;
    let parent = this.#root;
    if (parent === undefined) {
      this.#root = node;
      return;
    }
    for (;;) {
      const before: boolean = start < parent.start;
      const child: IntervalNode<K> | undefined = before ? parent.treeLeft : parent.treeRight;
      if (child !== undefined) {
        parent = child;
        continue;
      }
      node.treeParent = parent;
      if (before) parent.treeLeft = node;
      else parent.treeRight = node;
      break;
    }
    forgetGaps(parent);
    this.#rise(parent);
  }

  /** The node must be in this tree (in none at all: RangeError). Others keep their places: `next` of them still works. */
  remove(node: N): void {
    if (node.treeHeight === 0) throw new RangeError(`interval ${show(node)} is in no tree`);
    const left = node.treeLeft;
    const right = node.treeRight;
    if (left === undefined || right === undefined) {
      const child = left ?? right;
      const parent = node.treeParent;
      this.#replace(node, child);
      forgetGaps(parent);
      this.#rise(parent);
    } else {
      let heir = right;
      while (heir.treeLeft !== undefined) heir = heir.treeLeft;
      const below = heir.treeParent === node ? heir : heir.treeParent;
      if (heir !== right) {
        this.#replace(heir, heir.treeRight);
        heir.treeRight = right;
        right.treeParent = heir;
      }
      heir.treeLeft = left;
      left.treeParent = heir;
      this.#replace(node, heir);
      // The old summary goes with the place, so that rising can tell whether anything changed for those above.
      heir.treeHeight = node.treeHeight;
      heir.treeMin = node.treeMin;
      heir.treeMax = node.treeMax;
      heir.treeGap = node.treeGap;
      forgetGaps(below);
      if (below !== heir) this.#rise(below);
      this.#rise(heir);
    }
    node.treeLeft = node.treeRight = node.treeParent = undefined;
    node.treeHeight = 0;
    this.#size--;
  }

  /** The interval with the lowest start that has a number in common with `[start, last]`. */
  first(start: K, last: K): N | undefined {
    const root = this.#root;
    if (root === undefined || root.treeMax < start || root.treeMin > last) return undefined;
    return firstBelow(root, start, last) as N | undefined;
  }

  /** The one after `node` in order of start that overlaps `[start, last]`; `node` must be in the tree. */
  next(node: N, start: K, last: K): N | undefined {
    let at: IntervalNode<K> = node;
    for (;;) {
      const right = at.treeRight;
      if (right !== undefined && !(right.treeMax < start)) {
        return firstBelow(right, start, last) as N | undefined;
      }
      let parent = at.treeParent;
      while (parent !== undefined && parent.treeRight === at) {
        at = parent;
        parent = at.treeParent;
      }
      if (parent === undefined || parent.start > last) return undefined;
      if (!(parent.last < start)) return parent as N;
      at = parent;
    }
  }

  /** In order of start. Removing the interval just delivered is allowed while iterating. */
  *[Symbol.iterator](): IterableIterator<N> {
    let node = this.#root;
    while (node?.treeLeft !== undefined) node = node.treeLeft;
    while (node !== undefined) {
      const following = successor(node);
      yield node as N;
      node = following;
    }
  }

  /**
   * The first maximal stretch of `[from, last]` that no interval covers and that is at least `minLength` long (at
   * least 1). Where intervals do not overlap: O(log n), and as much for each change since the last search.
   */
  firstHole(from: K, last: K, minLength: K): Interval<K> | undefined {
    if (last < from) return undefined;
    const need = minLength < this.#one ? this.#one : minLength;
    const search: HoleSearch<K> = { zero: this.#zero, one: this.#one, cursor: from, last, need };
    if (this.#root !== undefined && searchHole(this.#root, search)) {
      return { start: search.cursor, last: search.last };
    }
    if (search.cursor > last || plus(minus(last, search.cursor), this.#one) < need)
      return undefined;
    return { start: search.cursor, last };
  }

  /** Tiles `[start, last]` with spans that are alternately covered and not. The tree may not change meanwhile. */
  *spans(start: K, last: K): IterableIterator<Span<K>> {
    const one = this.#one;
    let cursor = start;
    let node = this.first(start, last);
    while (!(cursor > last)) {
      if (node === undefined) {
        yield { used: false, start: cursor, last };
        return;
      }
      if (cursor < node.start) {
        yield { used: false, start: cursor, last: minus(node.start, one) };
        cursor = node.start;
      }
      let end = node.last;
      let after = plus(end, one);
      for (node = this.next(node, start, last); node && !(node.start > after);) {
        if (node.last > end) {
          end = node.last;
          after = plus(end, one);
        }
        node = this.next(node, start, last);
      }
      yield { used: true, start: cursor, last: end > last ? last : end };
      cursor = after;
    }
  }

  /** Takes everything out, in O(n): the intervals can go into a tree again. */
  clear(each?: (node: N) => void): void {
    for (let node = this.#root; node !== undefined;) {
      const down: IntervalNode<K> | undefined = node.treeLeft ?? node.treeRight;
      if (down !== undefined) {
        node = down;
        continue;
      }
      const parent: IntervalNode<K> | undefined = node.treeParent;
      if (parent?.treeLeft === node) parent.treeLeft = undefined;
      else if (parent !== undefined) parent.treeRight = undefined;
      node.treeParent = undefined;
      node.treeHeight = 0;
      each?.(node as N);
      node = parent;
    }
    this.#root = undefined;
    this.#size = 0;
  }

  /** Puts `by` where `node` hangs; the links below `node` stay. */
  #replace(node: IntervalNode<K>, by: IntervalNode<K> | undefined): void {
    const parent = node.treeParent;
    if (by !== undefined) by.treeParent = parent;
    if (parent === undefined) this.#root = by;
    else if (parent.treeLeft === node) parent.treeLeft = by;
    else parent.treeRight = by;
  }

  /** After a change below or in `node`: summarises and balances it and those above, until one comes out as it was. */
  #rise(node: IntervalNode<K> | undefined): void {
    let at = node;
    while (at !== undefined) {
      const { treeHeight, treeMin, treeMax } = at;
      const top = this.#balance(at);
      if (top.treeHeight === treeHeight && top.treeMax === treeMax && top.treeMin === treeMin) {
        return;
      }
      at = top.treeParent;
    }
  }

  /** Summarises `node`, rotating where its sides differ by two levels; returns what then stands in its place. */
  #balance(node: IntervalNode<K>): IntervalNode<K> {
    const left = node.treeLeft;
    const right = node.treeRight;
    const tilt = (left?.treeHeight ?? 0) - (right?.treeHeight ?? 0);
    if (left !== undefined && tilt > 1) {
      const inner = left.treeRight;
      if (inner !== undefined && inner.treeHeight > (left.treeLeft?.treeHeight ?? 0)) {
        this.#lift(inner, left);
        this.#lift(inner, node);
        return inner;
      }
      this.#lift(left, node);
      return left;
    }
    if (right !== undefined && tilt < -1) {
      const inner = right.treeLeft;
      if (inner !== undefined && inner.treeHeight > (right.treeRight?.treeHeight ?? 0)) {
        this.#lift(inner, right);
        this.#lift(inner, node);
        return inner;
      }
      this.#lift(right, node);
      return right;
    }
    summarise(node);
    return node;
  }

  /** Rotates `child` above its parent. */
  #lift(child: IntervalNode<K>, parent: IntervalNode<K>): void {
    this.#replace(parent, child);
    let moved: IntervalNode<K> | undefined;
    if (parent.treeLeft === child) {
      moved = child.treeRight;
      parent.treeLeft = moved;
      child.treeRight = parent;
    } else {
      moved = child.treeLeft;
      parent.treeRight = moved;
      child.treeLeft = parent;
    }
    if (moved !== undefined) moved.treeParent = parent;
    parent.treeParent = child;
    parent.treeGap = undefined;
    child.treeGap = undefined;
    summarise(parent);
    summarise(child);
  }
}
