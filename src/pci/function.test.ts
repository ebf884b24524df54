// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allOnes, type BarHandler, type BarOptions } from './bar.ts';
import { FakePath } from './fake_path.ts';
import { type FunctionOptions, PciFunction } from './function.ts';
import type { InterruptSink } from './interrupts.ts';
import { resetFunction } from './reset.ts';

const COMMAND = 0x04;
const STATUS = 0x06;
const IDENTITY = {
  vendorId: 0x1234,
  deviceId: 0x5678,
  revisionId: 9,
  classCode: 0x01_0802,
  subsystemVendorId: 0xaaaa,
  subsystemId: 0xbbbb,
};
const address = { domain: 0, bus: 3, device: 4, function: 1 };

/** Memory of 256 bytes, which any width reads and writes. */
function memory(): BarHandler {
  const view = new DataView(new ArrayBuffer(256));
  return {
    read: (offset, width) => {
      let value = 0n;
      for (let i = width - 1; i >= 0; i--)
        value = (value << 8n) | BigInt(view.getUint8(offset + i));
      return value;
    },
    write: (offset, width, value) => {
      for (let i = 0; i < width; i++)
        view.setUint8(offset + i, Number((value >> BigInt(8 * i)) & 255n));
    },
  };
}

const bar = (options: Partial<BarOptions> = {}): BarOptions => {
  return { index: 0, size: 4096, handler: memory(), ...options };
};

function make(options: Partial<FunctionOptions> = {}) {
  const sent: string[] = [];
  const sink: InterruptSink = {
    intx: (asserted) => sent.push(asserted ? 'INTx on' : 'INTx off'),
    msi: (vector, message) => sent.push(`MSI ${vector} ${text(message)}`),
    msix: (vector, message) => sent.push(`MSI-X ${vector} ${text(message)}`),
  };
  const fn = new PciFunction({ address, identity: IDENTITY, ...options }, new FakePath());
  fn.interrupts.sink = sink;
  return { fn, config: fn.config, sent };
}

const text = ({ address: to, data }: { address: bigint; data: number }): string =>
  `0x${data.toString(16)} to 0x${to.toString(16)}`;

/** Follows the chain as an operating system does: id at each offset. */
function chain(fn: PciFunction): [number, number][] {
  const found: [number, number][] = [];
  for (let at = fn.config.read(0x34, 1); at !== 0; at = fn.config.read(at + 1, 1)) {
    found.push([at, fn.config.read(at, 1)]);
  }
  return found;
}

describe('a header', () => {
  it('says what the function is, and cannot be changed', () => {
    const { fn, config } = make({ interruptPin: 2 });
    expect(fn.bdf).toBe('0000:03:04.1');
    expect(fn.requesterId).toBe(0x0321);
    for (let at = 0; at < 64; at += 4) {
      if (at !== COMMAND && at !== 0x0c && at !== 0x3c) config.write(at, 4, 0xffff_ffff);
    }
    expect(config.read(0x00, 4)).toBe(0x5678_1234);
    expect(config.read(0x08, 4)).toBe(0x0108_0209);
    expect(config.read(0x2c, 4)).toBe(0xbbbb_aaaa);
    expect(config.read(0x0e, 1)).toBe(0);
    expect(config.read(0x3d, 1)).toBe(2);
  });

  it('has the writable bits of Command that an endpoint without I/O space has', () => {
    const { config } = make();
    config.write(COMMAND, 2, 0xffff);
    expect(config.read(COMMAND, 2)).toBe(0x0546);
  });

  it('has no list of capabilities where there are none', () => {
    const { fn, config } = make();
    expect(config.read(STATUS, 2) & 0x10).toBe(0);
    expect(chain(fn)).toEqual([]);
  });

  it('chains its capabilities at multiples of 4, the last one pointing nowhere', () => {
    const { fn, config } = make({
      msi: { vectors: 4, maskable: true },
      msix: { vectors: 3, bar: 0, tableOffset: 0, pbaOffset: 0x800 },
      express: {},
      bars: [bar()],
    });
    expect(config.read(STATUS, 2) & 0x10).toBe(0x10);
    expect(chain(fn)).toEqual([
      [0x40, 0x05],
      [0x58, 0x11],
      [0x64, 0x10],
    ]);
    expect(config.read(0x42, 2)).toBe(0x0184); // 4 vectors, 64 bits, maskable
    expect(config.read(0x5a, 2)).toBe(2); // 3 entries
    expect(config.read(0x66, 2)).toBe(0x92); // version 2, integrated endpoint
    expect(config.read(0x68, 4) & 0x1000_0000).toBe(0x1000_0000); // FLR
  });
});

