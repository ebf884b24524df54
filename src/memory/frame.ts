// SPDX-License-Identifier: Apache-2.0
import { PAGE_SIZE } from './mm.ts';

/**
 * Physical memory is counted in frames of 2 KiB, the smallest page of any format here (the kernel's test driver has it).
 * A frame number is a plain `number` (physical address / 2048): below 2^41 for the 52-bit physical addresses of
 * AMD-Vi and Arm. Never use 32-bit operators on one.
 */
export const FRAME_SIZE = 2048;
export const FRAME_SHIFT = 11;
export const FRAMES_PER_PAGE = PAGE_SIZE / FRAME_SIZE;

/** Frames of tables and other RAM of the machine start here (4 GiB, above the hole for devices). */
export const RAM_FIRST_FRAME = 2 ** (32 - FRAME_SHIFT);
/** Frames that stand for pages of clients: from 1 TiB to the end of a 52-bit physical address space. */
export const CLIENT_FIRST_FRAME = 2 ** (40 - FRAME_SHIFT);
export const CLIENT_LAST_FRAME = 2 ** (52 - FRAME_SHIFT) - 1;

/** A stretch of contiguous frames. */
export interface FrameRun {
  readonly frame: number;
  readonly frames: number;
}
