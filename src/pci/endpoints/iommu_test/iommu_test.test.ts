// SPDX-License-Identifier: Apache-2.0
/** The README of iommu_test by hand: offsets and values are written out, not imported. */
import { describe, expect, it } from 'vitest';
import { exploreOrThrow } from '../../../sim/explore.ts';
import { Sim } from '../../../sim/sim.ts';
import { encodeRange } from '../../ats_entry.ts';
import { GroupResponse } from '../../ats_messages.ts';
import { FakeAts } from '../../fake_ats.ts';
import { FakePath } from '../../fake_path.ts';
import { IommuTest, type IommuTestOptions } from './iommu_test.ts';

const PAGE = 4096;
const IOVA = 0x10_0000;
const BASE = 0x1000;
const [ADDRESS, LENGTH, OFFSET, PASID] = [0x08, 0x10, 0x14, 0x18];
const [GROUP, FLAGS, MODE, SLOT, ARGUMENT, COMMAND] = [0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30];
const [OUTSTANDING, CACHED, HELD, INVALIDATIONS, RESPONSES, LAST] = [
  0x40, 0x44, 0x48, 0x4c, 0x50, 0x54,
];
const [READ, WRITE, CACHED_READ, CACHED_WRITE, TRANSLATE, PAGE_REQUEST, STOP] = [
  1, 2, 3, 4, 5, 6, 7,
];
const [FAULTING_READ, FAULTING_WRITE, RELEASE, COMPLETE, FORGET] = [8, 9, 10, 11, 12];
const [WAITING, DONE, REFUSED, NOT_PRESENT] = [2, 3, 4, 5];
const [INVALID, FAILURE, NO_CREDIT, OFF, BAD] = [6, 7, 8, 9, 10];
const [HOLD, DROP, STALE, IRQ] = [1, 2, 4, 8];

function start(options: Partial<IommuTestOptions> = {}, sim = new Sim({ checkLocks: true })) {
  const path = new FakePath();
  const ats = new FakeAts(sim, path);
  const address = { domain: 0, bus: 0, device: 2, function: 0 };
  const device = new IommuTest(sim, path, { address, pageRequests: 4, ...options });
  const fn = device.function;
  ats.connect(fn, 1e6);
  const told: string[] = [];
  fn.interrupts.sink = {
    intx: (asserted) => told.push(asserted ? 'on' : 'off'),
    msi: () => undefined,
    msix: () => undefined,
  };
  const [bar] = fn.bars;
  if (!bar) throw new Error('no BAR 0');
  const read = (at: number): number => Number(bar.read(BASE + at, 4));
  const set = (at: number, value: number): void => bar.write(BASE + at, 4, BigInt(value >>> 0));
  const state = (slot = 0): number => read(0x80 + 4 * slot);
  const faultAddress = (slot = 0): number => Number(bar.read(BASE + 0x100 + 8 * slot, 8));
  /** Runs a command in a slot. */
  const run = (command: number, at = IOVA, length = 16, slot = 0): number => {
    bar.write(BASE + ADDRESS, 8, BigInt(at));
    set(LENGTH, length);
    set(SLOT, slot);
    set(COMMAND, command);
    return state(slot);
  };
  const buffer = device.edu.dma.buffer;
  /** What is in memory at a frame. */
  const memory = (frame: number, length = 16) =>
    path.bytes.subarray(frame * 2048, frame * 2048 + length);
  return {
    sim,
    path,
    ats,
    device,
    fn,
    bar,
    told,
    read,
    set,
    state,
    faultAddress,
    run,
    buffer,
    memory,
  };
}

const bytes = (value: number, length = 16) => new Uint8Array(length).fill(value);

