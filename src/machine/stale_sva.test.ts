// SPDX-License-Identifier: Apache-2.0
/** B11: what a process unmaps, protects or gives up with its exit, no device of it uses any more; where one does, the oracle says so. */
import { describe, expect, it, vi } from 'vitest';
import { Prng } from '../base/prng.ts';
import { ProcessMm } from '../iommu/process_mm.ts';
import { RequestMode } from '../pci/translator.ts';
import { Sim } from '../sim/sim.ts';
import { type Play, placeIn, textsOf, unnamedLosses } from './lost_invalidations.ts';
import { Machine } from './machine.ts';
import { presets } from './presets.ts';

vi.mock('../drivers/intel/descriptors.ts', async (original) => {
  const { withLosses } = await import('./lost_invalidations.ts');
  return withLosses(await original());
});

const AT = 0x7000_0000_0000n;
const PAGE = 0x1000;
const PAGES = 4;
const RW = { readable: true, writable: true };
const READ_ONLY = { readable: true };
/** Of the device: src/pci/endpoints/iommu_test/README.md. */
const [PASID_PRESENT, CACHED_READ, CACHED_WRITE, FAULTING_WRITE, STALE] = [0x8000_0000, 3, 4, 9, 4];

function setUp(name: string, report: Parameters<Play>[0], sim = new Sim()) {
  const description = presets.find((preset) => preset.name === name);
  if (!description) throw new Error(`no preset ${name}`);
  const machine = new Machine({ description, onStale: report, sim });
  const { core } = machine.iommufd;
  const [fn] = machine.pciDevices;
  if (!fn) throw new Error('no function');
  fn.config.write(4, 2, 6);
  const process = (): ProcessMm => {
    const mm = ProcessMm.create(machine.ram);
    if (typeof mm === 'number') throw new Error(`no process: ${mm}`);
    return mm;
  };
  const bind = (mm: ProcessMm) => {
    const bond = core.sva.bind(fn.device, mm);
    if (typeof bond === 'number') throw new Error(`bind: ${bond}`);
    return bond;
  };
  const set = (at: number, value: number): void =>
    fn.bars[0]?.write(0x1000 + at, 4, BigInt(value >>> 0));
  const start = (command: number, address: bigint, pasid: number, slot = 0): void => {
    set(0x08, Number(address & 0xffff_ffffn));
    set(0x0c, Number(address >> 32n));
    set(0x10, 8);
    set(0x18, PASID_PRESENT + pasid);
    set(0x28, slot);
    set(0x30, command);
  };
  const run = (command: number, address: bigint, pasid: number): void => {
    start(command, address, pasid);
    sim.settle();
  };
  /** Each page, by way of the IOMMU and from the cache of the device. */
  const touch = (pasid: number, command = 0): void => {
    for (let page = 0; page < PAGES; page++) {
      const address = AT + BigInt(page * PAGE);
      if (command !== 0) run(command, address, pasid);
      fn.dma.read(address, new Uint8Array(8), pasid, RequestMode.PASID);
      fn.dma.write(address, new Uint8Array(8), pasid, RequestMode.PASID);
      run(CACHED_READ, address, pasid);
      run(CACHED_WRITE, address, pasid);
    }
  };
  return { core, process, bind, touch, start, set, fn };
}

/** All that a process can take from a device, with DMA after each step. */
function play(name: string, report: Parameters<Play>[0]): void {
  const { core, process, bind, touch } = setUp(name, report);
  const all = PAGES * PAGE;
  const mm = process();
  const bond = bind(mm);
  const { pasid } = bond;
  mm.mmap(AT, all, RW);
  touch(pasid, FAULTING_WRITE);
  mm.mprotect(AT, all, READ_ONLY);
  touch(pasid);
  mm.mprotect(AT, all, RW);
  touch(pasid, FAULTING_WRITE);
  mm.reclaim(AT, all);
  touch(pasid);
  touch(pasid, FAULTING_WRITE);
  mm.munmap(AT, all);
  touch(pasid);
  mm.mmap(AT, all, RW);
  touch(pasid, FAULTING_WRITE);
  core.sva.unbind(bond);
  touch(pasid);
  // What goes while nobody is bound is not flushed, for nobody has it.
  mm.munmap(AT, all);
  mm.mmap(AT, all, RW);
  const again = bind(mm);
  touch(again.pasid);
  touch(again.pasid, FAULTING_WRITE);
  mm.exit();
  touch(again.pasid);
  core.sva.unbind(again);
  touch(again.pasid);
}

