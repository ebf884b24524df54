// SPDX-License-Identifier: Apache-2.0
/** A device with ATS, PASIDs and page requests behind VT-d: driver and model, and a client who sees to its faults. */
import { afterEach, describe, expect, it } from 'vitest';
import { ProcessMm } from '../iommu/process_mm.ts';
import { Sim } from '../sim/sim.ts';
import type { PciDeviceDescription } from './description.ts';
import { faultClient } from './fault_client.ts';
import { Machine } from './machine.ts';

const IOVA = 0x10_0000n;
const PAGE = 0x1000;
const [FAULT_ID_VALID, PASID_FLAG] = [4, 8];
const RESPONSE = 8;
const [CACHED_WRITE, TRANSLATE, FAULTING_READ] = [4, 5, 8];
const [WAITING, DONE, NOT_PRESENT, INVALID, OFF] = [2, 3, 5, 6, 9];

const base: PciDeviceDescription = { name: 'test0', model: 'iommu_test', address: '0000:00:03.0' };
let machine: Machine | undefined;

function setUp(more: Partial<PciDeviceDescription> = {}, which = 'vfio0') {
  const devices = [{ ...base, ...more }];
  machine = new Machine({
    sim: new Sim({ checkLocks: true }),
    description: {
      ...{ name: 'sharing', summary: '' },
      iommus: [{ name: 'dmar0', driver: 'intel-vtd', devices }],
    },
  });
  return { ...faultClient(machine, which), core: machine.iommufd.core };
}

afterEach(() => machine?.iommufd.sim.assertNothingHeld());