describe('iommu_test on PCI', () => {
  it('is 1234:11e9, identifies itself and says what it can', () => {
    const { fn, read } = start();
    expect(fn.config.read(0, 4)).toBe(0x11e9_1234);
    expect(read(0)).toBe(0x494f_5401);
    expect(read(4)).toBe(0x1f);
    expect(start({ ats: false, pageRequests: 0, pasidBits: 0 }).read(4)).toBe(0);
  });

  it('is an edu below its own registers', () => {
    const { bar, path, memory } = start();
    expect(bar.read(0, 4)).toBe(0x0100_00edn);
    bar.write(4, 4, 5n);
    expect(bar.read(4, 4)).toBe(0xffff_fffan);
    bar.write(8, 4, 5n);
    expect(bar.read(8, 4)).toBe(120n);
    path.map(BigInt(IOVA), 2);
    memory(2).fill(9);
    const dma = (from: bigint, to: bigint, command: bigint) => {
      bar.write(0x80, 8, from);
      bar.write(0x88, 8, to);
      bar.write(0x90, 8, 16n);
      bar.write(0x98, 4, command);
    };
    dma(BigInt(IOVA), 0x4_0000n, 1n);
    dma(0x4_0000n, BigInt(IOVA) + 64n, 3n);
    expect(path.bytes.subarray(2 * 2048 + 64, 2 * 2048 + 80)).toEqual(bytes(9));
  });

  it('cuts what is written to the bits that there are, and lets nothing write the rest', () => {
    const { read, set } = start();
    const kept: Record<number, number> = {
      ...{ 0x08: 0xffff_ffff, 0x0c: 0xffff_ffff, 0x10: 0x1fff, 0x14: 0xfff, 0x18: 0xe00f_ffff },
      ...{ 0x1c: 0x1ff, 0x20: 0xf, 0x24: 0x70f, 0x28: 0xf, 0x2c: 0xffff_ffff },
      ...{ 0xc0: 0xffff_ffff, 0xc4: 0xffff_ffff, 0xc8: 0xffff_ffff, 0xcc: 0xffff_ffff },
    };
    for (let at = 0; at < 0x180; at += 4) {
      if (at === COMMAND) continue;
      const before = read(at);
      set(at, 0xffff_ffff);
      expect(read(at), `0x${at.toString(16)}`).toBe(kept[at] ?? before);
    }
  });

  it('survives every command with every register at its extremes', () => {
    for (const value of [0, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff]) {
      const { set, read, fn } = start();
      for (let command = 0; command < 16; command++) {
        for (let at = 8; at < COMMAND; at += 4) set(at, value);
        set(COMMAND, command);
        set(COMMAND, value);
      }
      fn.reset();
      fn.config.write(4, 2, 6);
      expect(read(OUTSTANDING)).toBe(0);
    }
  });
});

describe('plain DMA on command', () => {
  it('reads and writes, and says where it is refused', () => {
    const { run, path, buffer, memory, set, faultAddress } = start();
    path.map(BigInt(IOVA), 2);
    memory(2).fill(7);
    expect(run(READ)).toBe(DONE);
    expect(buffer.subarray(0, 16)).toEqual(bytes(7));
    set(OFFSET, 0x100);
    buffer.fill(8);
    expect(run(WRITE)).toBe(DONE);
    expect(memory(2)).toEqual(bytes(8));
    expect(run(READ, IOVA + 2040)).toBe(REFUSED);
    expect(faultAddress()).toBe(IOVA + 2048);
  });

  it.each([
    ['of no bytes', IOVA, 0],
    ['longer than the buffer', IOVA, 4097],
  ])('%s is a mistake', (_what, at, length) => {
    const { run, path } = start();
    expect(run(READ, at, length)).toBe(BAD);
    expect(path.events).toEqual([]);
  });

  it('has the PASID that it is told, and none that is off', () => {
    const { run, set, path, fn } = start();
    set(PASID, 0x8000_0000 | 7);
    expect(run(READ)).toBe(REFUSED);
    expect(path.events[0]).toMatchObject({ pasid: 7 });
    fn.pasid?.enable(false);
    expect(run(READ)).toBe(OFF);
  });

  it('ends with an interrupt where that is asked for', () => {
    const { run, set, bar, told } = start();
    set(MODE, IRQ);
    run(READ);
    expect(told).toEqual(['on']);
    expect(bar.read(0x24, 4)).toBe(0x200n);
  });

  it('with bus mastering off is none', () => {
    const { run, fn, set } = start();
    fn.config.write(4, 2, 2);
    for (const command of [READ, WRITE, CACHED_READ, TRANSLATE]) expect(run(command)).toBe(OFF);
    set(FLAGS, 5);
    expect(run(PAGE_REQUEST)).toBe(WAITING); // a message, not a request to memory
  });
});

