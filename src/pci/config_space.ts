// SPDX-License-Identifier: Apache-2.0
import type { Register, RegisterField } from '../base/register.ts';

/** Bytes of an extended configuration space, and of the part that every function of conventional PCI has. */
export const CONFIG_SPACE_BYTES = 4096;
export const CONVENTIONAL_CONFIG_BYTES = 256;

/** How wide one access to config space or to a register can be there, in bytes. */
export type ConfigWidth = 1 | 2 | 4;

/** One register of a config space: where it is, what it holds after a reset, and what software can do to its bits. */
export interface ConfigRegister {
  /** Byte offset; relative to its beginning in the table of a capability. */
  readonly at: number;
  readonly bytes: ConfigWidth;
  readonly register: Register<Readonly<Record<string, RegisterField>>>;
  /** What a reset leaves; 0 unless told. */
  readonly value?: number;
}

/**
 * The config space of a function: bytes, and which bits software can change. Software comes in by `read` and `write`, which
 * obey the masks of the registers; the model by `get` and `set`, which do not. What no register covers reads 0 and stays.
 */
export class ConfigSpace {
  readonly #bytes = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #initial = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #writable = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #clearable = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #registers: ConfigRegister[] = [];
  /** For the function: software has written bytes `first` to `last`. Not called for `set`, `restore` and `reset`. */
  onWrite: ((first: number, last: number) => void) | undefined = undefined;

  /** The registers there are, with their offsets, in the order in which they were added: for dumps and decoding. */
  get registers(): readonly ConfigRegister[] {
    return this.#registers;
  }

  /** Adds registers, each at `base` plus its own offset. RangeError where they overlap or lie outside: the table is wrong. */
  add(registers: readonly ConfigRegister[], base = 0): void {
    for (const one of registers) {
      const at = base + one.at;
      const { name } = one.register;
      if (at + one.bytes > CONFIG_SPACE_BYTES) throw new RangeError(`${name} ends beyond 4096`);
      const other = this.#registers.find((r) => at < r.at + r.bytes && r.at < at + one.bytes);
      if (other)
        throw new RangeError(`${name} at 0x${at.toString(16)}: ${other.register.name} is there`);
      this.#registers.push({ ...one, at });
      this.#store(this.#initial, at, one.bytes, one.value ?? 0);
      this.#store(this.#bytes, at, one.bytes, one.value ?? 0);
      this.#store(this.#writable, at, one.bytes, one.register.mask('RW').lo);
      this.#store(this.#clearable, at, one.bytes, one.register.mask('RW1C').lo);
    }
  }

  /**
   * What software reads: little endian, any offset. Beyond the end all ones, as where no function answers.
   * @param offset in bytes
   */
  read(offset: number, width: ConfigWidth): number {
    if (!(offset >= 0 && offset + width <= CONFIG_SPACE_BYTES)) return 2 ** (8 * width) - 1;
    return this.get(offset, width);
  }

  /** What software writes; bits that are not writable keep their value, and beyond the end nothing happens. */
  write(offset: number, width: ConfigWidth, value: number): void {
    if (!(offset >= 0 && offset + width <= CONFIG_SPACE_BYTES)) return;
    for (let i = 0; i < width; i++) {
      const at = offset + i;
      const written = (value >>> (8 * i)) & 0xff;
      const writable = this.#writable[at] ?? 0;
      const cleared = written & (this.#clearable[at] ?? 0);
      this.#bytes[at] = ((this.#bytes[at] ?? 0) & ~writable & ~cleared) | (written & writable);
    }
    this.onWrite?.(offset, offset + width - 1);
  }

  /** The bits of `width` bytes that software can change by writing them, and those that it clears by writing 1. */
  masks(offset: number, width: ConfigWidth): { readonly rw: number; readonly rw1c: number } {
    const of = (bytes: Uint8Array): number => {
      let mask = 0;
      for (let i = 0; i < width; i++) mask |= (bytes[offset + i] ?? 0) << (8 * i);
      return mask >>> 0;
    };
    return { rw: of(this.#writable), rw1c: of(this.#clearable) };
  }

  /** The model's own view: what is there. RangeError beyond the end. */
  get(offset: number, width: ConfigWidth): number {
    if (width === 4) return this.#view.getUint32(offset, true);
    return width === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint8(offset);
  }

  /** The model changes what is there, whatever software may. */
  set(offset: number, width: ConfigWidth, value: number): void {
    this.#store(this.#bytes, offset, width, value);
  }

  /** A copy of all bytes: for dumps, and for `restore`. */
  save(): Uint8Array {
    return this.#bytes.slice();
  }

  /** Puts back the writable bits of a `save`, as software that writes every register again. */
  restore(saved: Uint8Array): void {
    for (let at = 0; at < CONFIG_SPACE_BYTES; at++) {
      const writable = this.#writable[at] ?? 0;
      if (writable === 0) continue;
      this.#bytes[at] = ((this.#bytes[at] ?? 0) & ~writable) | ((saved[at] ?? 0) & writable);
    }
  }

  /** Every register as after power-on. */
  reset(): void {
    this.#bytes.set(this.#initial);
  }

  #store(bytes: Uint8Array, offset: number, width: ConfigWidth, value: number): void {
    for (let i = 0; i < width; i++) bytes[offset + i] = (value >>> (8 * i)) & 0xff;
  }
}