describe('a BAR', () => {
  it('of any size tells it: ones written leave the bits below it, and its kind', () => {
    const lg2 = fc.integer({ min: 4, max: 31 });
    fc.assert(
      fc.property(lg2, fc.boolean(), fc.boolean(), (bits, is64, prefetchable) => {
        const size = 2 ** bits;
        const { config, fn } = make({ bars: [bar({ size, bits: is64 ? 64 : 32, prefetchable })] });
        const kind = (is64 ? 4 : 0) + (prefetchable ? 8 : 0);
        config.write(0x10, 4, 0xffff_ffff);
        expect(config.read(0x10, 4)).toBe(2 ** 32 - size + kind);
        config.write(0x14, 4, 0xffff_ffff);
        expect(config.read(0x14, 4)).toBe(is64 ? 0xffff_ffff : 0);
        config.write(0x10, 4, 0);
        config.write(0x14, 4, 0);
        expect(fn.barAddress(0)).toBe(0n);
      }),
    );
  });

  it('above 4 GiB has its size in the upper register', () => {
    const { config, fn } = make({ bars: [bar({ size: 2 ** 33, bits: 64 })] });
    config.write(0x10, 4, 0xffff_ffff);
    config.write(0x14, 4, 0xffff_ffff);
    expect(config.read(0x10, 4)).toBe(4);
    expect(config.read(0x14, 4)).toBe(0xffff_fffe);
    fn.placeBar(0, 0x12_0000_0000n);
    expect(fn.barAddress(0)).toBe(0x12_0000_0000n);
  });

  it('answers only while Memory Space Enable is set, and only inside', () => {
    const { config, fn } = make({ bars: [bar({ size: 256 })] });
    const window = fn.bars[0];
    window?.write(0, 4, 1n);
    expect(window?.read(0, 4)).toBe(0xffff_ffffn);
    config.write(COMMAND, 2, 2);
    expect(window?.read(0, 4)).toBe(0n);
    window?.write(0, 4, 0x1122_3344n);
    expect(window?.read(0, 4)).toBe(0x1122_3344n);
    expect(window?.read(252, 8)).toBe(allOnes(8));
    expect(window?.read(256, 1)).toBe(255n);
    expect(() => window?.write(254, 4, 1n)).not.toThrow();
  });

  it.each([
    [bar({ size: 24 }), 'a size of 24 bytes'],
    [bar({ size: 8 }), 'a size of 8 bytes'],
    [bar({ size: 2 ** 32 }), 'a size of 4294967296'],
    [bar({ index: 5, bits: 64 }), 'no room for 64 bits'],
    [bar({ index: 6 }), 'no room'],
  ])('that cannot be is refused', (options, why) => {
    expect(() => make({ bars: [options] })).toThrow(why);
  });
});

