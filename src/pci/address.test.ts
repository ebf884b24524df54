// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatPciAddress, parsePciAddress, requesterId } from './address.ts';

describe('a PCI address', () => {
  it('is written as Linux writes it', () => {
    expect(parsePciAddress('0000:00:02.0')).toEqual({ domain: 0, bus: 0, device: 2, function: 0 });
    expect(parsePciAddress('00:1f.7')).toEqual({ domain: 0, bus: 0, device: 31, function: 7 });
    expect(formatPciAddress({ domain: 1, bus: 0xab, device: 31, function: 7 })).toBe(
      '0001:ab:1f.7',
    );
  });

  it('reads back whatever it writes, and has a requester id of bus, device and function', () => {
    const address = fc.record({
      domain: fc.nat(0xffff),
      bus: fc.nat(0xff),
      device: fc.nat(31),
      function: fc.nat(7),
    });
    fc.assert(
      fc.property(address, (one) => {
        expect(parsePciAddress(formatPciAddress(one))).toEqual(one);
        expect(requesterId(one)).toBe(one.bus * 256 + one.device * 8 + one.function);
      }),
    );
  });

  it.each(['', '2.0', '00:02', '00:20.0', '00:02.8', '0:00:02.0', '0000:00:02.0 ', 'x000:00:02.0'])(
    'is not %j',
    (text) => {
      expect(parsePciAddress(text)).toBeUndefined();
    },
  );
});