describe('DMA through its own cache', () => {
  it('asks once, keeps the answer, and goes by it', () => {
    const { run, ats, read, memory, buffer, path } = start();
    ats.map(BigInt(IOVA), 4);
    memory(4).fill(3);
    expect(run(CACHED_READ)).toBe(DONE);
    expect(buffer.subarray(0, 16)).toEqual(bytes(3));
    expect(read(CACHED)).toBe(1);
    ats.unmap(BigInt(IOVA)); // without an invalidation: the cache is what counts
    expect(run(CACHED_READ)).toBe(DONE);
    expect(path.events.every(({ translated }) => translated)).toBe(true);
    run(FORGET);
    expect(run(CACHED_READ)).toBe(NOT_PRESENT);
  });

  it('crosses pages wherever they are, whole or not at all', () => {
    const { run, ats, memory, buffer, path, faultAddress } = start();
    ats.map(BigInt(IOVA), 4);
    ats.map(BigInt(IOVA + PAGE), 8);
    buffer.fill(6);
    expect(run(CACHED_WRITE, IOVA + PAGE - 8)).toBe(DONE);
    expect(path.bytes.subarray(6 * 2048 - 8, 6 * 2048)).toEqual(bytes(6, 8));
    expect(memory(8, 8)).toEqual(bytes(6, 8));
    buffer.fill(5);
    expect(run(CACHED_WRITE, IOVA + 2 * PAGE - 8)).toBe(NOT_PRESENT);
    expect(faultAddress()).toBe(IOVA + 2 * PAGE);
    expect(path.bytes.includes(5)).toBe(false);
  });

  it('asks again for an access that what it keeps does not allow', () => {
    const { run, ats } = start();
    ats.map(BigInt(IOVA), 4, false);
    expect(run(CACHED_READ)).toBe(DONE);
    expect(run(CACHED_WRITE)).toBe(NOT_PRESENT);
    ats.map(BigInt(IOVA), 4);
    expect(run(CACHED_WRITE)).toBe(DONE);
  });

  it('keeps PASIDs apart', () => {
    const { run, ats, set } = start();
    ats.map(BigInt(IOVA), 4);
    run(CACHED_READ);
    ats.unmap(BigInt(IOVA));
    set(PASID, 0x8000_0003);
    expect(run(CACHED_READ)).toBe(NOT_PRESENT);
  });

  it('is off with ATS, which empties the cache; an IOMMU that does not want it refuses', () => {
    const { run, ats, fn, read } = start();
    ats.map(BigInt(IOVA), 4);
    run(CACHED_READ);
    ats.isOn = false;
    expect(run(CACHED_READ)).toBe(REFUSED);
    fn.ats?.enable(false);
    expect(read(CACHED)).toBe(0);
    expect(run(CACHED_READ)).toBe(OFF);
  });

  it('is empty after a reset', () => {
    const { run, ats, fn, device } = start();
    ats.map(BigInt(IOVA), 4);
    run(CACHED_READ);
    fn.reset();
    expect(device.atc.size).toBe(0);
  });
});

describe('invalidations', () => {
  const forget = ({ ats }: ReturnType<typeof start>, pasid?: number) =>
    ats.invalidator?.invalidate(pasid, { start: BigInt(IOVA), sizeLg2: 12 });

  it('are completed when the translation is forgotten', () => {
    const it = start();
    it.ats.map(BigInt(IOVA), 4);
    it.run(TRANSLATE);
    expect(forget(it)).toBe('DONE');
    expect([it.read(CACHED), it.read(INVALIDATIONS)]).toEqual([0, 1]);
  });

  it('of another PASID leave it, those of all take it', () => {
    const it = start();
    it.ats.map(BigInt(IOVA), 4);
    it.set(PASID, 0x8000_0003);
    it.run(TRANSLATE);
    expect(forget(it, 4)).toBe('DONE');
    expect(it.read(CACHED)).toBe(1);
    it.ats.invalidator?.invalidate(undefined, { start: 0n, sizeLg2: 64 }, true);
    expect(it.read(CACHED)).toBe(0);
  });

  it('can have several completions each', () => {
    const it = start();
    it.set(MODE, 2 << 8);
    expect(forget(it)).toBe('DONE');
    expect(it.ats.invalidator).toMatchObject({ unexpected: 0, outstanding: 0 });
  });

  it('are held until RELEASE, and forgotten at once nevertheless', () => {
    const it = start();
    it.ats.map(BigInt(IOVA), 4);
    it.run(TRANSLATE);
    it.set(MODE, HOLD);
    const { ats, sim } = it;
    if (!ats.invalidator) throw new Error('none');
    const range = { start: BigInt(IOVA), sizeLg2: 12 };
    const task = sim.spawn('invalidation', ats.invalidator.invalidating(undefined, range));
    expect([it.read(HELD), it.read(CACHED), task.isDone]).toEqual([1, 0, false]);
    it.run(RELEASE);
    sim.settle();
    expect(task.result).toBe('DONE');
  });

  it('can be lost', () => {
    const it = start();
    it.set(MODE, DROP);
    expect(forget(it)).toBe('TIMEOUT');
  });

  it('can be a lie: completed, and the stale translation is used', () => {
    const it = start();
    it.ats.map(BigInt(IOVA), 4);
    it.run(TRANSLATE);
    it.ats.unmap(BigInt(IOVA));
    it.set(MODE, STALE);
    expect(forget(it)).toBe('DONE');
    expect(it.run(CACHED_READ)).toBe(DONE);
  });

  it('completions that nobody waits for are counted by the IOMMU', () => {
    const { set, run, ats } = start();
    set(ARGUMENT, 0x8000_0001);
    run(COMPLETE);
    expect(ats.invalidator?.unexpected).toBe(2);
  });
});

