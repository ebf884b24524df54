// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { field, register } from '../base/register.ts';
import { ConfigSpace, type ConfigWidth } from './config_space.ts';

/** Four bits of each kind, by hand: RW 3:0, RO 7:4, RW1C 11:8, nothing above. */
const mixed = register('Mixed', {
  A: field(3, 0),
  B: field(7, 4, { access: 'RO' }),
  C: field(11, 8, { access: 'RW1C' }),
});

function make(value = 0x0ff0) {
  const config = new ConfigSpace();
  config.add([{ at: 0x10, bytes: 4, register: mixed, value }]);
  return config;
}

describe('a config space', () => {
  it('replaces RW bits, keeps RO bits, clears RW1C bits where ones are written, and has no others', () => {
    const config = make();
    config.write(0x10, 4, 0xffff_f505);
    expect(config.read(0x10, 4)).toBe(0x0af5);
    config.write(0x10, 4, 0xa00);
    expect(config.read(0x10, 4)).toBe(0x00f0);
  });

  it('obeys the same law for every value held and written', () => {
    fc.assert(
      fc.property(fc.nat(0xfff), fc.nat(0xffff), (held, written) => {
        const config = make();
        config.set(0x10, 4, held);
        config.write(0x10, 4, written);
        const kept = (held & 0x0f0) | (held & 0xf00 & ~written);
        expect(config.read(0x10, 4)).toBe(kept | (written & 0x00f));
      }),
    );
  });

  it('does the same whether a value is written at once or byte by byte', () => {
    const widths: readonly ConfigWidth[] = [1, 2, 4];
    fc.assert(
      fc.property(
        fc.nat(0xfff),
        fc.nat(0xffff),
        fc.constantFrom(...widths),
        (held, value, width) => {
          const [whole, parts] = [make(held), make(held)];
          whole.write(0x10, 4, value);
          for (let at = 0; at < 4; at += width) {
            parts.write(0x10 + at, width, (value >>> (8 * at)) & (2 ** (8 * width) - 1));
          }
          expect(parts.read(0x10, 4)).toBe(whole.read(0x10, 4));
        },
      ),
    );
  });

  it('reads 0 where no register is, keeps 0 there, and reads ones beyond its end', () => {
    const config = make();
    config.write(0x40, 4, 0xffff_ffff);
    expect(config.read(0x40, 4)).toBe(0);
    expect(config.read(4094, 4)).toBe(0xffff_ffff);
    expect(config.read(4096, 2)).toBe(0xffff);
    expect(() => config.write(4096, 1, 5)).not.toThrow();
  });

  it('goes back to its values at a reset', () => {
    const config = make(0x0ff0);
    config.write(0x10, 4, 0xfff);
    config.reset();
    expect(config.read(0x10, 4)).toBe(0x0ff0);
  });

  it('restores what software could have written, and nothing else', () => {
    const config = make(0x0ff3);
    const saved = config.save();
    config.set(0x10, 4, 0x0005);
    config.restore(saved);
    expect(config.read(0x10, 4)).toBe(0x0003);
  });

  it('refuses registers that overlap: the table would be wrong', () => {
    expect(() => make().add([{ at: 0x12, bytes: 1, register: mixed }])).toThrow('Mixed at 0x12');
  });
});
