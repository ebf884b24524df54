// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import { toBigint } from '../base/u64.ts';
import { type AccessWidth, allOnes, type BarHandler } from './bar.ts';
import { type Capability, CapabilityId } from './capability.ts';
import type { ConfigRegister, ConfigSpace } from './config_space.ts';
import type { InterruptMessage } from './interrupts.ts';
import type { SentMsi } from './msi.ts';

/** Source of the layout: Linux include/uapi/linux/pci_regs.h (PCI_MSIX_*). */
const MESSAGE_CONTROL = 0x02;
const ENTRY_BYTES = 16;
const MESSAGE_DATA = 8;
const VECTOR_CONTROL = 12;

export interface MsixOptions {
  /** Entries of its table: 1 to 2048. */
  readonly vectors: number;
  /** The BAR that holds table and pending bits. */
  readonly bar: number;
  /** Byte offsets in that BAR, multiples of 8. */
  readonly tableOffset: number;
  readonly pbaOffset: number;
}

/** MSI-X: a table of messages in a BAR, each masked or not, and pending bits beside it. */
export class MsixCapability implements Capability {
  readonly name = 'MSI-X';
  readonly id = CapabilityId.MSIX;
  readonly bytes = 12;
  readonly vectors: number;
  readonly bar: number;
  readonly tableOffset: number;
  readonly pbaOffset: number;
  readonly registers: readonly ConfigRegister[];
  readonly #control = register('MSI-X Message Control', {
    TableSize: field(10, 0, { access: 'RO' }),
    FunctionMask: field(14, 14),
    MsixEnable: field(15, 15),
  });
  readonly #table: DataView;
  readonly #pending: DataView;
  readonly #onUnmask: () => void;
  #config: ConfigSpace | undefined = undefined;
  #at = 0;

  /** `onUnmask` is called when software has written to the table, which can let pending messages go. */
  constructor(options: MsixOptions, onUnmask: () => void) {
    const { vectors, bar, tableOffset, pbaOffset } = options;
    if (!(vectors >= 1 && vectors <= 2048)) {
      throw new RangeError(`MSI-X with ${vectors} vectors: it is 1 to 2048`);
    }
    if (tableOffset % 8 !== 0 || pbaOffset % 8 !== 0) {
      throw new RangeError('MSI-X: table and pending bits are at multiples of 8');
    }
    this.vectors = vectors;
    this.bar = bar;
    this.tableOffset = tableOffset;
    this.pbaOffset = pbaOffset;
    this.#onUnmask = onUnmask;
    this.#table = new DataView(new ArrayBuffer(vectors * ENTRY_BYTES));
    this.#pending = new DataView(new ArrayBuffer(Math.ceil(vectors / 64) * 8));
    const place = (what: string) =>
      register(`MSI-X ${what}`, {
        BarIndicator: field(2, 0, { access: 'RO' }),
        Offset: field(31, 3, { access: 'RO' }),
      });
    this.registers = [
      { at: MESSAGE_CONTROL, bytes: 2, value: vectors - 1, register: this.#control },
      { at: 4, bytes: 4, value: tableOffset | bar, register: place('Table') },
      { at: 8, bytes: 4, value: pbaOffset | bar, register: place('PBA') },
    ];
    this.reset();
  }

  get at(): number {
    return this.#at;
  }

  get tableBytes(): number {
    return this.#table.byteLength;
  }

  get pbaBytes(): number {
    return this.#pending.byteLength;
  }

  place(config: ConfigSpace, at: number): void {
    this.#config = config;
    this.#at = at;
  }

  get enabled(): boolean {
    return this.#control.fields.MsixEnable.get(this.#controlValue) === 1;
  }

  /** What answers in the BAR at `tableOffset`: entries of 16 bytes, 4 or 8 at a time. */
  readonly table: BarHandler = {
    read: (offset, width) => readAligned(this.#table, offset, width),
    write: (offset, width, value) => {
      if (!isAligned(offset, width)) return;
      if (width === 8) this.#table.setBigUint64(offset, value, true);
      else this.#table.setUint32(offset, Number(value), true);
      this.#onUnmask();
    },
    nameAt: (offset) => `MSI-X Table[${Math.floor(offset / ENTRY_BYTES)}]`,
  };

  /** What answers at `pbaOffset`: software only reads it. */
  readonly pba: BarHandler = {
    read: (offset, width) => readAligned(this.#pending, offset, width),
    write: () => undefined,
    nameAt: () => 'MSI-X PBA',
  };

  /** The message in an entry, masked or not. */
  message(vector: number): InterruptMessage {
    const entry = vector * ENTRY_BYTES;
    return {
      address: toBigint(this.#table.getUint32(entry, true), this.#table.getUint32(entry + 4, true)),
      data: this.#table.getUint32(entry + MESSAGE_DATA, true),
    };
  }

  isMasked(vector: number): boolean {
    if (this.#control.fields.FunctionMask.get(this.#controlValue) === 1) return true;
    return (this.#table.getUint32(vector * ENTRY_BYTES + VECTOR_CONTROL, true) & 1) === 1;
  }

  /** For `Interrupts`: the message to send now, or undefined while it is masked, when it becomes pending. */
  send(vector: number): InterruptMessage | undefined {
    if (!(vector < this.vectors)) throw new RangeError(`MSI-X vector ${vector} of ${this.vectors}`);
    if (!this.isMasked(vector)) return this.message(vector);
    this.#setPending(vector, true);
    return undefined;
  }

  /** For `Interrupts`: those that are pending and not masked any more. */
  takePending(): SentMsi[] {
    const due: SentMsi[] = [];
    for (let byte = 0; byte < this.pbaBytes; byte++) {
      if (this.#pending.getUint8(byte) === 0) continue;
      for (let vector = byte * 8; vector < Math.min(this.vectors, byte * 8 + 8); vector++) {
        const isPending = ((this.#pending.getUint8(byte) >>> (vector % 8)) & 1) === 1;
        if (!isPending || this.isMasked(vector)) continue;
        this.#setPending(vector, false);
        due.push({ vector, message: this.message(vector) });
      }
    }
    return due;
  }

  /** Every entry is masked and empty, nothing is pending. */
  reset(): void {
    for (let entry = 0; entry < this.tableBytes; entry += ENTRY_BYTES) {
      this.#table.setBigUint64(entry, 0n, true);
      this.#table.setUint32(entry + MESSAGE_DATA, 0, true);
      this.#table.setUint32(entry + VECTOR_CONTROL, 1, true);
    }
    for (let byte = 0; byte < this.pbaBytes; byte++) this.#pending.setUint8(byte, 0);
  }

  /** A copy of the table, for `restoreTable` after a reset. */
  saveTable(): Uint8Array {
    return new Uint8Array(this.#table.buffer).slice();
  }

  restoreTable(saved: Uint8Array): void {
    new Uint8Array(this.#table.buffer).set(saved);
  }

  #setPending(vector: number, pending: boolean): void {
    const byte = vector >>> 3;
    const bit = 1 << (vector % 8);
    const held = this.#pending.getUint8(byte);
    this.#pending.setUint8(byte, pending ? held | bit : held & ~bit);
  }

  get #controlValue(): number {
    return this.#config?.get(this.#at + MESSAGE_CONTROL, 2) ?? 0;
  }
}

const isAligned = (offset: number, width: AccessWidth): boolean =>
  (width === 4 || width === 8) && offset % width === 0;

function readAligned(view: DataView, offset: number, width: AccessWidth): bigint {
  if (!isAligned(offset, width)) return allOnes(width);
  return width === 8 ? view.getBigUint64(offset, true) : BigInt(view.getUint32(offset, true));
}