describe('page requests', () => {
  it('wait for the answer to their group, and end as it says', () => {
    const { run, set, ats, state, read } = start();
    set(FLAGS, 7);
    for (const [slot, code, end] of [
      [0, GroupResponse.SUCCESS, DONE],
      [1, GroupResponse.INVALID, INVALID],
      [2, GroupResponse.FAILURE, FAILURE],
    ] as const) {
      set(GROUP, slot + 5);
      expect(run(PAGE_REQUEST, IOVA + 5, 0, slot)).toBe(WAITING);
      ats.answer(slot + 5, code);
      expect(state(slot)).toBe(end);
    }
    expect(ats.requests[0]).toMatchObject({
      ...{ address: BigInt(IOVA), read: true, write: true, last: true, group: 5 },
    });
    expect(read(RESPONSES)).toBe(3);
    expect(read(LAST)).toBe(0x8000_f007);
    expect(run(PAGE_REQUEST, IOVA, 0, 3)).toBe(FAILURE); // the interface has failed
  });

  it('are sent in parts where the last bit is withheld', () => {
    const { run, set, ats, read, state } = start();
    set(FLAGS, 1);
    expect(run(PAGE_REQUEST, IOVA, 0)).toBe(DONE);
    expect(run(PAGE_REQUEST, IOVA + PAGE, 0)).toBe(DONE);
    expect(read(OUTSTANDING)).toBe(2);
    set(FLAGS, 5);
    expect(run(PAGE_REQUEST, IOVA, 0)).toBe(WAITING);
    expect(ats.requests.map(({ last }) => last)).toEqual([false, false, true]);
    ats.answer(0);
    expect(state()).toBe(DONE);
    expect(read(OUTSTANDING)).toBe(0);
  });

  it('beyond the allocation are not sent', () => {
    const { run, set, ats } = start();
    set(FLAGS, 5);
    const ends = [0, 1, 2, 3, 4].map((group) => {
      set(GROUP, group);
      return run(PAGE_REQUEST, IOVA, 0, group);
    });
    expect(ends).toEqual([WAITING, WAITING, WAITING, WAITING, NO_CREDIT]);
    expect(ats.requests).toHaveLength(4);
    expect(run(FAULTING_READ, IOVA, 16, 5)).toBe(NO_CREDIT);
  });

  it('of a group that waits already are a mistake, and a busy slot goes on', () => {
    const { run, set, ats } = start();
    set(FLAGS, 5);
    run(PAGE_REQUEST, IOVA, 0, 0);
    expect(run(PAGE_REQUEST, IOVA, 0, 1)).toBe(BAD);
    expect(run(READ, IOVA, 16, 0)).toBe(WAITING);
    expect(ats.requests).toHaveLength(1);
  });

  it('end as OFF where the interface is reset, and are gone after a reset of the function', () => {
    const { run, set, fn, state, ats, read } = start();
    set(FLAGS, 5);
    run(PAGE_REQUEST, IOVA, 0);
    fn.pri?.disable();
    expect(state()).toBe(WAITING);
    fn.pri?.reset();
    expect(state()).toBe(OFF);
    fn.pri?.enable(4);
    run(PAGE_REQUEST, IOVA, 0);
    fn.reset();
    ats.answer(0);
    fn.config.write(4, 2, 6);
    expect([state(), read(RESPONSES), read(OUTSTANDING)]).toEqual([0, 0, 0]);
  });

  it('stop markers need a PASID', () => {
    const { run, set, ats } = start();
    expect(run(STOP)).toBe(BAD);
    set(PASID, 0x8000_0007);
    expect(run(STOP)).toBe(DONE);
    expect(ats.requests[0]).toMatchObject({ read: false, write: false, last: true });
  });

  it('carry execute and privileged as told', () => {
    const { run, set, ats } = start();
    set(FLAGS, 5);
    set(PASID, 0xe000_0007);
    run(PAGE_REQUEST, IOVA, 0);
    expect(ats.requests[0]?.pasid).toEqual({ value: 7, execute: true, privileged: true });
  });
});

