// SPDX-License-Identifier: Apache-2.0
import { field, register } from '../base/register.ts';
import { toBigint } from '../base/u64.ts';
import { type Capability, CapabilityId } from './capability.ts';
import type { ConfigRegister, ConfigSpace } from './config_space.ts';
import { plain } from './header.ts';
import type { InterruptMessage } from './interrupts.ts';

/** Source of the layout: Linux include/uapi/linux/pci_regs.h (PCI_MSI_*). */
const MESSAGE_CONTROL = 0x02;
const MESSAGE_ADDRESS = 0x04;

export interface MsiOptions {
  /** How many it can have: 1, 2, 4, 8, 16 or 32. Default 1. */
  readonly vectors?: number;
  /** The address can be above 4 GiB. Default true. */
  readonly is64?: boolean;
  /** Each vector can be masked. Default false. */
  readonly maskable?: boolean;
}

export interface SentMsi {
  readonly vector: number;
  readonly message: InterruptMessage;
}

/** Message Signaled Interrupts. */
export class MsiCapability implements Capability {
  readonly name = 'MSI';
  readonly id = CapabilityId.MSI;
  readonly vectors: number;
  readonly is64: boolean;
  readonly maskable: boolean;
  readonly bytes: number;
  readonly registers: readonly ConfigRegister[];
  readonly #dataAt: number;
  readonly #maskAt: number;
  readonly #control = register('MSI Message Control', {
    MsiEnable: field(0, 0),
    MultipleMessageCapable: field(3, 1, { access: 'RO' }),
    MultipleMessageEnable: field(6, 4),
    Address64Capable: field(7, 7, { access: 'RO' }),
    PerVectorMaskingCapable: field(8, 8, { access: 'RO' }),
  });
  #config: ConfigSpace | undefined = undefined;
  #at = 0;

  constructor(options: MsiOptions = {}) {
    const { vectors = 1, is64 = true, maskable = false } = options;
    const lg2 = Math.log2(vectors);
    if (!Number.isInteger(lg2) || lg2 < 0 || lg2 > 5) {
      throw new RangeError(`MSI with ${vectors} vectors: it is 1, 2, 4, 8, 16 or 32`);
    }
    this.vectors = vectors;
    this.is64 = is64;
    this.maskable = maskable;
    this.#dataAt = is64 ? 0x0c : 0x08;
    this.#maskAt = this.#dataAt + 4;
    this.bytes = maskable ? this.#maskAt + 8 : this.#dataAt + 2;
    const value = (lg2 << 1) | (is64 ? 1 << 7 : 0) | (maskable ? 1 << 8 : 0);
    const address = register('MSI Message Address', { MessageAddress: field(31, 2) });
    const upper = plain('MSI Message Upper Address', 32, 'RW');
    const used = { VectorMask: field(vectors - 1, 0) };
    const pending = { VectorPending: field(vectors - 1, 0, { access: 'RO' }) };
    this.registers = [
      { at: MESSAGE_CONTROL, bytes: 2, value, register: this.#control },
      { at: MESSAGE_ADDRESS, bytes: 4, register: address },
      ...(is64 ? [{ at: MESSAGE_ADDRESS + 4, bytes: 4 as const, register: upper }] : []),
      { at: this.#dataAt, bytes: 2, register: plain('MSI Message Data', 16, 'RW') },
      ...(maskable
        ? [
            { at: this.#maskAt, bytes: 4 as const, register: register('MSI Mask Bits', used) },
            {
              at: this.#maskAt + 4,
              bytes: 4 as const,
              register: register('MSI Pending Bits', pending),
            },
          ]
        : []),
    ];
  }

  /** Its offset in config space. */
  get at(): number {
    return this.#at;
  }

  place(config: ConfigSpace, at: number): void {
    this.#config = config;
    this.#at = at;
  }

  get enabled(): boolean {
    return this.#control.fields.MsiEnable.get(this.#get(MESSAGE_CONTROL, 2)) === 1;
  }

  /** How many vectors software gave it, which can be fewer than it has. */
  get enabledVectors(): number {
    const lg2 = this.#control.fields.MultipleMessageEnable.get(this.#get(MESSAGE_CONTROL, 2));
    return Math.min(2 ** lg2, this.vectors);
  }

  /** For `Interrupts`: the message to send now, or undefined while its vector is masked, when it becomes pending. */
  send(vector: number): SentMsi | undefined {
    // With fewer vectors than it wants, a function shares them.
    const used = vector % this.enabledVectors;
    if (!this.#isMasked(used)) return { vector: used, message: this.#message(used) };
    this.#setPending(this.#get(this.#maskAt + 4, 4) | (1 << used));
    return undefined;
  }

  /** For `Interrupts`: those that are pending and not masked any more. */
  takePending(): SentMsi[] {
    if (!this.maskable) return [];
    const pending = this.#get(this.#maskAt + 4, 4);
    if (pending === 0) return [];
    const due = pending & ~this.#get(this.#maskAt, 4);
    this.#setPending(pending & ~due);
    return Array.from({ length: this.vectors }, (_, vector) => vector)
      .filter((vector) => ((due >>> vector) & 1) === 1)
      .map((vector) => ({ vector, message: this.#message(vector) }));
  }

  #isMasked(vector: number): boolean {
    return this.maskable && ((this.#get(this.#maskAt, 4) >>> vector) & 1) === 1;
  }

  #setPending(value: number): void {
    this.#config?.set(this.#at + this.#maskAt + 4, 4, value >>> 0);
  }

  #message(vector: number): InterruptMessage {
    const address = toBigint(
      this.#get(MESSAGE_ADDRESS, 4),
      this.is64 ? this.#get(MESSAGE_ADDRESS + 4, 4) : 0,
    );
    // The low bits of the data are the function's to say which.
    const data = (this.#get(this.#dataAt, 2) & ~(this.enabledVectors - 1)) | vector;
    return { address, data: data >>> 0 };
  }

  #get(offset: number, width: 1 | 2 | 4): number {
    return this.#config?.get(this.#at + offset, width) ?? 0;
  }
}
