// SPDX-License-Identifier: Apache-2.0
/** Tables that are not in RAM but in pages of a client, as a guest's first stage is: they can change, and go away. */
import { describe, expect, it } from 'vitest';
import { Ram } from '../../memory/ram.ts';
import { Sim } from '../../sim/sim.ts';
import { Access } from './access.ts';
import { Capabilities, SCALABLE } from './capabilities.ts';
import { Fault } from './fault_reasons.ts';
import { type OtherMemory, PhysicalMemory } from './physical_memory.ts';
import { Rig } from './test_rig.ts';
import { VtdUnit } from './vtd_unit.ts';

const PAGE = 4096;
/** Far above RAM, and below 2^46. */
const CLIENT = 0x2_0000_0000;
const [P, RW, US, A, D] = [1n, 2n, 4n, 0x20n, 0x40n];

/** Pages of a client by number; those that are not there can not be reached. */
class ClientPages implements OtherMemory {
  readonly pages = new Map<number, Uint8Array>();

  make(page: number): DataView {
    const bytes = new Uint8Array(PAGE);
    this.pages.set(page, bytes);
    return new DataView(bytes.buffer);
  }

  entry(page: number, index: number): bigint {
    const bytes = this.pages.get(page);
    if (!bytes) throw new Error('no such page');
    return new DataView(bytes.buffer).getBigUint64(index * 8, true);
  }

  read(frame: number, offset: number, into: Uint8Array): boolean {
    const at = this.#bytes(frame, offset, into.length);
    if (at) into.set(at);
    return at !== undefined;
  }

  write(frame: number, offset: number, from: Uint8Array): boolean {
    const at = this.#bytes(frame, offset, from.length);
    at?.set(from);
    return at !== undefined;
  }

  #bytes(frame: number, offset: number, length: number): Uint8Array | undefined {
    const start = (frame % 2) * 2048 + offset;
    return this.pages.get(Math.floor(frame / 2))?.subarray(start, start + length);
  }
}

/** A unit whose one first stage, of 4 levels, is in client pages CLIENT to CLIENT + 3; address 0 leads to page 0x123. */
function setUp() {
  const client = new ClientPages();
  const sim = new Sim();
  const ram = new Ram();
  const unit = new VtdUnit({ sim, ram, caps: Capabilities.of(SCALABLE), other: client });
  const rig = Object.assign(Object.create(Rig.prototype) as Rig, { unit, ram, sim });
  const [root, context, directory, pasids] = [rig.page(), rig.page(), rig.page(), rig.page()];
  rig.put(root, 0, BigInt(context * PAGE) + 1n);
  rig.put(context, 4 * 0x10, BigInt(directory * PAGE) + 0b1101n);
  rig.put(directory, 0, BigInt(pasids * PAGE) + 1n);
  rig.put(pasids, 0, BigInt((1 << 6) | (2 << 2)) + 1n);
  rig.put(pasids, 1, 7n + (1n << 23n));
  rig.put(pasids, 2, BigInt(CLIENT) * BigInt(PAGE));
  const set = (level: number, entry: bigint): void =>
    new DataView(client.pages.get(CLIENT + 3 - level)?.buffer ?? new ArrayBuffer(0)).setBigUint64(
      0,
      entry,
      true,
    );
  for (let i = 0; i < 4; i++) client.make(CLIENT + i);
  for (let level = 3; level > 0; level--)
    set(level, BigInt(CLIENT + 4 - level) * BigInt(PAGE) + P + RW + US);
  set(0, 0x123n * BigInt(PAGE) + P + RW + US);
  rig.mmio.write64(0x20, BigInt(root * PAGE) + 0x400n);
  rig.mmio.write32(0x18, 0x4000_0000);
  rig.mmio.write32(0x18, 0x8000_0000);
  return { client, unit, rig, set };
}

describe('tables in pages of a client', () => {
  it('are walked, and accessed and dirty bits set in them and nothing else', () => {
    const { client, rig } = setUp();
    expect(rig.dma(0n)).toBe(0x123);
    const marks = (): bigint[] =>
      [0, 1, 2, 3].map((i) => client.entry(CLIENT + i, 0) & (A | D | P | RW | US));
    expect(marks()).toEqual([P + RW + US + A, P + RW + US + A, P + RW + US + A, P + RW + US + A]);
    expect(rig.dma(0n, Access.WRITE)).toBe(0x123);
    expect(marks()[3]).toBe(P + RW + US + A + D);
    expect(client.entry(CLIENT + 3, 0) >> 12n).toBe(0x123n);
    expect(client.entry(CLIENT + 3, 1)).toBe(0n);
  });

  it('that the client changes between look and mark keep what it wrote but for the byte with the marks', () => {
    const { client, rig, set } = setUp();
    const read = client.read.bind(client);
    let page = 0x456n;
    client.read = (frame, offset, into) => {
      const isThere = read(frame, offset, into);
      if (frame === (CLIENT + 3) * 2) set(0, ++page * BigInt(PAGE) + P + RW + US);
      return isThere;
    };
    rig.dma(0n, Access.WRITE);
    expect(client.entry(CLIENT + 3, 0)).toBe(page * BigInt(PAGE) + P + RW + US + A + D);
  });

  it('are used out of the caches when the client changes them, until it says so', () => {
    const { rig, unit, set } = setUp();
    expect(rig.dma(0n)).toBe(0x123);
    set(0, 0x456n * BigInt(PAGE) + P + RW + US);
    expect(rig.dma(0n)).toBe(0x123);
    unit.invalidation.iotlb(1, 0, 0, 0);
    expect(rig.dma(0n)).toBe(0x456);
  });

  it.each([
    ['the top table', 0, Fault.SM_FS_TOP_ACCESS],
    ['a table below', 2, Fault.SM_FS_ACCESS],
  ])('that the client has unmapped refuse with the reason of %s', (_, index, reason) => {
    const { client, rig } = setUp();
    client.pages.delete(CLIENT + index);
    expect(rig.dma(0n)).toBe(-reason);
    client.make(CLIENT + index);
    expect(rig.dma(0n)).toBe(-Fault.SM_FS_NOT_PRESENT);
  });
});

describe('memory that is a client’s', () => {
  it('is read and written across frames, and not at all where a part of it is missing', () => {
    const client = new ClientPages();
    const memory = new PhysicalMemory(new Ram(), client, true);
    client.make(CLIENT);
    const bytes = Uint8Array.from({ length: 300 }, (_, i) => i);
    expect(memory.writeBytes(CLIENT, 1900, bytes)).toBe(true);
    const back = new Uint8Array(300);
    expect(memory.readBytes(CLIENT, 1900, back)).toBe(true);
    expect(back).toEqual(bytes);
    expect(memory.readBytes(CLIENT + 1, 0, back)).toBe(false);
    expect(memory.read(CLIENT + 1, 0, true)).toBe(false);
    expect(memory.writeWord(CLIENT + 1, 8, 1)).toBe(false);
    memory.setBits(CLIENT + 1, 0, 1); // nothing to set: no more than that
    expect(memory.writeWord(CLIENT, 8, 0x8765_4321)).toBe(true);
    expect(client.entry(CLIENT, 1)).toBe(0x8765_4321n);
  });
});
