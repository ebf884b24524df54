// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import * as c from '../../src/abi/struct.ts';
import { enumText, flagsText, isZero, valueText } from './value.ts';

const mapFlags = { MAP_FIXED: 1, MAP_WRITEABLE: 2, MAP_READABLE: 4 };

describe('flags', () => {
  it('are joined by name in the order of the table', () => {
    expect(flagsText(5, mapFlags)).toBe('MAP_FIXED|MAP_READABLE');
  });

  it('show bits without a name in hexadecimal', () => {
    expect(flagsText(0x21, mapFlags)).toBe('MAP_FIXED|0x20');
    expect(flagsText(0x20n, mapFlags)).toBe('0x20 /* MAP_??? */');
  });

  it('are 0 when none is set, or the name that stands for none', () => {
    expect(flagsText(0, mapFlags)).toBe('0');
    expect(flagsText(0, { X_NONE: 0, X_A: 1 })).toBe('X_NONE');
    expect(flagsText(1, { X_NONE: 0, X_A: 1 })).toBe('X_A');
  });

  it('reach bit 31 without a sign', () => {
    expect(flagsText(0x80000000, { ...mapFlags, TOP: 0x80000000 })).toBe('TOP');
    expect(flagsText(0x80000001, mapFlags)).toBe('MAP_FIXED|0x80000000');
  });

  it('of 64 bits keep their high half', () => {
    expect(flagsText(0x1_0000_0002n, mapFlags)).toBe('MAP_WRITEABLE|0x100000000');
  });
});

describe('enumerators', () => {
  const names = { OPTION_RLIMIT_MODE: 0, OPTION_HUGE_PAGES: 1 };

  it('are shown by name', () => expect(enumText(1, names)).toBe('OPTION_HUGE_PAGES'));

  it('that nobody knows are shown with the family they are missing from', () => {
    expect(enumText(7, names)).toBe('0x7 /* OPTION_??? */');
  });

  it('have no family where the names share no prefix', () => {
    expect(enumText(7, { A_ONE: 0, B_TWO: 1 })).toBe('0x7');
  });
});

describe('values', () => {
  it.each([
    ['hexadecimal', c.hex(c.u64), 0x1800n, '0x1800'],
    ['the whole of 64 bits', c.hex(c.u64), 0xffff_ffff_ffff_ffffn, '0xffffffffffffffff'],
    ['hexadecimal zero', c.hex(c.u64), 0n, '0'],
    ['a pointer', c.pointer, 0x7f00_0000_1000n, '0x7f0000001000'],
    ['a null pointer', c.pointer, 0n, 'NULL'],
    ['a descriptor', c.fd, 3, '3'],
    ['a descriptor of -1', c.fd, 0xffffffff, '-1'],
    ['an id', c.id, 0xffffffff, '4294967295'],
    ['a signed number', c.s32, -1, '-1'],
    ['an array', c.array(c.u8, 3), [1, 0, 255], '[1, 0, 255]'],
  ])('show %s', (_, type, value, text) => {
    expect(valueText(type as c.CType<unknown>, value)).toBe(text);
  });

  it('are zero when every number in them is', () => {
    expect(isZero([0, 0])).toBe(true);
    expect(isZero([0, 1])).toBe(false);
    expect(isZero(0n)).toBe(true);
  });
});