describe('the line', () => {
  it('goes up and down once, shows in Status even while disabled, and follows Interrupt Disable', () => {
    const { fn, config, sent } = make({ interruptPin: 1 });
    fn.interrupts.setLevel(true);
    fn.interrupts.setLevel(true);
    expect(sent).toEqual(['INTx on']);
    expect(config.read(STATUS, 2) & 8).toBe(8);
    config.write(COMMAND, 2, 0x400);
    expect(sent).toEqual(['INTx on', 'INTx off']);
    expect(config.read(STATUS, 2) & 8).toBe(8);
    config.write(COMMAND, 2, 0);
    fn.interrupts.setLevel(false);
    expect(sent).toEqual(['INTx on', 'INTx off', 'INTx on', 'INTx off']);
    expect(config.read(STATUS, 2) & 8).toBe(0);
  });

  it('is quiet while messages are enabled', () => {
    const { fn, config, sent } = make({ interruptPin: 1, msi: {} });
    fn.interrupts.setLevel(true);
    config.write(0x42, 2, 1);
    expect(sent).toEqual(['INTx on', 'INTx off']);
    expect(fn.interrupts.usesMessages).toBe(true);
  });
});

describe('MSI', () => {
  function start() {
    const made = make({ msi: { vectors: 4, maskable: true } });
    made.config.write(COMMAND, 2, 4);
    made.config.write(0x44, 4, 0xfee0_1003);
    made.config.write(0x48, 4, 2);
    made.config.write(0x4c, 2, 0x4043);
    return made;
  }

  it('sends what software wrote, the vector in the low bits of the data', () => {
    const { fn, config, sent } = start();
    fn.interrupts.send(0);
    expect(sent).toEqual([]); // not enabled
    config.write(0x42, 2, 0x21); // enabled, 4 vectors
    fn.interrupts.send(0);
    fn.interrupts.send(3);
    expect(sent).toEqual(['MSI 0 0x4040 to 0x2fee01000', 'MSI 3 0x4043 to 0x2fee01000']);
  });

  it('shares vectors where software gave fewer', () => {
    const { fn, config, sent } = start();
    config.write(0x42, 2, 1);
    fn.interrupts.send(3);
    // One vector: the data goes out as it was written, but for bits that stand for the vector.
    expect(sent).toEqual(['MSI 0 0x4043 to 0x2fee01000']);
  });

  it('keeps a masked one pending, and sends it once when the mask goes', () => {
    const { fn, config, sent } = start();
    config.write(0x42, 2, 0x21);
    config.write(0x50, 4, 0xffff_ffff);
    expect(config.read(0x50, 4)).toBe(0b1111);
    fn.interrupts.send(2);
    fn.interrupts.send(2);
    expect(sent).toEqual([]);
    expect(config.read(0x54, 4)).toBe(0b0100);
    config.write(0x54, 4, 0xffff_ffff); // read-only
    expect(config.read(0x54, 4)).toBe(0b0100);
    config.write(0x50, 4, 0);
    expect(sent).toEqual(['MSI 2 0x4042 to 0x2fee01000']);
    expect(config.read(0x54, 4)).toBe(0);
  });

  it('is lost while the function is no bus master', () => {
    const { fn, config, sent } = start();
    config.write(0x42, 2, 1);
    config.write(COMMAND, 2, 0);
    fn.interrupts.send(0);
    expect(sent).toEqual([]);
  });
});

