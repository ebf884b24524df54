// SPDX-License-Identifier: Apache-2.0
import { FRAME_LANES_LG2, MAX_RUN_LG2 } from '../memory/ram.ts';
import { contigLg2, isTable, oaFrame } from './item.ts';
import { INVERSE_POW2, POW2 } from './lg2.ts';
import type { Table } from './table.ts';

/** What a walk answers where nothing is mapped. */
export const NO_FRAME = -1;

const CHUNK_MASK = 2 ** MAX_RUN_LG2 - 1;
/** A frame number is walked as two parts of at most 27 bits: integer shifts, 10 ns less over four levels than doubles. */
const LO_BITS = 26;
const LO_FRAMES = 2 ** LO_BITS;

/** The frame that an input frame is mapped to, or {@link NO_FRAME}. */
export function translate(table: Table, frame: number): number {
  const { format, ram, indexMask, itemLg2 } = table;
  const { chunks, firstFrame } = ram;
  const { present, codeShift, codeMask, tableCodes, oaShift } = format;
  const { granuleFrames, oaHiMask, oaHiFrames } = format;
  if (!(frame >= 0 && frame < table.end) && !table.reaches(frame, frame + 1)) return NO_FRAME;
  const hiPart = (frame * (1 / LO_FRAMES)) | 0;
  const loPart = (frame - hiPart * LO_FRAMES) | 0;
  // An index into RAM fits 31 bits, where a frame number does not.
  let at = (table.top - firstFrame) | 0;
  for (let level = table.topLevel; level >= 0; level--) {
    const lanes = chunks[at >>> MAX_RUN_LG2];
    if (!lanes) return NO_FRAME;
    const shift = itemLg2[level] ?? 0;
    const index =
      shift < LO_BITS
        ? (loPart >>> shift) | (hiPart << (LO_BITS - shift))
        : hiPart >>> (shift - LO_BITS);
    const lane = ((at & CHUNK_MASK) << FRAME_LANES_LG2) + ((index & indexMask) << 1);
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (((lo & present.lo) | (hi & present.hi)) === 0) return NO_FRAME;
    const oa = (lo >>> oaShift) * granuleFrames + (hi & oaHiMask) * oaHiFrames;
    if (level !== 0 && ((tableCodes >>> ((lo >>> codeShift) & codeMask)) & 1) !== 0) {
      at = (oa - firstFrame) | 0;
      continue;
    }
    const sizeLg2 = shift + contigLg2(format, lo, hi, level);
    const size = POW2[sizeLg2] ?? 1;
    const inverse = INVERSE_POW2[sizeLg2] ?? 1;
    // A contiguous entry has its size in the low bits of its address: take the start, add the offset.
    return Math.floor(oa * inverse) * size + (frame - Math.floor(frame * inverse) * size);
  }
  return NO_FRAME;
}

/**
 * The frames mapped at `frames` input frames from `start`, told as runs in order of address, contiguous ones joined; false where
 * any is not mapped (the runs told before it stand).
 */
export function forEachRun(
  table: Table,
  start: number,
  frames: number,
  tell: (frame: number, frames: number) => void,
): boolean {
  const end = start + frames;
  let runFrame = NO_FRAME;
  let runFrames = 0;
  for (let at = start; at < end;) {
    const frame = translate(table, at);
    if (frame === NO_FRAME) return false;
    const span = Math.min(end - at, entryFramesFrom(table, at));
    if (runFrames > 0 && frame === runFrame + runFrames) {
      runFrames += span;
    } else {
      if (runFrames > 0) tell(runFrame, runFrames);
      runFrame = frame;
      runFrames = span;
    }
    at += span;
  }
  if (runFrames > 0) tell(runFrame, runFrames);
  return true;
}

/** Frames from a mapped input frame to the end of its entry. */
function entryFramesFrom(table: Table, frame: number): number {
  const { format, ram } = table;
  let at = table.top;
  for (let level = table.topLevel; ; level--) {
    const lanes = ram.lanesOf(at);
    const lane = ram.laneOf(at) + 2 * table.index(frame, level);
    const lo = lanes[lane] ?? 0;
    const hi = lanes[lane + 1] ?? 0;
    if (isTable(format, lo, level)) {
      at = oaFrame(format, lo, hi);
      continue;
    }
    const size = POW2[(table.itemLg2[level] ?? 0) + contigLg2(format, lo, hi, level)] ?? 1;
    return size - offsetIn(frame, size);
  }
}

const offsetIn = (frame: number, size: number): number => frame - Math.floor(frame / size) * size;
