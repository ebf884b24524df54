// SPDX-License-Identifier: Apache-2.0
import { Access, NO_PASID } from './access.ts';
import type { Capabilities } from './capabilities.ts';
import type { RegisterFile } from './register_file.ts';
import { Offset } from './registers.ts';

const [PFO, PPF, IQE, ICE, ITE] = [1, 2, 0x10, 0x20, 0x40];
const EVENTS = PFO | PPF | IQE | ICE | ITE;
export const QueueError = { IQE, ICE, ITE } as const;
const [IM, IP] = [0x8000_0000, 0x4000_0000];
const F = 0x8000_0000;

/** Sends a message of an event: its address and data as the registers have them. */
export type SendMessage = (addressLo: number, addressHi: number, data: number) => void;

/** An interrupt with mask and pending bits: control, data, address and upper address register from `base` on. */
export class EventInterrupt {
  readonly #registers: RegisterFile;
  readonly #base: number;
  readonly #send: SendMessage;

  constructor(registers: RegisterFile, base: number, send: SendMessage) {
    this.#registers = registers;
    this.#base = base;
    this.#send = send;
  }

  /** A new condition: sent, or pending while masked. */
  raise(): void {
    const registers = this.#registers;
    const control = registers.get(this.#base);
    if ((control & IM) !== 0) {
      registers.set(this.#base, control | IP);
      return;
    }
    registers.set(this.#base, control & ~IP);
    this.#send(
      registers.get(this.#base + 8),
      registers.get(this.#base + 12),
      registers.get(this.#base + 4),
    );
  }

  /** Software wrote the control register: what was pending is sent once nothing masks it. */
  controlWritten(): void {
    const control = this.#registers.get(this.#base);
    if ((control & IM) === 0 && (control & IP) !== 0) this.raise();
  }

  /** What it was about has been dealt with. */
  withdraw(): void {
    this.#registers.set(this.#base, this.#registers.get(this.#base) & ~IP);
  }
}

/** Fault status and fault records: primary fault logging, VTD-5.10 §7.2.1; records: VTD-5.10 §11.4.7.6. */
export class FaultLog {
  readonly event: EventInterrupt;
  readonly #registers: RegisterFile;
  readonly #caps: Capabilities;
  /** Where the next record goes. */
  #next = 0;

  constructor(registers: RegisterFile, caps: Capabilities, send: SendMessage) {
    this.#registers = registers;
    this.#caps = caps;
    this.event = new EventInterrupt(registers, Offset.FECTL, send);
  }

  reset(): void {
    this.#next = 0;
  }

  /** An error that the queue stops at: not that of a device which answered what nobody asked (VTD-5.10 §6.5.2). */
  get stopsQueue(): boolean {
    return (this.#registers.get(Offset.FSTS) & (IQE | ITE)) !== 0;
  }

  /** An error of the queue: {@link QueueError}. */
  queueError(bit: number): void {
    this.#setStatus(bit);
  }

  record(sid: number, pasid: number, lo: number, hi: number, access: number, reason: number): void {
    const registers = this.#registers;
    const { recordsAt, records, collapsesFaults, hasDeviceTlbs } = this.#caps;
    if ((registers.get(Offset.FSTS) & PFO) !== 0) return;
    if (collapsesFaults && this.#isPending(sid)) return;
    const at = recordsAt + this.#next * 16;
    if ((registers.get(at + 12) & F) !== 0) {
      this.#setStatus(PFO);
      return;
    }
    const hasPasid = pasid !== NO_PASID;
    const isAtomic = (access & Access.ATOMIC) !== 0;
    const isPageRequest = (access & Access.PAGE_REQUEST) !== 0;
    registers.set(at, lo & 0xffff_f000);
    registers.set(at + 4, this.#withinTables(hi));
    registers.set(
      at + 8,
      sid |
        (isAtomic || isPageRequest ? 1 << 28 : 0) |
        ((access & Access.PRIVILEGED) !== 0 ? 1 << 29 : 0) |
        ((access & Access.EXECUTE) !== 0 ? 1 << 30 : 0) |
        (hasPasid ? 1 << 31 : 0),
    );
    const isRead = isAtomic || (!isPageRequest && (access & Access.WRITE) === 0);
    registers.set(
      at + 12,
      F |
        (isRead ? 0x4000_0000 : 0) |
        (hasDeviceTlbs ? addressType(access) << 28 : 0) |
        ((hasPasid ? pasid : 0) << 8) |
        reason,
    );
    const index = this.#next;
    this.#next = (index + 1) % records;
    const status = registers.get(Offset.FSTS);
    if ((status & PPF) !== 0) return;
    registers.set(Offset.FSTS, (status & ~0xff00) | (index << 8));
    this.#setStatus(PPF);
  }

  /** The high half of an address: bits above the widest tables read 0. */
  #withinTables(hi: number): number {
    const bits = this.#caps.widestTable - 32;
    return bits >= 32 ? hi : hi % 2 ** bits;
  }

  /** Software wrote FSTS or a record: PPF is what the records say, and an event that is about nothing any more goes. */
  update(): void {
    const registers = this.#registers;
    if (!this.#isPending(undefined)) registers.set(Offset.FSTS, registers.get(Offset.FSTS) & ~PPF);
    if ((registers.get(Offset.FSTS) & EVENTS) === 0) this.event.withdraw();
  }

  #isPending(sid: number | undefined): boolean {
    const { recordsAt, records } = this.#caps;
    for (let i = 0; i < records; i++) {
      const at = recordsAt + i * 16;
      if ((this.#registers.get(at + 12) & F) === 0) continue;
      if (sid === undefined || (this.#registers.get(at + 8) & 0xffff) === sid) return true;
    }
    return false;
  }

  /** Sets a bit of FSTS: an event only where none was set. */
  #setStatus(bit: number): void {
    const status = this.#registers.get(Offset.FSTS);
    this.#registers.set(Offset.FSTS, status | bit);
    if ((status & EVENTS) === 0) this.event.raise();
  }
}

function addressType(access: number): number {
  if ((access & Access.TRANSLATION_REQUEST) !== 0) return 1;
  return (access & Access.TRANSLATED) !== 0 ? 2 : 0;
}