describe('MSI-X', () => {
  function start() {
    const made = make({
      msix: { vectors: 3, bar: 0, tableOffset: 0x40, pbaOffset: 0x80 },
      bars: [bar({ size: 256 })],
    });
    made.config.write(COMMAND, 2, 6);
    const window = made.fn.bars[0];
    if (!window) throw new Error('no BAR');
    const entry = (vector: number, masked: bigint) => {
      window.write(0x40 + vector * 16, 8, 0x1_fee0_0000n + BigInt(vector) * 0x1000n);
      window.write(0x48 + vector * 16, 4, BigInt(0x30 + vector));
      window.write(0x4c + vector * 16, 4, masked);
    };
    return {
      ...made,
      window,
      entry,
      enable: (value = 0x8000) => made.config.write(0x42, 2, value),
    };
  }

  it('lies over its part of the BAR only, each entry masked after a reset', () => {
    const { window } = start();
    expect(window.read(0x4c, 4)).toBe(1n);
    expect(window.read(0x6c, 4)).toBe(1n);
    window.write(0x70, 4, 5n); // behind the table: the model's
    expect(window.read(0x70, 4)).toBe(5n);
    expect(window.read(0x41, 1)).toBe(255n); // the table answers 4 and 8 bytes
  });

  it('sends the message of the entry', () => {
    const { fn, entry, enable, sent } = start();
    entry(2, 0n);
    fn.interrupts.send(2);
    enable();
    fn.interrupts.send(2);
    expect(sent).toEqual(['MSI-X 2 0x32 to 0x1fee02000']);
  });

  it('keeps a masked one pending until its entry or the function is unmasked', () => {
    const { fn, entry, enable, sent, window } = start();
    entry(0, 1n);
    entry(1, 0n);
    enable(0xc000); // function mask
    fn.interrupts.send(0);
    fn.interrupts.send(1);
    expect(window.read(0x80, 8)).toBe(0b11n);
    window.write(0x80, 8, 0n); // read-only
    enable();
    expect(sent).toEqual(['MSI-X 1 0x31 to 0x1fee01000']);
    expect(window.read(0x80, 8)).toBe(0b01n);
    entry(0, 0n);
    expect(sent).toEqual(['MSI-X 1 0x31 to 0x1fee01000', 'MSI-X 0 0x30 to 0x1fee00000']);
    expect(window.read(0x80, 8)).toBe(0n);
  });

  it('in a BAR that is not there is refused', () => {
    const msix = { vectors: 1, bar: 2, tableOffset: 0, pbaOffset: 0x800 };
    expect(() => make({ msix, bars: [bar()] })).toThrow('BAR 2, which is not there');
  });
});

describe('a reset', () => {
  const shape = (resets: string[]): Partial<FunctionOptions> => ({
    interruptPin: 1,
    express: {},
    msix: { vectors: 1, bar: 0, tableOffset: 0, pbaOffset: 0x80 },
    bars: [bar({ size: 256 })],
    onReset: () => resets.push('reset'),
  });

  it('asked for in Device Control does what it says, and reads 0', () => {
    const resets: string[] = [];
    const { fn, config, sent } = make(shape(resets));
    config.write(COMMAND, 2, 6);
    fn.placeBar(0, 0xc000_0000n);
    fn.interrupts.setLevel(true);
    const express = fn.express?.at ?? 0;
    config.write(express + 8, 2, 0x8000);
    expect(resets).toEqual(['reset']);
    expect(config.read(express + 8, 2)).toBe(0x2810);
    expect(config.read(COMMAND, 2)).toBe(0);
    expect(fn.barAddress(0)).toBe(0n);
    expect(sent).toEqual(['INTx on', 'INTx off']);
  });

  it('by an operating system puts config space and messages back', () => {
    const resets: string[] = [];
    const { fn, config } = make(shape(resets));
    config.write(COMMAND, 2, 6);
    fn.placeBar(0, 0xc000_0000n);
    fn.bars[0]?.write(0, 8, 0x1234_5678n);
    expect(resetFunction(fn)).toBe(0);
    expect(resets).toEqual(['reset']);
    expect(config.read(COMMAND, 2)).toBe(6);
    expect(fn.barAddress(0)).toBe(0xc000_0000n);
    expect(fn.bars[0]?.read(0, 8)).toBe(0x1234_5678n);
  });

  it('of a function that cannot is refused', () => {
    expect(resetFunction(make().fn)).toBe(-25);
    const { fn, config } = make({ express: { functionLevelReset: false } });
    config.write(COMMAND, 2, 4);
    config.write((fn.express?.at ?? 0) + 8, 2, 0x8000);
    expect(resetFunction(fn)).toBe(-25);
    expect(config.read(COMMAND, 2)).toBe(4);
  });
});
