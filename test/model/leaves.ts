// SPDX-License-Identifier: Apache-2.0
import type { Table } from '../../src/generic_pt/table.ts';
import { Prot } from '../../src/iommu/domain.ts';

/** What one leaf, contiguous ones as a whole, maps: frames of 2 KiB. */
export interface Leaf {
  readonly iova: number;
  readonly frame: number;
  readonly frames: number;
  readonly prot: number;
}

const ITEMS = 512;
/** Bits of an item of the test driver's format, whose granule is 2 KiB: see fmt/amdv1.ts for what they are. */
const PRESENT = 1;
const READ_HI = 1 << 29;
const WRITE_HI = 1 << 30;
const LEAF_OF_ITS_SIZE = 0;
const LEAF_OF_SEVERAL = 7;

/**
 * Every leaf of a table in order of address, by a reading of the format that shares nothing with the engine's walker.
 */
export function leavesOf(table: Table): Leaf[] {
  const leaves: Leaf[] = [];
  read(table, table.top, table.topLevel, 0, leaves);
  return leaves;
}

function read(table: Table, at: number, level: number, base: number, leaves: Leaf[]): void {
  const { ram } = table;
  const lanes = ram.lanesOf(at);
  const lane = ram.laneOf(at);
  const step = ITEMS ** level;
  for (let index = 0; index < ITEMS; index++) {
    const lo = lanes[lane + 2 * index] ?? 0;
    if ((lo & PRESENT) === 0) continue;
    const hi = lanes[lane + 2 * index + 1] ?? 0;
    const iova = base + index * step;
    const code = (lo >>> 9) & 7;
    const address = (hi & 0xf_ffff) * 2 ** 20 + (lo >>> 12);
    const prot = (hi & READ_HI ? Prot.READ : 0) | (hi & WRITE_HI ? Prot.WRITE : 0);
    if (level > 0 && code !== LEAF_OF_ITS_SIZE && code !== LEAF_OF_SEVERAL) {
      read(table, address, level - 1, iova, leaves);
      continue;
    }
    if (code !== LEAF_OF_SEVERAL) {
      leaves.push({ iova, frame: address, frames: step, prot });
      continue;
    }
    // n ones at the low end of the address say 2^(n+1) frames.
    let frames = 2;
    for (let rest = address; rest % 2 === 1; rest = (rest - 1) / 2) frames *= 2;
    if (iova % frames !== 0) continue; // a further item of the leaf before
    leaves.push({ iova, frame: address - (frames / 2 - 1), frames, prot });
  }
}