describe.each(['page-faults', 'vtd-page-faults'])('on the machine %s', (name) => {
  it('a process that gives up memory is never blamed for it', () => {
    expect(textsOf((report) => play(name, report), {})).toEqual([]);
  });

  it('a device that forgets nothing is named, with what the process did', () => {
    const found: string[] = [];
    const { process, bind, touch, set } = setUp(name, ({ text }) => found.push(text));
    const mm = process();
    const { pasid } = bind(mm);
    mm.mmap(AT, PAGES * PAGE, RW);
    touch(pasid, FAULTING_WRITE);
    set(0x24, STALE);
    mm.munmap(AT + BigInt(PAGE), PAGE);
    touch(pasid);
    expect(found).toHaveLength(2);
    const what = 'read of 0x700000001000 by 0000:00:02.0, PASID 1 reaches frame 0x';
    expect(found[0]).toContain(`stale translation: ${what}`);
    expect(found[0]).toContain("by the device TLB, where the process's tables allow nothing.");
    const change = "Last change: 0x700000001000-0x700000001fff taken out of the process's tables.";
    expect(found[0]).toContain(`${change} Asked for, and of something else, too early or not done`);
  });

  it('what a process does at random never misleads it', () => {
    const found: string[] = [];
    for (let seed = 1; seed <= 20; seed++) {
      const sim = new Sim({ checkLocks: true, choices: 'random', seed });
      const report: Parameters<Play>[0] = ({ text }) => found.push(`seed ${seed}: ${text}`);
      const { process, bind, start, core, fn } = setUp(name, report, sim);
      const prng = new Prng(seed);
      const mms = [process(), process()];
      const bonds = mms.map(bind);
      for (let step = 0; step < 150; step++) {
        const which = prng.below(2);
        const [mm, bond] = [mms[which], bonds[which]];
        if (!mm || !bond) throw new Error('no process');
        const first = prng.below(PAGES);
        const address = AT + BigInt(first * PAGE);
        const length = (1 + prng.below(PAGES - first)) * PAGE;
        const what = prng.below(12);
        if (what === 0) mm.munmap(address, length);
        else if (what === 1) mm.mprotect(address, length, prng.below(2) ? RW : READ_ONLY);
        else if (what === 2) mm.reclaim(address, length);
        else if (what < 5) mm.mmap(address, length, RW);
        else if (what === 5 && bond.users > 0) core.sva.unbind(bond);
        else if (what === 6 && bond.users === 0) bonds[which] = bind(mm);
        else if (what < 9) fn.dma.write(address, new Uint8Array(8), bond.pasid, RequestMode.PASID);
        else
          start(
            what === 9 ? CACHED_WRITE : what === 10 ? FAULTING_WRITE : 8,
            address,
            bond.pasid,
            step % 16,
          );
      }
    }
    expect(found).toEqual([]);
  });
});

describe("the driver's part in what a process gives up, on VT-d", () => {
  const vtd: Play = (report) => play('vtd-page-faults', report);

  it('each invalidation that is taken out is named at the DMA that misses it', () => {
    // What drains page requests after a detach asks for the same as the detach itself.
    const { asked, unnamed } = unnamedLosses(vtd, ['iotlbOfPasid']);
    expect(asked).toBeGreaterThan(4);
    expect(unnamed).toEqual([]);
  });

  it.each([
    ['iotlbOfPasidPages', /by the (IOTLB|paging-structure caches), .*\. Too narrow: IOTLB, 0x/],
    ['deviceIotlbOfPasid', /by the device TLB, .*\. Too narrow: device TLB, 0x/],
  ])('%s cut short is named', (made, named) => {
    textsOf(vtd, {});
    const file = made === 'deviceIotlbOfPasid' ? 'device_info.ts' : 'cache_tags.ts';
    const place = placeIn(made, file);
    expect(place).not.toBe('');
    const found = textsOf(vtd, { narrowed: place });
    expect(found.find((text) => named.test(text))).toMatch(named);
    expect(found.find((text) => named.test(text))).toMatch(
      /Last change: 0x7\w+-0x7\w+ taken out of the process's tables/,
    );
  });
});
