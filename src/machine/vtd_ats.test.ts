// SPDX-License-Identifier: Apache-2.0
/** A function with ATS, PRI and PASIDs behind a VT-d unit whose tables are written by hand: hardware alone, without a driver. */
import { describe, expect, it } from 'vitest';
import { type Served } from '../hw/vtd/vtd_unit.ts';
import { SHARING } from '../hw/vtd/capabilities.ts';
import { FS_ALL, Rig, SID } from '../hw/vtd/test_rig.ts';
import type { DmaEvent } from '../pci/dma.ts';
import { IommuTest } from '../pci/endpoints/iommu_test/iommu_test.ts';
import { VtdTranslator } from './vtd_translator.ts';

const BASE = 0x1000;
const [ADDRESS, LENGTH, PASID, GROUP, FLAGS, MODE] = [0x08, 0x10, 0x18, 0x1c, 0x20, 0x24];
const [SLOT, COMMAND, OUTSTANDING, CACHED, HELD] = [0x28, 0x30, 0x40, 0x44, 0x48];
const [READ, WRITE, CACHED_READ, CACHED_WRITE, TRANSLATE, PAGE_REQUEST] = [1, 2, 3, 4, 5, 6];
const [STOP, FAULTING_READ, FAULTING_WRITE, RELEASE] = [7, 8, 9, 10];
const [WAITING, DONE, REFUSED, NOT_PRESENT] = [2, 3, 4, 5];
const [INVALID, OFF] = [6, 9];
const [HOLD, DROP] = [1, 2];
const [FSTS, ITE, PQA, PQH, PRS] = [0x34, 0x40, 0xd0, 0xc0, 0xdc];
const [WITH_PASID, EXECUTE, PRIVILEGED] = [0x8000_0000, 0x4000_0000, 0x2000_0000];
const IOVA = 0x10_0000n;
const FIRST = 1;
const ALL_ON = 0b11101n;

/** Two PASIDs, 0 (of plain requests) and 5, each with a first stage; the page at IOVA is not there. */
function start({ bits = ALL_ON, bits2 = 0n } = {}) {
  const rig = new Rig(SHARING, true);
  const { sim, unit } = rig;
  const queue = rig.page();
  const top = rig.page();
  rig.put(rig.context, SID * 4, BigInt(rig.directory) * 4096n + bits);
  for (const pasid of [0, 5]) rig.pasid(pasid, FIRST, { fs: top, bits2 });
  rig.mmio.write64(PQA, BigInt(queue) * 4096n);
  rig.on();
  rig.queueOn();
  const translator = new VtdTranslator(unit);
  const events: DmaEvent[] = [];
  const memory = {
    read: (frame: number, offset: number, into: Uint8Array) =>
      unit.memory.readBytes(Math.floor(frame / 2), (frame % 2) * 2048 + offset, into),
    write: (frame: number, offset: number, from: Uint8Array) =>
      unit.memory.writeBytes(Math.floor(frame / 2), (frame % 2) * 2048 + offset, from),
  };
  const observer = { dma: (event: DmaEvent) => void events.push(event) };
  const path = { translator, memory, observer: () => observer };
  const address = { domain: 0, bus: 0, device: 2, function: 0 };
  const { function: fn } = new IommuTest(sim, path, { address });
  translator.connect(fn);
  fn.config.write(4, 2, 6);
  fn.pasid?.enable(true);
  fn.ats?.enable(true);
  fn.pri?.enable(32);
  const [bar] = fn.bars;
  if (!bar) throw new Error('no BAR 0');
  const get = (at: number): number => Number(bar.read(BASE + at, 4));
  const set = (at: number, value: number): void => bar.write(BASE + at, 4, BigInt(value >>> 0));
  const state = (slot = 0): number => get(0x80 + 4 * slot);
  const run = (command: number, slot = 0, iova = IOVA): number => {
    bar.write(BASE + ADDRESS, 8, iova);
    set(LENGTH, 16);
    set(SLOT, slot);
    set(COMMAND, command);
    sim.settle();
    return state(slot);
  };
  /** The page at IOVA is there now; its number. */
  const map = (low = FS_ALL, iova = IOVA): number => {
    const page = rig.page();
    rig.map(top, 4, iova, BigInt(page) * 4096n + low, { table: FS_ALL });
    return page;
  };
  const unmap = (): void => void rig.map(top, 4, IOVA, 0n, { table: FS_ALL });
  /** What stands in the queue of page requests, taken out of it. */
  const asked = (): bigint[][] => {
    const [head, tail] = [Number(rig.mmio.read64(PQH)), Number(rig.mmio.read64(0xc8))];
    rig.mmio.write64(PQH, BigInt(tail));
    rig.mmio.write32(PRS, 1);
    const found: bigint[][] = [];
    for (let at = head; at !== tail; at += 32)
      found.push([rig.get(queue, at / 8), rig.get(queue, at / 8 + 1)]);
    return found;
  };
  const answer = (group: number, code = 0, pasid?: number): void => {
    const of = pasid === undefined ? 0n : 0x10n + (BigInt(pasid) << 32n);
    rig.submit([9n + of + (BigInt(SID) << 16n) + (BigInt(code) << 12n), BigInt(group) << 3n]);
  };
  /** IOTLB of the domain, then the device TLB of plain requests and of PASID 5, then a wait. */
  const flush = (): void => {
    rig.put(rig.status, 0, 0n);
    rig.submit(
      [0x7_0022n, 0n],
      [3n + (BigInt(SID) << 32n), 2n ** 63n - 4095n],
      [0x5_0000_0008n + (BigInt(SID) << 16n), 2n ** 63n - 4096n + 0x800n],
      [0x1_0000_0025n, BigInt(rig.status) * 4096n],
    );
  };
  const isFlushed = (): boolean => rig.get(rig.status, 0) === 1n;
  return {
    ...{ rig, sim, unit, fn, events, get, set, state, run, map, unmap },
    ...{ asked, answer, flush, isFlushed },
  };
}

