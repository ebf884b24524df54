// SPDX-License-Identifier: Apache-2.0
/** The datasheet (QEMU docs/specs/edu.rst) by hand: offsets and values are written out, not imported. */
import { describe, expect, it } from 'vitest';
import { Sim } from '../../../sim/sim.ts';
import type { Body } from '../../../sim/task.ts';
import type { AccessWidth } from '../../bar.ts';
import { dmaText } from '../../dma_text.ts';
import { FakePath } from '../../fake_path.ts';
import { Edu, type EduOptions } from './edu.ts';

const FRAME = 2048;
const IOVA = 0x10_0000;

function start(options: Partial<EduOptions> = {}) {
  const sim = new Sim({ checkLocks: true });
  const path = new FakePath();
  path.bytes.fill(0xa5);
  const address = { domain: 0, bus: 0, device: 2, function: 0 };
  const edu = new Edu(sim, path, { address, ...options });
  const fn = edu.function;
  const told: string[] = [];
  fn.interrupts.sink = {
    intx: (asserted) => told.push(asserted ? 'on' : 'off'),
    msi: (vector) => told.push(`msi ${vector}`),
    msix: () => told.push('msix'),
  };
  fn.config.write(4, 2, 6);
  const bar = fn.bars[0];
  if (!bar) throw new Error('no BAR 0');
  const read = (at: number): number => Number(bar.read(at, 4));
  const write = (at: number, value: number | bigint): void => bar.write(at, 4, BigInt(value));
  const dma = (from: number | bigint, to: number | bigint, count: number, cmd: number): void => {
    bar.write(0x80, 8, BigInt(from));
    bar.write(0x88, 8, BigInt(to));
    bar.write(0x90, 8, BigInt(count));
    write(0x98, cmd);
  };
  return { sim, path, edu, fn, bar, read, write, dma, told };
}

describe('edu on PCI', () => {
  it('is 1234:11e8, with 1 MiB of memory, INTA, MSI and a reset of its own', () => {
    const { fn } = start();
    expect(fn.config.read(0, 4)).toBe(0x11e8_1234);
    expect(fn.config.read(8, 4)).toBe(0x00ff_0010);
    expect(fn.config.read(0x3d, 1)).toBe(1);
    fn.config.write(0x10, 4, 0xffff_ffff);
    expect(fn.config.read(0x10, 4)).toBe(0xfff0_0000);
    expect(fn.config.read(0x34, 1)).toBe(0x40);
    expect(fn.config.read(0x40, 4)).toBe(0x0080_5005);
    expect(fn.canReset).toBe(true);
  });
});

describe('edu, register by register', () => {
  it('0x00 identifies it, and cannot be written', () => {
    const { read, write } = start();
    write(0x00, 0);
    expect(read(0x00)).toBe(0x0100_00ed);
  });

  it('0x04 answers the complement', () => {
    const { read, write } = start();
    for (const value of [0, 1, 0xdead_beef, 0xffff_ffff]) {
      write(0x04, value);
      expect(read(0x04)).toBe(~value >>> 0);
    }
  });

  it.each([
    [0, 1],
    [1, 1],
    [5, 120],
    [12, 479_001_600],
    [13, 1_932_053_504],
    [33, 0x8000_0000],
    [34, 0],
    [0xffff_ffff, 0],
  ])('0x08 computes the factorial of %i modulo 2^32: %i', (n, result) => {
    const { read, write, told } = start();
    write(0x08, n);
    expect(read(0x20) & 1).toBe(0);
    expect(read(0x08)).toBe(result);
    expect(told).toEqual([]);
  });

  it('0x20 has one bit to write, which makes the factorial interrupt with 1', () => {
    const { read, write, told } = start();
    write(0x20, 0xffff_ffff);
    expect(read(0x20)).toBe(0x80);
    write(0x08, 4);
    expect(read(0x08)).toBe(24);
    expect(told).toEqual(['on']);
    expect(read(0x24)).toBe(1);
    write(0x20, 0);
    expect(read(0x20)).toBe(0);
  });

  it('0x60 raises, 0x24 shows, 0x64 acknowledges: the line is on while any bit is', () => {
    const { read, write, told } = start();
    write(0x60, 0x8000_0001);
    write(0x60, 0x10);
    expect(read(0x24)).toBe(0x8000_0011);
    write(0x24, 0); // read-only
    write(0x64, 0x8000_0001);
    expect(read(0x24)).toBe(0x10);
    expect(told).toEqual(['on']);
    write(0x64, 0x10);
    expect(told).toEqual(['on', 'off']);
    expect(read(0x60)).toBe(0xffff_ffff); // write-only
    expect(read(0x64)).toBe(0xffff_ffff);
  });

  it('raising nothing is nothing', () => {
    const { write, told } = start();
    write(0x60, 0);
    expect(told).toEqual([]);
  });

  it('sends a message for each raise where MSI is enabled, and leaves the line alone', () => {
    const { fn, read, write, told } = start();
    fn.config.write(0x42, 2, 1);
    write(0x60, 2);
    write(0x60, 2);
    expect(read(0x24)).toBe(2);
    write(0x64, 2);
    expect(told).toEqual(['msi 0', 'msi 0']);
  });

  it('0x80 to 0x98 hold 64 bits; 4 bytes written clear the rest, 4 bytes read are the low ones', () => {
    const { bar, read, write } = start();
    for (const at of [0x80, 0x88, 0x90]) {
      bar.write(at, 8, 0x1122_3344_5566_7788n);
      expect(bar.read(at, 8)).toBe(0x1122_3344_5566_7788n);
      expect(read(at)).toBe(0x5566_7788);
      write(at, 5);
      expect(bar.read(at, 8)).toBe(5n);
    }
    expect(bar.read(0x98, 8)).toBe(0n);
    bar.write(0x98, 8, 2n); // without the start bit nothing is written
    expect(bar.read(0x98, 8)).toBe(0n);
  });

  it.each([
    ['8 bytes below 0x80', 0x00, 8],
    ['the upper half of a register', 0x84, 4],
    ['a place without a register', 0x0c, 4],
    ['the buffer, which only DMA sees', 0x4_0000, 4],
    ['the end', 0xf_fff8, 8],
  ] as const)('%s reads as ones and writes nothing', (_what, at, width) => {
    expect(touched(at, width)).toBe((1n << BigInt(8 * width)) - 1n);
  });

  it.each([
    ['a byte', 0x00, 1],
    ['two bytes', 0x04, 2],
    ['a byte of a DMA register', 0x80, 1],
    ['4 bytes at an odd place', 0x02, 4],
    ['8 bytes across 0x80', 0x7c, 8],
    ['8 bytes in the middle of a register', 0x84, 8],
  ] as const)('%s reads as 0 and writes nothing, as QEMU answers it', (_what, at, width) => {
    expect(touched(at, width)).toBe(0n);
  });

  /** What is read there; what is written there must change no register. */
  function touched(at: number, width: AccessWidth): bigint {
    const { bar, read } = start();
    const registers = [0x00, 0x04, 0x08, 0x20, 0x24, 0x80, 0x88, 0x90, 0x98];
    const before = registers.map(read);
    const value = bar.read(at, width);
    bar.write(at, width, 0x7n);
    expect(registers.map(read)).toEqual(before);
    return value;
  }

  it('names its registers for traces', () => {
    const { bar } = start();
    expect(bar.handler.nameAt?.(0x98)).toBe('DMA command');
    expect(bar.handler.nameAt?.(0x9c)).toBeUndefined();
  });
});

