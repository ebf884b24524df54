// SPDX-License-Identifier: Apache-2.0
import { IntervalNode, IntervalTree } from '../base/interval_tree.ts';
import type { ClientMemory, Pin } from '../memory/client_memory.ts';
import { type FrameRun, FRAMES_PER_PAGE } from '../memory/frame.ts';

/** Pages `start..last` (by index) that are pinned, and the frames they are. */
class PinnedRange extends IntervalNode<number> {
  readonly pin: Pin;

  constructor(page: number, pin: Pin) {
    super(page, page + pin.frames / FRAMES_PER_PAGE - 1);
    this.pin = pin;
  }
}

/** A stretch of pages by index, both ends inclusive. */
export interface PageSpan {
  readonly start: number;
  readonly last: number;
}

/** Which pages of a stretch are pinned, each once, and the pins that hold them. */
export class PinnedPages {
  /** Pages pinned now. */
  count = 0;
  private readonly memory: ClientMemory;
  private readonly ranges = new IntervalTree<number, PinnedRange>(1);

  constructor(memory: ClientMemory) {
    this.memory = memory;
  }

  /** Pinned and other stretches of `first..last`, in order. */
  spans(first: number, last: number): Iterable<PageSpan & { readonly used: boolean }> {
    return this.ranges.spans(first, last);
  }

  /** Pins frames as the pages from `page` on. */
  add(page: number, runs: readonly FrameRun[]): void {
    let at = page;
    for (const run of runs) {
      const range = new PinnedRange(at, this.memory.pin(run));
      this.ranges.insert(range);
      at = range.last + 1;
    }
    this.count += at - page;
  }

  /** The frames of those of pages `first..last` that are pinned, in order. */
  frames(first: number, last: number): FrameRun[] {
    const runs: FrameRun[] = [];
    const { ranges } = this;
    for (let range = ranges.first(first, last); range; range = ranges.next(range, first, last)) {
      const from = Math.max(first, range.start);
      const to = Math.min(last, range.last);
      const frame = range.pin.start + (from - range.start) * FRAMES_PER_PAGE;
      runs.push({ frame, frames: (to - from + 1) * FRAMES_PER_PAGE });
    }
    return runs;
  }

  /** Unpins those of pages `first..last` that `unused` answers for a stretch of them. */
  release(first: number, last: number, unused: (first: number, last: number) => PageSpan[]): void {
    const { ranges } = this;
    for (let range = ranges.first(first, last); range;) {
      const following = ranges.next(range, first, last);
      this.trim(range, unused(Math.max(first, range.start), Math.min(last, range.last)));
      range = following;
    }
  }

  /** Takes spans, in order, out of a range. */
  private trim(range: PinnedRange, spans: readonly PageSpan[]): void {
    if (spans.length === 0) return;
    this.ranges.remove(range);
    let { pin } = range;
    let page = range.start;
    for (const { start, last } of spans) {
      const frame = pin.start + (start - page) * FRAMES_PER_PAGE;
      const frames = (last - start + 1) * FRAMES_PER_PAGE;
      const rest = this.memory.unpinPart(pin, frame, frame + frames - 1);
      this.count -= last - start + 1;
      const before = start > page ? rest.shift() : undefined;
      if (before) this.ranges.insert(new PinnedRange(page, before));
      page = last + 1;
      const after = rest[0];
      if (!after) return;
      pin = after;
    }
    this.ranges.insert(new PinnedRange(page, pin));
  }
}
