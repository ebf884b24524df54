// SPDX-License-Identifier: Apache-2.0
import type { Capabilities } from './capabilities.ts';
import { hi, lo } from '../../base/u64.ts';
import { FRCD_HI, FRCD_LO, IOTLB_REG, IVA_REG, Offset } from './registers.ts';
import { PAGE_REQUEST_REGISTERS, REGISTERS } from './registers.ts';

/** Bytes of registers: two pages, as far as CAP.FRO and ECAP.IRO reach is more than any machine has. */
const BYTES = 0x8000;

/** The bits that registers hold, as lanes by offset, and what software may do to each. */
export class RegisterFile {
  readonly #lanes = new Uint32Array(BYTES / 4);
  readonly #replaced = new Uint32Array(BYTES / 4);
  readonly #cleared = new Uint32Array(BYTES / 4);
  readonly #caps: Capabilities;

  constructor(caps: Capabilities) {
    this.#caps = caps;
    const all = [...REGISTERS, ...(caps.hasPageRequests ? PAGE_REQUEST_REGISTERS : [])];
    all.push([caps.iotlbAt, IVA_REG], [caps.iotlbAt + 8, IOTLB_REG]);
    for (let i = 0; i < caps.records; i++) {
      all.push([caps.recordsAt + i * 16, FRCD_LO], [caps.recordsAt + i * 16 + 8, FRCD_HI]);
    }
    for (const [offset, one] of all) {
      // IVA is written to be used: it is kept, though it reads as 0 elsewhere.
      const isKept = one === IVA_REG;
      const [rw, w1c, wo] = [one.mask('RW'), one.mask('RW1C'), one.mask('WO')];
      this.#replaced[offset / 4] = rw.lo | (isKept ? wo.lo : 0);
      this.#cleared[offset / 4] = w1c.lo;
      if (one.bits === 64) {
        this.#replaced[offset / 4 + 1] = rw.hi | (isKept ? wo.hi : 0);
        this.#cleared[offset / 4 + 1] = w1c.hi;
      }
    }
    this.reset();
  }

  reset(): void {
    const { cap, ecap } = this.#caps;
    this.#lanes.fill(0);
    // The last major version with invalidation by registers (VTD-5.10 §6.5).
    this.set(Offset.VER, 0x50);
    this.set(Offset.CAP, lo(cap));
    this.set(Offset.CAP + 4, hi(cap));
    this.set(Offset.ECAP, lo(ecap));
    this.set(Offset.ECAP + 4, hi(ecap));
    this.set(Offset.FECTL, 0x8000_0000);
    this.set(Offset.IECTL, 0x8000_0000);
    if (this.#caps.hasPageRequests) this.set(Offset.PECTL, 0x8000_0000);
  }

  /** 0 for what is no register. */
  get(offset: number): number {
    return this.#lanes[offset >>> 2] ?? 0;
  }

  /** As hardware: any bit. */
  set(offset: number, value: number): void {
    this.#lanes[offset >>> 2] = value;
  }

  /** As software: each bit by its access. */
  write(offset: number, value: number): void {
    const at = offset >>> 2;
    const held = this.#lanes[at] ?? 0;
    const replaced = this.#replaced[at] ?? 0;
    this.#lanes[at] = (held & ~replaced & ~(value & (this.#cleared[at] ?? 0))) | (value & replaced);
  }
}
