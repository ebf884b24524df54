// SPDX-License-Identifier: Apache-2.0
import type { DmaEvent } from './dma.ts';
import { DmaCause } from './dma.ts';

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** A DMA in one line: `dma 0000:00:02.0 read 0x100000+4096 -> frame 0x1f: ok`. */
export function dmaText(event: DmaEvent): string {
  const { bdf, pasid, access, iova, length, fault, frame } = event;
  const who = pasid === 0 ? bdf : `${bdf} pasid ${pasid}`;
  const what = `dma ${who} ${access} ${hex(iova)}+${length}`;
  if (!fault) return `${what} -> frame ${hex(frame ?? 0)}: ok`;
  return `${what}: refused (${reason(fault.cause, fault.at)})`;
}

function reason(cause: DmaCause, at: bigint): string {
  switch (cause) {
    case DmaCause.BLOCKED:
    case DmaCause.BUS_MASTER_OFF:
    case DmaCause.PASID_OFF:
    case DmaCause.TRANSLATED_OFF:
      return cause;
    case DmaCause.NO_MEMORY:
      return `${hex(at)}: ${cause}`;
    default:
      return `${hex(at)} is ${cause}`;
  }
}
