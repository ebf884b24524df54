// SPDX-License-Identifier: Apache-2.0
import type { Bindings } from './bindings.ts';
import type { Capabilities } from './capabilities.ts';
import type { FaultLog } from './fault_log.ts';
import type { Invalidation } from './invalidation.ts';
import type { InvalidationQueue } from './queue.ts';
import type { RegisterFile } from './register_file.ts';
import { Offset } from './registers.ts';

const [TE, SRTP, WBF, QIE, IRE, SIRTP, CFI] = [
  0x8000_0000, 0x4000_0000, 0x0800_0000, 0x0400_0000, 0x0200_0000, 0x0100_0000, 0x0080_0000,
];

export interface CommandParts {
  readonly caps: Capabilities;
  readonly registers: RegisterFile;
  readonly bindings: Bindings;
  readonly invalidation: Invalidation;
  readonly queue: InvalidationQueue;
  readonly log: FaultLog;
}

/** Commands that are written to registers: GCMD, and the invalidations of legacy mode. */
export class Commands {
  /** Translation is on (TES). */
  translates = false;
  readonly #parts: CommandParts;

  constructor(parts: CommandParts) {
    this.#parts = parts;
  }

  /** GCMD: each bit that differs from the status is a command; a one-shot bit always is. */
  global(value: number): void {
    const registers = this.#parts.registers;
    let status = registers.get(Offset.GSTS);
    if ((value & SRTP) !== 0) {
      const lo = registers.get(Offset.RTADDR);
      this.#parts.bindings.setRoot(
        (lo >>> 10) & 3,
        registers.get(Offset.RTADDR + 4) * 2 ** 20 + (lo >>> 12),
      );
      if (this.#parts.caps.clearsOnSrtp) this.#parts.invalidation.all();
      status |= SRTP;
    }
    // The write buffer is empty before anybody can ask.
    if ((value & WBF) !== 0) status &= ~WBF;
    if (this.#parts.caps.hasQueue && ((value ^ status) & QIE) !== 0) {
      this.#parts.queue.turn((value & QIE) !== 0);
      status = (status & ~QIE) | (value & QIE);
    }
    // Interrupt remapping is not modelled: its switches read back, no interrupt changes.
    if ((value & SIRTP) !== 0) status |= SIRTP;
    status = (status & ~(IRE | CFI)) | (value & (IRE | CFI));
    const isTurnedOff = (status & ~value & TE) !== 0;
    status = (status & ~TE) | (value & TE);
    this.translates = (status & TE) !== 0;
    // VTD-5.10 §11.4.4.1; VTD-5.10 §7.2.1.
    if (isTurnedOff && this.#parts.caps.isScalable) this.#parts.invalidation.all();
    if ((status & (TE | IRE)) === 0) this.#parts.log.reset();
    registers.set(Offset.GSTS, status);
  }

  /** Registers invalidate in legacy mode only, and not while the queue is on: there software must not, and it comes to nothing here. */
  get #ignoresRegisters(): boolean {
    return this.#parts.queue.isOn || !this.#parts.bindings.isLegacy;
  }

  /** CCMD, by its high half: ICC is bit 63 (VTD-5.10 §11.4.6.1). */
  context(value: number): void {
    if ((value & 0x8000_0000) === 0) return;
    const low = this.#parts.registers.get(Offset.CCMD);
    const asked = (value >>> 29) & 3;
    const done = this.#ignoresRegisters
      ? 0
      : this.#parts.invalidation.context(asked, low & 0xffff, low >>> 16, value & 3);
    this.#parts.registers.set(Offset.CCMD + 4, (value & 0x6000_0000) | (done << 27));
  }

  /** IOTLB_REG, by its high half: IVT is bit 63 (VTD-5.10 §11.4.6.3). */
  iotlb(value: number): void {
    if ((value & 0x8000_0000) === 0) return;
    const { iotlbAt } = this.#parts.caps;
    const [lo, hi] = [this.#parts.registers.get(iotlbAt), this.#parts.registers.get(iotlbAt + 4)];
    const asked = (value >>> 28) & 3;
    const done = this.#ignoresRegisters
      ? 0
      : this.#parts.invalidation.iotlb(asked, value & 0xffff, lo, hi);
    this.#parts.registers.set(iotlbAt + 12, (value & 0x3003_ffff) | (done << 25));
  }
}
