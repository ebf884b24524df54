// SPDX-License-Identifier: Apache-2.0
import type { Hardware } from '../../kernel/hardware.ts';
import type { Capabilities } from './capabilities.ts';
import { faultReasonText } from './fault_reasons.ts';
import { Fsts, FSTS_FRI_SHIFT, Reg } from './registers.ts';

/** An access that the hardware refused and recorded. */
export interface FaultEvent {
  readonly sourceId: number;
  /** Undefined where the request had none. */
  readonly pasid: number | undefined;
  /** Of the page. */
  readonly address: bigint;
  readonly access: 'read' | 'write' | 'execute' | 'atomic';
  readonly reason: number;
  readonly text: string;
}

/** What was recorded, and whether more came than there was room for. */
export interface FaultReport {
  readonly events: readonly FaultEvent[];
  readonly overflowed: boolean;
}

const RECORD_BYTES = 16;
/** In the highest word of a record: it is full. */
const F = 0x8000_0000;

/**
 * Takes all fault records, oldest first, and makes room for new ones. Counterpart of `dmar_fault()`. Reading them ends even where the
 * hardware fills them as fast.
 */
export function takeFaults({ mmio }: Hardware, { cap }: Capabilities): FaultReport {
  const status = mmio.read32(Reg.FSTS);
  const overflowed = (status & Fsts.PFO) !== 0;
  const events: FaultEvent[] = [];
  const count = cap.nfr + 1;
  if ((status & Fsts.PPF) !== 0) {
    const first = (status >>> FSTS_FRI_SHIFT) & 0xff;
    for (let i = 0; i < count; i++) {
      const at = cap.fro * RECORD_BYTES + ((first + i) % count) * RECORD_BYTES;
      const high = mmio.read32(at + 12);
      if ((high & F) === 0) break;
      events.push(decode(mmio.read64(at), mmio.read32(at + 8), high));
      mmio.write32(at + 12, F);
    }
  }
  if (overflowed) mmio.write32(Reg.FSTS, Fsts.PFO);
  return { events, overflowed };
}

/** Words of a record: 0 address, 2 source id and more, 3 reason, PASID and type. */
function decode(address: bigint, low: number, high: number): FaultEvent {
  const reason = high & 0xff;
  // T1 is bit 126, T2 bit 92: 00 write, 10 read, 01 page request, 11 atomic.
  const t1 = (high >>> 30) & 1;
  const t2 = (low >>> 28) & 1;
  const isExecute = ((low >>> 30) & 1) !== 0;
  const hasPasid = low >>> 31 !== 0;
  let access: FaultEvent['access'] = t1 ? 'read' : 'write';
  if (t1 && t2) access = 'atomic';
  else if (t1 && isExecute) access = 'execute';
  return {
    sourceId: low & 0xffff,
    pasid: hasPasid ? (high >>> 8) & 0xf_ffff : undefined,
    address: address & ~0xfffn,
    access,
    reason,
    text: faultReasonText(reason),
  };
}