describe('the DMA of edu', () => {
  it('takes 100 bytes to the buffer and back behind them, as the description shows', () => {
    const { path, dma, read } = start();
    path.map(BigInt(IOVA), 2);
    const data = path.bytes.subarray(2 * FRAME, 2 * FRAME + 100);
    data.forEach((_, i) => (data[i] = i + 1));
    dma(IOVA, 0x4_0000, 100, 1);
    expect(read(0x98) & 1).toBe(0);
    dma(0x4_0000, IOVA + 100, 100, 3);
    expect(read(0x98)).toBe(2);
    expect(path.bytes.subarray(2 * FRAME + 100, 2 * FRAME + 200)).toEqual(data);
    const touched = path.bytes.filter((byte) => byte !== 0xa5);
    expect(touched).toHaveLength(200 - [...data, ...data].filter((byte) => byte === 0xa5).length);
  });

  it('interrupts with 0x100 where it is asked to, by the line and by message', () => {
    const { path, dma, read, write, told, fn } = start();
    path.map(BigInt(IOVA), 2);
    dma(IOVA, 0x4_0000, 4, 5);
    expect(told).toEqual(['on']);
    expect(read(0x24)).toBe(0x100);
    write(0x64, 0x100);
    fn.config.write(0x42, 2, 1);
    dma(IOVA, 0x4_0000, 4, 5);
    expect(told).toEqual(['on', 'off', 'msi 0']);
  });

  it('that is refused fills the buffer with ones or writes nothing, and ends as any other', () => {
    const { path, dma, read, edu } = start();
    dma(IOVA, 0x4_0010, 16, 5);
    expect(read(0x24)).toBe(0x100);
    expect(edu.dma.buffer.subarray(0x10, 0x20).every((byte) => byte === 0xff)).toBe(true);
    expect(edu.dma.buffer.filter((byte) => byte !== 0)).toHaveLength(16);
    dma(0x4_0000, IOVA, 4096, 3);
    expect(path.bytes.every((byte) => byte === 0xa5)).toBe(true);
    expect(path.events.map(dmaText)).toEqual([
      'dma 0000:00:02.0 read 0x100000+16: refused (0x100000 is not mapped)',
      'dma 0000:00:02.0 write 0x100000+4096: refused (0x100000 is not mapped)',
    ]);
  });

  it('cuts an address to 28 bits, or to what it was made with, and says so', () => {
    const { path, dma } = start();
    path.map(0x10_0000n, 1);
    dma(0xabc_1010_0000n, 0x4_0000, 4, 1);
    expect(path.events[0]?.iova).toBe(0x10_0000n);
    expect(path.mistakes).toEqual([
      'edu: the DMA address 0xabc10100000 has more than 28 bits: it becomes 0x100000',
    ]);
    const wide = start({ dmaBits: 64 });
    wide.dma(0xffff_ffff_ffff_f000n, 0x4_0000, 4, 1);
    expect(wide.path.events[0]?.iova).toBe(0xffff_ffff_ffff_f000n);
    expect(wide.path.mistakes).toEqual([]);
  });

  it.each([
    ['before the buffer', 0x3_ffff, 4],
    ['over its end', 0x4_0001, 4096],
    ['behind it', 0x4_1000, 1],
    ['longer than any address', 0x4_0000, 2 ** 52],
  ])('%s moves nothing, says so, and ends', (_where, at, count) => {
    const { path, dma, read } = start();
    path.map(BigInt(IOVA), 0).map(BigInt(IOVA + FRAME), 1);
    dma(at, IOVA, count, 7);
    dma(IOVA, at, count, 5);
    expect(path.events).toEqual([]);
    expect(path.bytes.every((byte) => byte === 0xa5)).toBe(true);
    expect(path.mistakes).toHaveLength(2);
    expect(path.mistakes[0]).toContain('not inside its buffer, 0x40000 to 0x40fff');
    expect(read(0x98) & 1).toBe(0);
    expect(read(0x24)).toBe(0x100);
  });

  it('needs bus mastering', () => {
    const { path, dma, fn } = start();
    path.map(BigInt(IOVA), 1);
    fn.config.write(4, 2, 2);
    dma(0x4_0000, IOVA, 4, 3);
    expect(path.bytes.every((byte) => byte === 0xa5)).toBe(true);
    expect(path.events.map(dmaText)).toEqual([
      'dma 0000:00:02.0 write 0x100000+4: refused (bus mastering is off)',
    ]);
  });

  it.each([0, 65, 1.5])('with addresses of %d bits cannot be made', (dmaBits) => {
    expect(() => start({ dmaBits })).toThrow('1 to 64 are possible');
  });
});

