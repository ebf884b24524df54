// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { field, register } from './register.ts';

/** An invented register that has everything. */
const CTRL = register(
  'CTRL_REG',
  {
    ENABLE: field(0, 0),
    ERROR: field(1, 1, { access: 'RW1C', section: '§1.2' }),
    BUSY: field(2, 2, { access: 'RO' }),
    START: field(3, 3, { access: 'WO' }),
    ADDRESS: field(51, 12),
    TAG: field(63, 56, { access: 'RW1C' }),
  },
  { bits: 64 },
);

describe('a field', () => {
  it('is read and written across both lanes', () => {
    const { ADDRESS } = CTRL.fields;
    expect(ADDRESS.get(0xabcd_efff, 0xfff1_2345)).toBe(0x12345abcde);
    const lo = ADDRESS.setLo(0xffff_ffff, 0x12345abcde);
    const hi = ADDRESS.setHi(0xffff_ffff, 0x12345abcde);
    expect([lo, hi]).toEqual([0xabcd_efff, 0xfff1_2345]);
    expect([CTRL.fields.TAG.setLo(7, 0xa5), CTRL.fields.TAG.setHi(7, 0xa5)]).toEqual([
      7, 0xa500_0007,
    ]);
  });

  it('refuses a value that does not fit', () => {
    expect(() => CTRL.fields.ENABLE.setLo(0, 2)).toThrow('2 does not fit the 1 bit(s) 0:0');
    expect(() => CTRL.fields.ADDRESS.setHi(0, 2 ** 40)).toThrow('does not fit the 40 bit(s) 51:12');
    expect(() => CTRL.fields.ADDRESS.setHi(0, -1)).toThrow('does not fit');
  });

  it('of 64 bits is read as a number as long as that is exact', () => {
    const whole = field(63, 0);
    expect(whole.get(5, 1)).toBe(2 ** 32 + 5);
    expect(() => whole.get(0, 0x8000_0000)).toThrow('keep it as lanes');
  });
});

describe('a write by software', () => {
  it('replaces RW, clears RW1C where 1 was written, and keeps the rest', () => {
    // Held: ERROR and BUSY. Written: ENABLE, START and every reserved bit.
    expect(CTRL.writeLo(0b0110, 0x0000_0ff9)).toBe(0b0111);
    expect(CTRL.writeLo(0b0110, 0b0010)).toBe(0b0100);
    expect(CTRL.writeHi(0xff00_0000, 0x0f0f_ffff)).toBe(0xf00f_ffff);
  });

  it('leaves the high lane of a 32-bit register alone', () => {
    expect(register('R', { ALL: field(31, 0) }).writeHi(0, 0xffff_ffff)).toBe(0);
  });
});

describe('masks', () => {
  it('count bits without a field as reserved', () => {
    expect(CTRL.mask('RW')).toEqual({ lo: 0xffff_f001, hi: 0x000f_ffff });
    expect(CTRL.mask('RSVD')).toEqual({ lo: 0x0000_0ff0, hi: 0x00f0_0000 });
    expect(register('R', { A: field(0, 0) }).mask('RSVD')).toEqual({ lo: 0xffff_fffe, hi: 0 });
  });
});

describe('dumps', () => {
  it('show the fields that are not 0, highest first', () => {
    expect(CTRL.show(0x0000_1003, 0xa500_0000)).toBe(
      'CTRL_REG 0xa500000000001003 TAG=0xa5 ADDRESS=0x1 ERROR ENABLE',
    );
    expect(register('R', { A: field(0, 0) }).show(0)).toBe('R 0x00000000');
  });
});

describe('a wrong table is refused', () => {
  it('for fields that share bits, lie outside or are reversed', () => {
    expect(() => register('R', { A: field(4, 0), B: field(7, 4) })).toThrow('R.B shares bits');
    expect(() => register('R', { A: field(32, 0) })).toThrow('R.A: bit 32 of a 32-bit register');
    expect(() => field(0, 4)).toThrow('the order is (msb, lsb)');
  });
});
