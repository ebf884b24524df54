// SPDX-License-Identifier: Apache-2.0
/**
 * Registers as tables: `register('GSTS_REG', { TES: field(31, 31, { access: 'RO' }) }, { bits: 32 })`. One literal feeds
 * masks, reading and writing of fields, what a write does, and dumps. Values are (lo, hi) lanes; hi is 0 for 32 bits.
 */
import { genmask } from './bits.ts';
import { hiOfNumber, loOfNumber, shiftLeftHi, shiftLeftLo } from './u64.ts';
import { shiftRightHi, shiftRightLo, toBigint, toNumber } from './u64.ts';

/**
 * What software may do: RW reads back what was written; RO is set by hardware and keeps its value; RW1C is set by
 * hardware and cleared by writing 1; WO reads as 0 and is for the model to act on; RSVD reads 0 and ignores writes.
 */
export type Access = 'RW' | 'RO' | 'RW1C' | 'WO' | 'RSVD';

export interface FieldOptions {
  /** RW unless told. */
  readonly access?: Access;
  /** Where the specification defines it: `VTD-4.1 §11.4.4`. */
  readonly section?: string;
}

/** Bits `lsb` to `msb`, both inclusive, of a register. */
export class RegisterField {
  readonly msb: number;
  readonly lsb: number;
  readonly access: Access;
  readonly section: string | undefined;
  /** The field's bits in each lane of the register. */
  readonly maskLo: number;
  readonly maskHi: number;

  constructor(msb: number, lsb: number, options: FieldOptions) {
    if (!(lsb >= 0 && lsb <= msb && msb <= 63)) {
      throw new RangeError(`field(${msb}, ${lsb}): the order is (msb, lsb), within 63..0`);
    }
    this.msb = msb;
    this.lsb = lsb;
    this.access = options.access ?? 'RW';
    this.section = options.section;
    this.maskLo = lsb < 32 ? genmask(Math.min(msb, 31), lsb) : 0;
    this.maskHi = msb >= 32 ? genmask(msb - 32, Math.max(lsb, 32) - 32) : 0;
  }

  get width(): number {
    return this.msb - this.lsb + 1;
  }

  /** The field moved down to bit 0. RangeError where it holds more than 2^53-1. */
  get(lo: number, hi = 0): number {
    const [low, high] = [(lo & this.maskLo) >>> 0, (hi & this.maskHi) >>> 0];
    return toNumber(shiftRightLo(low, high, this.lsb), shiftRightHi(high, this.lsb));
  }

  /** Low lane of the register with the field set to `value`. RangeError where it does not fit the field. */
  setLo(lo: number, value: number): number {
    this.#check(value);
    return ((lo & ~this.maskLo) | shiftLeftLo(loOfNumber(value), this.lsb)) >>> 0;
  }

  setHi(hi: number, value: number): number {
    this.#check(value);
    const shifted = shiftLeftHi(loOfNumber(value), hiOfNumber(value), this.lsb);
    return ((hi & ~this.maskHi) | shifted) >>> 0;
  }

  #check(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0 || value >= 2 ** this.width) {
      throw new RangeError(
        `${value} does not fit the ${this.width} bit(s) ${this.msb}:${this.lsb}`,
      );
    }
  }
}

export function field(msb: number, lsb: number, options: FieldOptions = {}): RegisterField {
  return new RegisterField(msb, lsb, options);
}

type Fields = Readonly<Record<string, RegisterField>>;

export class Register<F extends Fields> {
  readonly name: string;
  readonly bits: 32 | 64;
  readonly fields: F;
  readonly #keep: { readonly lo: number; readonly hi: number };
  readonly #clear: { readonly lo: number; readonly hi: number };

  constructor(name: string, fields: F, bits: 32 | 64) {
    let [lo, hi] = [0, 0];
    for (const [key, { msb, maskLo, maskHi }] of Object.entries(fields)) {
      if (msb >= bits) throw new RangeError(`${name}.${key}: bit ${msb} of a ${bits}-bit register`);
      if ((lo & maskLo) !== 0 || (hi & maskHi) !== 0) {
        throw new RangeError(`${name}.${key} shares bits with a field before it`);
      }
      [lo, hi] = [lo | maskLo, hi | maskHi];
    }
    this.name = name;
    this.bits = bits;
    this.fields = fields;
    this.#clear = this.mask('RW1C');
    const replaced = this.mask('RW');
    this.#keep = { lo: ~replaced.lo, hi: ~replaced.hi };
  }

  /** All bits with one kind of access, as lanes. Bits that no field names count as RSVD. */
  mask(access: Access): { lo: number; hi: number } {
    let [lo, hi, named, namedHi] = [0, 0, 0, 0];
    for (const one of Object.values(this.fields)) {
      [named, namedHi] = [named | one.maskLo, namedHi | one.maskHi];
      if (one.access === access) [lo, hi] = [lo | one.maskLo, hi | one.maskHi];
    }
    if (access === 'RSVD') [lo, hi] = [lo | ~named, this.bits === 64 ? hi | ~namedHi : 0];
    return { lo: lo >>> 0, hi: hi >>> 0 };
  }

  /** What the low lane holds after software wrote `written` over `held`: RW replaced, RW1C cleared, others kept. */
  writeLo(held: number, written: number): number {
    const { lo } = this.#keep;
    return ((held & lo & ~(written & this.#clear.lo)) | (written & ~lo)) >>> 0;
  }

  writeHi(held: number, written: number): number {
    const { hi } = this.#keep;
    return ((held & hi & ~(written & this.#clear.hi)) | (written & ~hi)) >>> 0;
  }

  /** Every field with its value, highest bits first; the bigint is exact for any width. */
  decode(lo: number, hi = 0): { name: string; field: RegisterField; value: bigint }[] {
    return Object.entries(this.fields)
      .map(([name, one]) => {
        const masked = toBigint(lo & one.maskLo, hi & one.maskHi);
        return { name, field: one, value: masked >> BigInt(one.lsb) };
      })
      .toSorted((a, b) => b.field.msb - a.field.msb);
  }

  /** One line for dumps: the value, and the fields that are not 0. */
  show(lo: number, hi = 0): string {
    const whole = toBigint(lo, hi)
      .toString(16)
      .padStart(this.bits / 4, '0');
    const parts = this.decode(lo, hi)
      .filter(({ value }) => value !== 0n)
      .map(({ name, field: one, value }) =>
        one.width === 1 ? name : `${name}=0x${value.toString(16)}`,
      );
    return [`${this.name} 0x${whole}`, ...parts].join(' ');
  }
}

/** RangeError where fields share bits or lie outside: the table is wrong. */
export function register<const F extends Fields>(
  name: string,
  fields: F,
  options: { readonly bits?: 32 | 64 } = {},
): Register<F> {
  return new Register(name, fields, options.bits ?? 32);
}
