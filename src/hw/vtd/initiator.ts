// SPDX-License-Identifier: Apache-2.0
import { hi, lo } from '../../base/u64.ts';
import type { DmaResult, Initiator, InitiatorCapability } from '../../kernel/hardware.ts';
import { Access, NO_PASID } from './access.ts';
import type { VtdUnit } from './vtd_unit.ts';

const PAGE = 4096;

/** A device behind a unit that does what it is told, page by page in order; what is refused ends it. */
export class ModelInitiator implements Initiator {
  readonly sourceId: number;
  readonly capabilities: ReadonlySet<InitiatorCapability> = new Set([
    'dmaRead',
    'dmaWrite',
    'pasid',
  ]);
  readonly #unit: VtdUnit;

  constructor(unit: VtdUnit, sourceId: number) {
    this.#unit = unit;
    this.sourceId = sourceId;
  }

  dmaRead(address: bigint, into: Uint8Array, pasid: number = NO_PASID): DmaResult {
    return this.#move(Access.READ, address, into, pasid);
  }

  dmaWrite(address: bigint, from: Uint8Array, pasid: number = NO_PASID): DmaResult {
    return this.#move(Access.WRITE, address, from, pasid);
  }

  #move(access: number, address: bigint, bytes: Uint8Array, pasid: number): DmaResult {
    const { memory } = this.#unit;
    let done = 0;
    while (done < bytes.length) {
      const at = BigInt.asUintN(64, address + BigInt(done));
      const offset = Number(at & 0xfffn);
      const part = bytes.subarray(done, done + Math.min(bytes.length - done, PAGE - offset));
      const page = this.#unit.translate(this.sourceId, pasid, lo(at), hi(at), access);
      if (page < 0) return { ok: false, bytes: done };
      const ok =
        access === Access.READ
          ? memory.readBytes(page, offset, part)
          : memory.writeBytes(page, offset, part);
      if (!ok) return { ok: false, bytes: done };
      done += part.length;
    }
    return { ok: true, bytes: done };
  }
}