describe('A function behind a VT-d unit', () => {
  it('reads and writes by the table of a PASID, and by that of plain requests', () => {
    const { rig, run, set, map } = start();
    rig.pasid(5, FIRST, { fs: rig.page() });
    map();
    expect(run(WRITE)).toBe(DONE);
    set(PASID, WITH_PASID + 5);
    expect(run(READ, 1)).toBe(REFUSED);
    expect(rig.faults()).toMatchObject([{ reason: 0x71, sid: SID, pasid: 5 }]);
  });

  it('does so with translations of its own, until they are invalidated', () => {
    const { run, map, unmap, set, get, flush, isFlushed, events, rig } = start();
    const page = map();
    for (const pasid of [0, WITH_PASID + 5]) {
      set(PASID, pasid);
      expect(run(CACHED_WRITE)).toBe(DONE);
    }
    expect(get(CACHED)).toBe(2);
    expect(events.every(({ translated, frame }) => translated && frame === page * 2)).toBe(true);
    unmap();
    expect(run(CACHED_READ)).toBe(DONE);
    flush();
    expect([isFlushed(), get(CACHED)]).toEqual([true, 0]);
    expect(run(CACHED_READ)).toBe(NOT_PRESENT);
    expect(rig.faults()).toEqual([]);
  });

  it('executes and is privileged where the entry of its PASID says so', () => {
    const { rig, run, set, map } = start({ bits2: 3n });
    map(0x23n); // a supervisor's page
    set(PASID, WITH_PASID + EXECUTE + PRIVILEGED + 5);
    expect(run(CACHED_READ)).toBe(DONE);
    expect(run(READ)).toBe(DONE);
    set(PASID, WITH_PASID + EXECUTE + 5);
    expect(run(READ)).toBe(REFUSED);
    expect(rig.faults().map(({ reason }) => reason)).toEqual([0x81]);
  });

  it('has no translations where the tables give it none (DTE)', () => {
    const { rig, run, map } = start({ bits: 0b1001n });
    map();
    expect(run(TRANSLATE)).toBe(REFUSED);
    expect(run(WRITE)).toBe(DONE);
    expect(rig.faults().map(({ reason }) => reason)).toEqual([0x44]);
  });

  it('has its translated requests refused where the tables take that back', () => {
    const { rig, run, map } = start();
    map();
    expect(run(CACHED_WRITE)).toBe(DONE);
    rig.put(rig.context, SID * 4, BigInt(rig.directory) * 4096n + 0b1001n);
    rig.submit([0x11n, 0n]);
    expect(run(CACHED_WRITE)).toBe(REFUSED);
    expect(rig.faults().map(({ reason, isRead }) => [reason, isRead])).toEqual([[0x44, false]]);
  });

  it('holds a wait up as long as it uses what it is to forget', () => {
    const { run, map, set, get, flush, isFlushed, fn } = start();
    map();
    run(TRANSLATE);
    set(MODE, HOLD);
    flush();
    expect([isFlushed(), get(HELD)]).toEqual([false, 2]);
    fn.config.write(4, 2, 2); // Bus Master Enable is for memory, not for messages
    run(RELEASE, 1);
    expect(isFlushed()).toBe(true);
  });

  it('that never completes is a time-out', () => {
    const { rig, sim, set, flush, isFlushed } = start();
    set(MODE, DROP);
    flush();
    sim.clock.advanceBy(90e9);
    sim.settle();
    expect([rig.mmio.read32(FSTS), isFlushed()]).toEqual([ITE, false]);
    expect(rig.mmio.read64(0xb0)).toBe(BigInt(SID) << 32n);
  });

  it('completes invalidations with ATS off: it keeps nothing', () => {
    const { rig, fn, flush, isFlushed } = start();
    fn.ats?.enable(false);
    flush();
    expect([isFlushed(), rig.mmio.read32(FSTS)]).toEqual([true, 0]);
  });

  it('that is not there is a time-out', () => {
    const { rig, sim } = start();
    rig.submit([3n + (0x99n << 32n), 0n]);
    sim.clock.advanceBy(90e9);
    expect(rig.mmio.read32(FSTS)).toBe(ITE);
  });
});

