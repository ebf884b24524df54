// SPDX-License-Identifier: Apache-2.0
/** A device that shares the address space of a process: DMA through the process's own tables, faults, unmaps, exit. */
import { beforeEach, describe, expect, it } from 'vitest';
import { ProcessMm } from '../iommu/process_mm.ts';
import type { SvaBond } from '../iommu/sva.ts';
import type { DmaEvent } from '../pci/dma.ts';
import { Sim } from '../sim/sim.ts';
import { Machine } from './machine.ts';

const AT = 0x4000_0000n;
const PAGE = 0x1000;
const BASE = 0x1000;
const RW = { readable: true, writable: true };
const [READ, CACHED_READ, FAULTING_READ, FAULTING_WRITE] = [1, 3, 8, 9];
const [DONE, REFUSED, NOT_PRESENT, INVALID, OFF] = [3, 4, 5, 6, 9];
const PRESENT = 0x8000_0000;
const EXECUTE = 0x4000_0000;

let machine: Machine;
let mm: ProcessMm;
let bond: SvaBond;
let events: DmaEvent[];

beforeEach(() => {
  const sim = new Sim({ checkLocks: true });
  machine = new Machine({
    sim,
    description: {
      name: 'sva',
      summary: '',
      iommus: [
        {
          name: 'iommu0',
          driver: 'paging',
          devices: [{ name: 'test0', model: 'iommu_test', address: '0000:00:03.0' }],
        },
      ],
    },
  });
  events = [];
  machine.dmaObserver = { dma: (event) => events.push(event) };
  const made = ProcessMm.create(machine.ram);
  const [fn] = machine.pciDevices;
  if (typeof made === 'number' || !fn) throw new Error('no process, or no device');
  mm = made;
  fn.config.write(4, 2, 6);
  const bound = machine.iommufd.core.sva.bind(fn.device, mm);
  if (typeof bound === 'number') throw new Error(`bind: ${bound}`);
  bond = bound;
  expect(mm.mmap(AT, 2 * PAGE, RW)).toBe(0);
  return () => {
    expect(machine.iommufd.core.warnings).toEqual([]);
    expect(machine.iommufd.core.spuriousPageResponses).toBe(0);
    sim.assertNothingHeld();
  };
});

const bar = () => {
  const found = machine.pciDevices[0]?.bars[0];
  if (!found) throw new Error('no registers');
  return found;
};
const set = (at: number, value: number): void => bar().write(BASE + at, 4, BigInt(value >>> 0));
const state = (): number => Number(bar().read(BASE + 0x80, 4));

/** One DMA of 16 bytes in slot 0 with the PASID of the bond; the state of the slot at its end. */
function run(command: number, address = AT, mode = 0): number {
  set(0x08, Number(address & 0xffff_ffffn));
  set(0x0c, Number(address >> 32n));
  set(0x10, 16);
  set(0x18, PRESENT + mode + bond.pasid);
  set(0x28, 0);
  set(0x30, command);
  machine.iommufd.sim.settle();
  return state();
}

const bytesAt = (address: bigint): number[] => {
  const bytes = new Uint8Array(4);
  expect(mm.copyIn(address, bytes)).toBe(true);
  return [...bytes];
};

describe('B11: a device that shares the address space of a process', () => {
  it('reads and writes what the process does, at the same addresses', () => {
    mm.copyOut(AT, Uint8Array.of(1, 2, 3, 4));
    expect(run(FAULTING_READ, AT)).toBe(DONE);
    expect(run(FAULTING_WRITE, AT + 0x1000n)).toBe(DONE);
    expect(bytesAt(AT + 0x1000n)).toEqual([1, 2, 3, 4]);
    expect(events.at(-1)).toMatchObject({ pasid: bond.pasid, iova: AT + 0x1000n });
  });

  it('makes pages present that the process has not touched', () => {
    expect(run(READ)).toBe(REFUSED);
    expect(run(CACHED_READ)).toBe(NOT_PRESENT);
    expect(run(FAULTING_WRITE)).toBe(DONE);
    expect(mm.pageFaults).toBe(1);
    expect(run(READ)).toBe(DONE);
  });

  it('is refused what the process may not do', () => {
    mm.mmap(AT + 0x10000n, PAGE, { readable: true });
    expect(run(FAULTING_READ, AT + 0x10000n)).toBe(DONE);
    expect(run(FAULTING_WRITE, AT + 0x10000n)).toBe(INVALID);
    expect(run(FAULTING_READ, AT + 0x20000n)).toBe(INVALID);
    expect(run(FAULTING_READ, AT, EXECUTE)).toBe(INVALID);
  });

  it('loses what the process unmaps or protects, also where it kept the translation', () => {
    expect(run(FAULTING_WRITE)).toBe(DONE);
    mm.mprotect(AT, PAGE, { readable: true });
    expect(run(CACHED_READ)).toBe(NOT_PRESENT);
    expect(run(FAULTING_WRITE)).toBe(INVALID);
    expect(run(FAULTING_READ)).toBe(DONE);
    mm.munmap(AT, PAGE);
    expect(run(CACHED_READ)).toBe(NOT_PRESENT);
    expect(run(FAULTING_READ)).toBe(INVALID);
  });

  it('reaches nothing once the process has exited, and its PASID stays attached until the unbind', () => {
    const { core } = machine.iommufd;
    const empty = machine.ram.liveFrames;
    expect(run(FAULTING_WRITE)).toBe(DONE);
    mm.exit();
    expect(machine.ram.liveFrames).toBeLessThan(empty);
    expect(bond.device.group?.pasids.has(bond.pasid)).toBe(true);
    expect(run(READ)).toBe(REFUSED);
    expect(run(CACHED_READ)).toBe(NOT_PRESENT);
    expect(run(FAULTING_READ)).toBe(INVALID);
    core.sva.unbind(bond);
    expect(bond.device.group?.pasids.size).toBe(0);
    expect(core.sva.pasidsInUse).toBe(0);
    expect(bond.device.faultParam).toBeUndefined();
  });

  it('of which the process exits in the middle of a fault gets exactly one answer (C13)', () => {
    set(0x08, Number(AT));
    set(0x10, 16);
    set(0x18, PRESENT + bond.pasid);
    set(0x30, FAULTING_WRITE);
    mm.exit();
    machine.iommufd.sim.settle();
    expect(state()).toBe(INVALID);
    expect(Number(bar().read(BASE + 0x50, 4))).toBe(1);
    machine.iommufd.core.sva.unbind(bond);
    expect(machine.pciDevices[0]?.pri).toMatchObject({ outstanding: 0, enabled: false });
  });

  it('whose PASID goes in the middle of a fault is waited for: the fault is handled first (C4)', () => {
    set(0x08, Number(AT));
    set(0x10, 16);
    set(0x18, PRESENT + bond.pasid);
    const { sim } = machine.iommufd;
    set(0x30, FAULTING_WRITE);
    sim.waitUntil(() => (bond.device.faultParam?.unanswered.size ?? 0) > 0);
    machine.iommufd.core.sva.unbind(bond);
    expect(mm.pageFaults).toBe(1);
    sim.settle();
    // Answered SUCCESS it tries again, and may not ask any more.
    expect([state(), mm.pageFaults]).toEqual([OFF, 1]);
    expect(machine.pciDevices[0]?.pri?.outstanding).toBe(0);
  });
});