describe('edu at work beside its driver', () => {
  /** Runs a driver as a task, so that the device's engines are tasks beside it. */
  function drive(made: ReturnType<typeof start>, body: () => Body): void {
    made.sim.join([made.sim.spawn('driver', body())]);
  }

  it('is busy until its engine has stepped: DMA registers are not written meanwhile', () => {
    const made = start();
    const { path, dma, read, write, bar, sim } = made;
    path.map(BigInt(IOVA), 1);
    const seen: unknown[] = [];
    drive(made, function* () {
      dma(IOVA, 0x4_0000, 4, 5);
      seen.push(read(0x98), path.events.length);
      write(0x80, 0x99);
      write(0x98, 3);
      seen.push(bar.read(0x80, 8), read(0x98));
      yield 'look';
    });
    sim.join();
    expect(seen).toEqual([5, 0, BigInt(IOVA), 5]);
    expect(read(0x98)).toBe(4);
    expect(path.events).toHaveLength(1);
  });

  it('computes one factorial at a time: a number written meanwhile is ignored', () => {
    const made = start();
    const { read, write, sim } = made;
    const seen: number[] = [];
    drive(made, function* () {
      write(0x08, 5);
      write(0x08, 6);
      seen.push(read(0x20), read(0x08));
      yield 'look';
    });
    sim.join();
    expect(seen).toEqual([1, 5]);
    expect(read(0x08)).toBe(120);
    expect(read(0x20)).toBe(0);
  });

  it.each([0, 1, 2])('forgets what was under way at a reset after %i steps', (steps) => {
    const made = start();
    const { path, dma, read, write, sim, fn, told, edu } = made;
    path.map(BigInt(IOVA), 1);
    edu.dma.buffer.fill(7);
    drive(made, function* () {
      write(0x20, 0x80);
      write(0x08, 5);
      dma(0x4_0000, IOVA, 4, 7);
      for (let i = 0; i < steps; i++) yield 'wait';
      fn.reset();
    });
    const moved = path.events.length;
    sim.join();
    expect(path.events).toHaveLength(moved);
    fn.config.write(4, 2, 2);
    expect(read(0x24)).toBe(0);
    expect(read(0x08)).toBe(0);
    expect(read(0x20)).toBe(0);
    expect(read(0x98)).toBe(0);
    expect(edu.dma.buffer.every((byte) => byte === 0)).toBe(true);
    expect(fn.interrupts.intxAsserted).toBe(false);
    expect(told.filter((one) => one === 'on')).toHaveLength(
      told.filter((one) => one === 'off').length,
    );
  });

  it('does after a reset what it is asked then, once', () => {
    const made = start();
    const { path, dma, sim, fn } = made;
    path.map(BigInt(IOVA), 1);
    drive(made, function* () {
      dma(0x4_0000, IOVA, 4, 7);
      fn.reset();
      fn.config.write(4, 2, 6);
      dma(IOVA, 0x4_0000, 8, 1);
      yield 'wait';
    });
    sim.join();
    expect(path.events.map(({ access, length }) => [access, length])).toEqual([['read', 8]]);
  });
});