describe('a DMA that faults', () => {
  it('asks for what it lacks in one group, and is done after the answer', () => {
    const { run, ats, state, memory, buffer } = start();
    buffer.fill(4);
    ats.map(BigInt(IOVA + PAGE), 8);
    expect(run(FAULTING_WRITE, IOVA + 100, 4096)).toBe(WAITING);
    expect(run(FAULTING_WRITE, IOVA + 100, 4096, 1)).toBe(BAD); // the group waits
    expect(ats.requests.map(({ address, last, write }) => [address, last, write])).toEqual([
      [BigInt(IOVA), true, true],
    ]);
    ats.map(BigInt(IOVA), 4);
    ats.answer(0);
    expect(state()).toBe(DONE);
    expect(memory(4, 200).subarray(100)).toEqual(bytes(4, 100));
  });

  it('asks again where SUCCESS changed nothing, but not for ever', () => {
    const { run, ats, state } = start();
    run(FAULTING_READ);
    let answers = 0;
    while (state() === WAITING && answers < 100) {
      ats.answer(0);
      answers++;
    }
    expect(answers).toBe(8);
    expect(state()).toBe(NOT_PRESENT);
  });

  it('several at once are answered in any order', () => {
    const { run, ats, state, set } = start();
    for (const group of [0, 1, 2]) {
      set(GROUP, group);
      expect(run(FAULTING_READ, IOVA + group * PAGE, 16, group)).toBe(WAITING);
    }
    ats.map(BigInt(IOVA + 2 * PAGE), 4);
    ats.answer(2);
    ats.answer(0, GroupResponse.INVALID);
    expect([state(0), state(1), state(2)]).toEqual([INVALID, WAITING, DONE]);
  });
});

describe('an invalidation against DMA through the cache, in every order', () => {
  /** Two DMAs of a device against unmap and invalidate; what fails is a DMA by the old entry after the completion. */
  function race(mode: number, maxPreemptions?: number) {
    const seen = { done: 0, missed: 0 };
    const bound = maxPreemptions === undefined ? {} : { maxPreemptions };
    const runs = exploreOrThrow((sim) => {
      const world = start({}, sim);
      const { ats, path, bar, set, device } = world;
      ats.map(BigInt(IOVA), 4);
      set(MODE, mode);
      let completed = false;
      path.dma = (event) => {
        if (event.fault) return;
        seen.done++;
        if (completed) throw new Error('a DMA by a translation that was invalidated');
      };
      sim.spawn('driver', function* () {
        for (const slot of [0, 1]) {
          bar.write(BASE + ADDRESS, 8, BigInt(IOVA));
          set(LENGTH, 16);
          set(SLOT, slot);
          set(COMMAND, CACHED_WRITE);
          yield 'the next doorbell';
        }
      });
      sim.spawn('unmap', function* () {
        ats.unmap(BigInt(IOVA));
        yield 'unmapped';
        const range = { start: BigInt(IOVA), sizeLg2: 12 };
        if (!ats.invalidator) return;
        const outcome = yield* ats.invalidator.invalidating(undefined, range);
        if (outcome !== 'DONE') throw new Error(outcome);
        completed = true;
      });
      return () => {
        if (mode === 0) expect(device.atc.size).toBe(0);
        for (const slot of [0, 1]) if (world.state(slot) === NOT_PRESENT) seen.missed++;
      };
    }, bound);
    return { runs, ...seen };
  }

  it('no DMA uses the old entry after the completion', () => {
    const { runs, done, missed } = race(0, 3);
    expect(runs).toBeGreaterThan(50);
    expect(Math.min(done, missed)).toBeGreaterThan(0);
  });

  it('is found broken where the device lies', () => {
    expect(() => race(STALE, 3)).toThrow('a DMA by a translation that was invalidated');
  });
});

it('an invalidation with a range of everything is understood', () => {
  const { fn, device, ats, run } = start();
  ats.map(BigInt(IOVA), 4);
  run(TRANSLATE);
  fn.invalidate({
    ...{ itag: 3, pasid: undefined, global: false },
    range: encodeRange({ start: 0n, sizeLg2: 64 }),
  });
  expect(device.atc.size).toBe(0);
});
