// SPDX-License-Identifier: Apache-2.0
import { ATS_PAGE } from '../../ats_entry.ts';
import type { PasidPrefix } from '../../ats_messages.ts';
import { AtsRefusal } from '../../ats_port.ts';
import { DmaCause, type DmaFault } from '../../dma.ts';
import { State } from './registers.ts';

/** A DMA or a translation as software described it. */
export interface Job {
  readonly slot: number;
  readonly address: bigint;
  readonly length: number;
  /** In the buffer. */
  readonly offset: number;
  readonly pasid: PasidPrefix | undefined;
  readonly group: number;
  readonly pageFlags: number;
  /** What goes along with the last page request of its group. */
  readonly privateData: bigint | undefined;
}

/** How a step of a job ended, and at which address where it failed. */
export interface Outcome {
  readonly state: State;
  readonly at: bigint;
}

export const pageOf = (address: bigint): bigint => address - (address % ATS_PAGE);

/** Parameters that make no sense. */
export const bad = (at: bigint): Outcome => ({ state: State.BAD, at });

/** A DMA did not move its bytes. */
export function faulted({ cause, at }: DmaFault): Outcome {
  const isOff = cause === DmaCause.BUS_MASTER_OFF || cause === DmaCause.PASID_OFF;
  return { state: isOff ? State.OFF : State.REFUSED, at };
}

/** A message did not leave. */
export function refused(refusal: AtsRefusal, at: bigint): Outcome {
  if (refusal === AtsRefusal.NO_CREDIT) return { state: State.NO_CREDIT, at };
  if (refusal === AtsRefusal.FAILED) return { state: State.FAILURE, at };
  return { state: refusal === AtsRefusal.BAD_MESSAGE ? State.BAD : State.OFF, at };
}
