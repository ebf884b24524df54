// SPDX-License-Identifier: Apache-2.0
import { FRAME_SHIFT } from '../memory/frame.ts';
import { type Encoding, encodingOf, itemLg2, levelSizes, type TableFormat } from './format.ts';
import { highestBit } from './lg2.ts';
import type { TableOptions } from './table.ts';

/** The largest power of two that frame numbers reach. */
const MAX_LG2 = 53;

/** The numbers that a format and a hardware's limits lead to: the same for all tables of a kind, so worked out once. */
export interface Geometry {
  readonly encoding: Encoding;
  readonly maxVaLg2: number;
  /** Frames of output addresses. */
  readonly oaEnd: number;
  readonly pgsizeBitmap: bigint;
  /** By level: frames that an item maps, as a power of two, and its inverse, which turns a frame into an index. */
  readonly itemLg2: Int8Array;
  readonly scale: Float64Array;
  readonly indexMask: number;
  /** By n: the largest page of at most 2^n frames, the next larger one than 2^n frames, in frames; -1 where there is none. */
  readonly bestSize: Int8Array;
  readonly nextSize: Int8Array;
}

const known = new WeakMap<TableFormat, Map<string, Geometry>>();

/** The geometry of tables of a format under the given limits. */
export function geometryOf(format: TableFormat, options: TableOptions): Geometry {
  const { topLevel, dynamicTop = false, maxVaLg2, maxOaLg2, pgsizeBitmap } = options;
  const key = `${topLevel} ${dynamicTop} ${maxVaLg2} ${maxOaLg2} ${pgsizeBitmap}`;
  let ofFormat = known.get(format);
  if (!ofFormat) known.set(format, (ofFormat = new Map<string, Geometry>()));
  let geometry = ofFormat.get(key);
  if (!geometry) ofFormat.set(key, (geometry = makeGeometry(format, options)));
  return geometry;
}

function makeGeometry(format: TableFormat, options: TableOptions): Geometry {
  const { topLevel, dynamicTop = false } = options;
  const reach = dynamicTop
    ? format.maxVaLg2
    : Math.min(format.maxVaLg2, itemLg2(format, topLevel) + format.itemsLg2);
  const maxVaLg2 = Math.min(reach, options.maxVaLg2 ?? format.maxVaLg2);
  const maxOaLg2 = Math.min(format.maxOaLg2, options.maxOaLg2 ?? format.maxOaLg2);
  const levels = Array.from({ length: format.maxTopLevel + 1 }, (_, level) => level);
  const itemSizes = Int8Array.from(levels, (level) => itemLg2(format, level) - FRAME_SHIFT);
  const highest = dynamicTop ? format.maxTopLevel : topLevel;
  const sizes = possibleSizes(format, highest, maxVaLg2, maxOaLg2);
  const pgsizeBitmap = sizes & (options.pgsizeBitmap ?? sizes);
  return {
    encoding: encodingOf(format),
    maxVaLg2,
    oaEnd: 2 ** (maxOaLg2 - FRAME_SHIFT),
    pgsizeBitmap,
    itemLg2: itemSizes,
    scale: Float64Array.from(itemSizes, (lg2) => 2 ** -lg2),
    indexMask: 2 ** format.itemsLg2 - 1,
    ...sizeChoices(pgsizeBitmap),
  };
}

function sizeChoices(pgsizeBitmap: bigint): Pick<Geometry, 'bestSize' | 'nextSize'> {
  const bestSize = new Int8Array(MAX_LG2 + 1).fill(-1);
  const nextSize = new Int8Array(MAX_LG2 + 1).fill(-1);
  for (let lg2 = 0; lg2 <= MAX_LG2; lg2++) {
    const limit = 1n << BigInt(lg2 + FRAME_SHIFT + 1);
    const best = highestBit(pgsizeBitmap & (limit - 1n));
    bestSize[lg2] = best < 0 ? -1 : best - FRAME_SHIFT;
    const above = pgsizeBitmap & -limit;
    nextSize[lg2] = above === 0n ? -1 : highestBit(above & -above) - FRAME_SHIFT;
  }
  return { bestSize, nextSize };
}

/** What a user of the table can be told: whole tables' sizes (the top's reach) and sizes beyond the output are left out. */
function possibleSizes(
  format: TableFormat,
  highest: number,
  maxVaLg2: number,
  maxOaLg2: number,
): bigint {
  let sizes = 0n;
  for (let level = 0; level <= highest; level++) {
    if (itemLg2(format, level) >= maxVaLg2) break;
    sizes |= levelSizes(format, level);
  }
  return sizes & ((1n << BigInt(Math.min(maxVaLg2 - 1, maxOaLg2))) - 1n);
}
