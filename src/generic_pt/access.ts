// SPDX-License-Identifier: Apache-2.0
import type { FrameRun } from '../memory/frame.ts';
import type { Lanes } from './format.ts';
import { contigLg2, isPresent, isTable, oaFrame } from './item.ts';
import { POW2 } from './lg2.ts';
import type { Table } from './table.ts';

/** Why hardware that walks the table refuses an access. */
export type AccessRefusal = 'out of range' | 'not mapped' | 'not readable' | 'not writable';

/**
 * What an access to an input frame finds, as the hardware would walk: the frame it leads to, and how many follow to the end of
 * its entry; or why it is refused. With `setsDirty`, the item of a write that is allowed is marked. `translate` (walk.ts) is
 * the faster one for those who look at a table without being bound by its permissions.
 */
export function walkAccess(
  table: Table,
  frame: number,
  isWrite: boolean,
  setsDirty = false,
): FrameRun | AccessRefusal {
  const { format, ram } = table;
  if (!table.reaches(frame, frame + 1)) return 'out of range';
  let at = table.top;
  for (let level = table.topLevel; level >= 0; level--) {
    const lanes = ram.lanesOf(at);
    const lane = ram.laneOf(at) + 2 * table.index(frame, level);
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (!isPresent(format, lo, hi)) return 'not mapped';
    if (isTable(format, lo, level)) {
      at = oaFrame(format, lo, hi);
      continue;
    }
    if (isWrite && !allows(format.write, lo, hi)) return 'not writable';
    if (!isWrite && !allows(format.read, lo, hi)) return 'not readable';
    if (isWrite && setsDirty) {
      lanes[lane] = (lo | format.dirty.lo) >>> 0;
      lanes[lane + 1] = (hi | format.dirty.hi) >>> 0;
    }
    const size = POW2[(table.itemLg2[level] ?? 0) + contigLg2(format, lo, hi, level)] ?? 1;
    const start = Math.floor(oaFrame(format, lo, hi) / size) * size;
    const offset = frame - Math.floor(frame / size) * size;
    return { frame: start + offset, frames: size - offset };
  }
  return 'not mapped';
}

/** All bits of a permission are set; a format without a bit for it allows it. */
const allows = (bits: Lanes, lo: number, hi: number): boolean =>
  (~lo & bits.lo) === 0 && (~hi & bits.hi) === 0;
