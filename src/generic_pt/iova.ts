// SPDX-License-Identifier: Apache-2.0
import { FRAME_SHIFT, FRAME_SIZE } from '../memory/frame.ts';

const SHIFT = BigInt(FRAME_SHIFT);
const EXACT = 2 ** 53;

/**
 * An address in bytes as a frame number; with a fraction, or rounded down above 2^53, where it is not aligned to a frame (see
 * `isAligned`). Up to 2^53 no bigint is shifted: a shift costs 50 ns and more, a conversion 5.
 */
export function frameOfIova(iova: bigint): number {
  const bytes = Number(iova);
  return bytes < EXACT ? bytes / FRAME_SIZE : Number(iova >> SHIFT);
}

/** Whether an address is the first byte of its frame; `frame` is what `frameOfIova` gave for it. */
export function isAligned(iova: bigint, frame: number): boolean {
  return Number(iova) < EXACT ? Number.isInteger(frame) : (iova & BigInt(FRAME_SIZE - 1)) === 0n;
}

/** The first byte of a frame. */
export const iovaOfFrame = (frame: number): bigint => BigInt(frame) << SHIFT;