describe('a device with page requests behind VT-d', () => {
  it('has them on, with ATS and PASIDs, until its machine lets it go', () => {
    const { fn } = setUp();
    expect([fn.pasid?.enabled, fn.ats?.enabled, fn.pri?.enabled]).toEqual([true, true, true]);
    expect(fn.pri?.allocation).toBe(32);
    expect(fn.device.maxPasids).toBe(2 ** 20);
  });

  it.each([
    [20, 20, 2 + 4],
    [9, 9, 2 + 4],
    [0, 0, 0],
  ])(
    'says how many PASIDs it has, %i bits, and what requests with them can ask',
    (bits, log2, caps) => {
      const { client, dev } = setUp({ pasidBits: bits });
      const { reply } = client.tryCall('IOMMU_GET_HW_INFO', { dev_id: dev });
      expect([reply.out_max_pasid_log2, Number(reply.out_capabilities) & 6]).toEqual([log2, caps]);
    },
  );

  it.each([undefined, 7])('asks its client, who maps and answers: PASID %s', (pasid) => {
    const it = setUp();
    it.attach(it.hwpt(PASID_FLAG));
    it.attach(it.hwpt(FAULT_ID_VALID | PASID_FLAG), pasid ?? undefined);
    const own = pasid === undefined ? {} : { pasid };
    expect(it.run(FAULTING_READ, { group: 5, ...own })).toBe(WAITING);
    // With a PASID also that the answer names it, as Linux's driver lets programs see.
    const flags = pasid === undefined ? 2 : 7;
    expect(it.fault()).toEqual([flags, it.dev, pasid ?? 0, 5, 1, 0, Number(IOVA), 0, 0, 1]);
    it.map();
    expect(it.respond(1)).toBe(RESPONSE);
    expect(it.state()).toBe(DONE);
    expect(it.events.map(({ fault }) => fault)).toEqual([undefined]);
    expect([it.fn.pri?.outstanding, it.core.warnings]).toEqual([0, []]);
  });

  it.each([undefined, 7])(
    'has its answer when it is detached before its client knows: PASID %s',
    (pasid) => {
      const it = setUp();
      it.attach(it.hwpt(PASID_FLAG));
      it.attach(it.hwpt(FAULT_ID_VALID | PASID_FLAG), pasid);
      const own = pasid === undefined ? {} : { pasid };
      it.run(FAULTING_READ, { group: 1, slot: 0, ...own });
      it.run(FAULTING_READ, { group: 2, slot: 1, ...own });
      it.detach(pasid);
      expect([it.state(0), it.state(1), it.fault()]).toEqual([INVALID, INVALID, undefined]);
      expect([it.fn.pri?.outstanding, it.fn.device.faultParam]).toEqual([0, undefined]);
      expect([it.core.warnings, it.core.spuriousPageResponses]).toEqual([[], 0]);
    },
  );

  it('forgets what its client unmaps, at each PASID', () => {
    const it = setUp();
    const id = it.hwpt(PASID_FLAG);
    it.attach(id);
    it.attach(id, 7);
    it.map();
    expect([it.run(CACHED_WRITE), it.run(CACHED_WRITE, { pasid: 7 })]).toEqual([DONE, DONE]);
    expect(it.get(0x44)).toBe(2);
    it.unmap();
    expect(it.get(0x44)).toBe(0);
    expect([it.run(CACHED_WRITE), it.run(CACHED_WRITE, { pasid: 7 })]).toEqual([
      NOT_PRESENT,
      NOT_PRESENT,
    ]);
    it.detach();
    it.map();
    expect(it.run(CACHED_WRITE, { pasid: 7 })).toBe(DONE); // B8
    expect(it.core.warnings).toEqual([]);
  });

  it('that completes no invalidation is warned of, and refused from then on', () => {
    const it = setUp();
    it.attach(it.ioas);
    it.map();
    it.run(TRANSLATE);
    it.set(0x24, 2);
    it.unmap();
    expect(it.core.warnings).toEqual([
      expect.stringMatching(/^0000:00:03.0 does not complete invalidations/),
    ]);
    expect(it.run(CACHED_WRITE)).toBe(OFF);
    expect(it.events.filter(({ fault }) => !fault)).toEqual([]);
    expect(it.fn.ats?.enabled).toBe(false);
  });

  it('shares the address space of a process: faults, what it gives up, and its exit', () => {
    const it = setUp();
    if (!machine) throw new Error('no machine');
    const mm = ProcessMm.create(machine.ram);
    if (typeof mm === 'number') throw new Error('no process');
    mm.mmap(IOVA, PAGE, { readable: true, writable: true });
    const bond = it.core.sva.bind(it.fn.device, mm);
    if (typeof bond === 'number') throw new Error(`refused: ${bond}`);
    const { pasid } = bond;
    const settled = (command: number): number => {
      it.run(command, { pasid });
      machine?.iommufd.sim.settle();
      return it.state();
    };
    expect(settled(CACHED_WRITE)).toBe(NOT_PRESENT);
    expect(settled(FAULTING_READ)).toBe(DONE);
    expect([mm.pageFaults, it.get(0x44)]).toEqual([1, 1]);
    mm.munmap(IOVA, PAGE);
    expect(it.get(0x44)).toBe(0);
    expect(settled(FAULTING_READ)).toBe(INVALID);
    mm.mmap(IOVA, PAGE, { readable: true, writable: true });
    expect(settled(FAULTING_READ)).toBe(DONE);
    mm.exit();
    expect(it.get(0x44)).toBe(0);
    expect(settled(FAULTING_READ)).not.toBe(DONE);
    it.core.sva.unbind(bond);
    expect([it.fn.pri?.outstanding, it.core.warnings]).toEqual([0, []]);
  });

  it('has a virtual function that shares PASIDs and page requests with it', () => {
    const it = setUp({ vfs: 1 }, 'vfio1');
    it.attach(it.hwpt(PASID_FLAG), undefined);
    it.map();
    expect(it.run(CACHED_WRITE)).toBe(DONE);
    it.unmap();
    expect([it.get(0x44), it.core.warnings]).toEqual([0, []]);
  });
});
