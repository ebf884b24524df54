// SPDX-License-Identifier: Apache-2.0
/** Draws the steps of dirty tracking. */
import { PAGE_N } from './draw.ts';
import { DrawQueue } from './draw_queue.ts';
import { HALF } from './memory.ts';
import type { Hwpt } from './objects.ts';
import type { DirtyStep } from './perform_dirty.ts';
import { type Area, LAST } from './space.ts';

const HALF_N = BigInt(HALF);
/** Memory of a bitmap: some pages, or so little that a bitmap can reach beyond it. */
const ROOMS = [8 * 4096, 3 * 4096, 4096, 4096 + 2, 2 * 4096 - 40, 100, 3, 0] as const;

export class DrawDirty extends DrawQueue {
  /** A table, mostly one for which a step can do something, with an area of it. */
  private tracked(op: DirtyStep['op']): {
    ref: number;
    hwpt: Hwpt | undefined;
    area: Area | undefined;
  } {
    const tables = this.world.of('HWPT_PAGING');
    const able = tables.filter(({ dirty }) => dirty);
    const filled = able.filter(({ space }) => space.areas.length > 0);
    const ready = filled.filter(({ tracking, written }) =>
      op === 'dirty_track' ? !tracking : tracking && (op === 'dirty_mark' || written.size > 0),
    );
    const best = [ready, filled, able].find(({ length }) => length > 0) ?? [];
    const hwpt = this.chance(12) ? undefined : this.pick(best);
    return {
      ref: hwpt ? tables.indexOf(hwpt) : this.ref(),
      hwpt,
      area: this.pick(hwpt?.space.areas ?? []),
    };
  }

  /** A range in an area, or about one. */
  private part(area: Area | undefined, granule: bigint): { iova: bigint; length: bigint } {
    if (!area || this.chance(20)) {
      if (this.chance(2)) return { iova: this.iova(), length: this.bytes() };
      return (
        this.pick([
          { iova: 0n, length: 0n },
          { iova: PAGE_N, length: 0n },
          { iova: LAST - PAGE_N + 1n, length: PAGE_N },
          { iova: LAST - PAGE_N + 1n, length: 2n * PAGE_N },
        ]) ?? { iova: 0n, length: 0n }
      );
    }
    const length = area.last - area.start + 1n;
    if (this.chance(3)) return { iova: area.start, length };
    const units = Number(length / granule) || 1;
    const skip = this.below(Math.min(units, 64));
    const left = units - skip;
    const count = this.chance(4) ? left + this.below(8) : 1 + this.below(Math.min(left, 64));
    return { iova: area.start + BigInt(skip) * granule, length: BigInt(count) * granule };
  }

  protected makeDirty(op: DirtyStep['op']): DirtyStep {
    const { ref, hwpt, area } = this.tracked(op);
    if (op === 'dirty_track') {
      const flags = this.chance(20) ? 2 : this.chance(4) ? 0 : 1;
      return { op, hwpt: ref, flags };
    }
    const granule = hwpt?.space.alignment ?? HALF_N;
    const range = this.part(area, granule);
    const room = this.chance(6) ? (this.pick(ROOMS) ?? 4096) : 4 * 4096;
    if (op === 'dirty_mark') {
      const odd = this.chance(12) ? this.pick([3n * HALF_N, 1n, 0n, PAGE_N]) : undefined;
      const pageSize = odd ?? (this.chance(2) ? HALF_N : granule);
      const count = pageSize > 0n ? Number(range.length / pageSize) : 1;
      const most = Math.min(count, 80_000);
      const bits = Array.from({ length: 1 + this.below(4) }, () => this.below(most || 1));
      const { iova, length } = this.chance(60) ? { iova: 0n, length: LAST } : range;
      const isNull = this.chance(30);
      return { op, hwpt: ref, iova, length, pageSize, bits: [...new Set(bits)], isNull, room };
    }
    const odd = this.chance(5) ? this.pick([4n * PAGE_N, 64n, 1n, 0n, 3n * HALF_N]) : undefined;
    const pageSize = odd ?? (this.chance(2) ? HALF_N : granule);
    const flags = this.chance(20) ? 2 : this.below(2);
    return { op, hwpt: ref, flags, ...range, pageSize, room };
  }
}