describe('A function that lacks a page', () => {
  it('asks, is answered, and its DMA is done', () => {
    const { run, state, map, asked, answer, set, get, unit } = start();
    const served: Served[] = [];
    unit.onServed = (one) => void served.push(one);
    set(GROUP, 7);
    set(PASID, WITH_PASID + 5);
    expect(run(FAULTING_WRITE)).toBe(WAITING);
    expect(asked()).toEqual([[0x5_0000_0101n + (BigInt(SID) << 16n), IOVA + 0x3en]]);
    const page = map();
    answer(7, 0, 5);
    expect([state(), get(OUTSTANDING)]).toEqual([DONE, 0]);
    expect(served).toEqual([
      { sid: SID, pasid: -1, page, out: page, access: 33, by: 'device tlb' },
    ]);
  });

  it('gives up where the answer says so', () => {
    const { run, state, answer } = start();
    expect(run(FAULTING_READ)).toBe(WAITING);
    answer(0, 1);
    expect(state()).toBe(INVALID);
  });

  it('is told at once where the tables admit no page requests', () => {
    const { rig, run, asked } = start({ bits: 0b1101n });
    expect(run(FAULTING_READ)).toBe(INVALID);
    expect([asked(), rig.faults().map(({ reason }) => reason)]).toEqual([[], [0x47]]);
  });

  it('tries again where its request was lost, and not for ever', () => {
    const { rig, run, state } = start();
    rig.mmio.write64(PQA, 0n);
    expect(run(FAULTING_READ)).toBe(NOT_PRESENT);
    expect([state(), rig.mmio.read32(PRS)]).toEqual([NOT_PRESENT, 2]);
  });

  it('sends its stop marker through the same queue', () => {
    const { run, set, asked, fn } = start();
    set(PASID, WITH_PASID + 5);
    set(FLAGS, 1);
    run(PAGE_REQUEST);
    run(STOP, 1);
    expect(asked().map(([, second]) => (second ?? 0n) & 7n)).toEqual([1n, 4n]);
    fn.pri?.disable();
    expect(run(PAGE_REQUEST, 2)).toBe(OFF);
  });
});

describe('What an access was served by', () => {
  it('is told: tables, the IOTLB, or what the device kept', () => {
    const { run, map, unit, set } = start();
    const page = map();
    const served: string[] = [];
    unit.onServed = ({ by, sid, pasid, page: from, out }) => {
      expect([sid, out]).toEqual([SID, page]);
      served.push(`${by} ${pasid} 0x${from === page ? 'same' : from.toString(16)}`);
    };
    for (const command of [READ, READ, WRITE, WRITE, CACHED_READ]) run(command);
    set(PASID, WITH_PASID + 5);
    run(READ);
    expect(served).toEqual([
      'walk -1 0x100',
      'iotlb -1 0x100',
      'walk -1 0x100', // for the dirty bit
      'iotlb -1 0x100',
      'device tlb -1 0xsame',
      'walk 5 0x100',
    ]);
  });
});
