// SPDX-License-Identifier: Apache-2.0
/** A client whose device faults: bind, attach a fault-capable table, page request, read, map, answer, retry. */
import { afterEach, describe, expect, it } from 'vitest';
import { FRAME_LANES_LG2, MAX_RUN_LG2, Ram } from '../memory/ram.ts';
import { resetFunction } from '../pci/reset.ts';
import { exploreOrThrow } from '../sim/explore.ts';
import { Sim } from '../sim/sim.ts';
import type { MachineDescription, PciDeviceDescription } from './description.ts';
import { faultClient } from './fault_client.ts';
import { Machine } from './machine.ts';
import { staleDefault } from './stale_default.ts';

const MEMORY = 0x1000_0000n;
const IOVA = 0x10_0000n;
const PAGE = 0x1000;
const [FAULT_ID_VALID, PASID_FLAG, DIRTY_TRACKING] = [4, 8, 2];
const RESPONSE = 8;
const [CACHED_WRITE, TRANSLATE, PAGE_REQUEST, FAULTING_READ, FAULTING_WRITE] = [4, 5, 6, 8, 9];
const [WAITING, DONE, REFUSED, NOT_PRESENT, INVALID, OFF] = [2, 3, 4, 5, 6, 9];

const base: PciDeviceDescription = { name: 'test0', model: 'iommu_test', address: '0000:00:03.0' };
const machineOf = (...devices: readonly PciDeviceDescription[]): MachineDescription => ({
  name: 'faults',
  summary: '',
  iommus: [{ name: 'iommu0', driver: 'paging', devices }],
});

/** The RAM of one machine after the other: making it anew would take most of the time. */
const CHUNK = new Uint32Array(2 ** (MAX_RUN_LG2 + FRAME_LANES_LG2));

let machine: Machine | undefined;

/** A client that has a device, in a machine that is looked at when the test is over. */
function setUp(
  description = machineOf(base),
  which = 'vfio0',
  sim = new Sim({ checkLocks: true }),
) {
  const ram = new Ram({ faults: sim.faults, chunk: () => CHUNK });
  machine = new Machine({ sim, description, ram });
  return { sim, ...faultClient(machine, which) };
}

afterEach(() => {
  machine?.iommufd.sim.assertNothingHeld();
});

const quiet = ({ iommufd: { core } }: Machine) =>
  expect([core.warnings, core.spuriousPageResponses]).toEqual([[], 0]);

describe('a device that faults', () => {
  it('asks its client, who maps and answers, and its DMA is done', () => {
    const it = setUp();
    it.attach(it.hwpt());
    it.mm.copyOut(MEMORY, new Uint8Array(PAGE).fill(9));
    expect(it.run(FAULTING_READ, { group: 5 })).toBe(WAITING);
    const fault = it.fault();
    // flags, device, PASID, group, perm, reserved, address (2), length, cookie
    expect(fault).toEqual([2, it.dev, 0, 5, 1, 0, Number(IOVA), 0, 0, 1]);
    it.map();
    expect(it.respond(1)).toBe(RESPONSE);
    expect(it.state()).toBe(DONE);
    expect(it.fault()).toBeUndefined();
    // What it read, it has: written back where the client sees it.
    it.set(0x30, CACHED_WRITE);
    expect(it.events.map(({ access, fault: refused }) => [access, refused])).toEqual([
      ['read', undefined],
      ['write', undefined],
    ]);
    quiet(it.machine);
  });

  it('is told INVALID, and its DMA does not happen', () => {
    const it = setUp();
    it.attach(it.hwpt());
    it.run(FAULTING_WRITE);
    expect(it.fault()?.[4]).toBe(2);
    it.respond(1, 1);
    expect(it.state()).toBe(INVALID);
    expect(it.events).toEqual([]);
  });

  it('has several groups at once, answered in any order', () => {
    const it = setUp();
    it.attach(it.hwpt());
    for (const slot of [0, 1, 2]) it.run(FAULTING_READ, { slot, group: slot + 7 });
    expect([it.fault(), it.fault(), it.fault()].map((one) => one?.[3])).toEqual([7, 8, 9]);
    it.respond(3, 1);
    it.map();
    it.respond(1);
    expect([it.state(0), it.state(1), it.state(2)]).toEqual([DONE, WAITING, INVALID]);
  });

  it('sends a group in parts, which its client sees when it is whole', () => {
    const it = setUp();
    it.attach(it.hwpt());
    it.set(0x20, 1);
    expect(it.run(PAGE_REQUEST)).toBe(DONE);
    expect(it.fault()).toBeUndefined();
    it.set(0x20, 5);
    it.run(PAGE_REQUEST);
    expect(it.get(0x40)).toBe(2);
    expect(it.fault(2)?.filter((_word, i) => i % 10 === 0)).toEqual([0, 2]); // flags: the last is
    it.respond(1);
    expect([it.state(), it.get(0x40)]).toEqual([DONE, 0]);
  });

  it('without a fault-capable table can not ask', () => {
    const it = setUp();
    it.attach(it.ioas);
    expect(it.run(FAULTING_READ)).toBe(OFF);
    expect(it.run(CACHED_WRITE)).toBe(NOT_PRESENT);
  });

  it('detached while a fault is owed has its answer, unread, read, or in part', () => {
    for (const stage of ['unread', 'read', 'part']) {
      const it = setUp();
      it.attach(it.hwpt());
      it.set(0x20, 1);
      it.run(stage === 'part' ? PAGE_REQUEST : FAULTING_READ);
      if (stage === 'read') it.fault();
      it.detach();
      // Nobody answers a part of a group: it is forgotten when faults are turned on again.
      const isPart = stage === 'part';
      expect(it.get(0x40), stage).toBe(isPart ? 1 : 0);
      expect(it.fn.pri?.stopped).toBe(!isPart);
      expect(it.state()).toBe(isPart ? DONE : INVALID);
      expect(it.fault()).toBeUndefined();
      if (stage === 'read') expect(() => it.respond(1)).not.toThrow();
      it.attach(it.hwpt());
      expect(it.run(FAULTING_READ, { slot: 1 })).toBe(WAITING);
      expect(it.get(0x40)).toBe(1);
    }
  });

  it('replaced by another fault-capable table goes on faulting', () => {
    const it = setUp();
    it.attach(it.hwpt());
    it.run(FAULTING_READ);
    it.attach(it.hwpt());
    expect(it.state()).not.toBe(WAITING);
    expect(it.run(FAULTING_READ, { slot: 1, group: 1 })).toBe(WAITING);
    it.map();
    const fault = it.fault();
    it.respond(fault?.[9] ?? 0);
    expect(it.state(1)).toBe(DONE);
  });

  it('with a PASID faults in the table of that', () => {
    const it = setUp();
    it.attach(it.hwpt(FAULT_ID_VALID | PASID_FLAG), 7);
    expect(it.run(FAULTING_READ, { pasid: 7 })).toBe(WAITING);
    expect(it.fault()?.slice(0, 3)).toEqual([3, it.dev, 7]);
    it.map();
    it.respond(1);
    expect(it.state()).toBe(DONE);
    expect(it.events[0]).toMatchObject({ pasid: 7, translated: true });
    expect(it.run(FAULTING_READ, { pasid: 8, slot: 1 })).toBe(INVALID);
    it.detach(7);
    expect(it.run(CACHED_WRITE, { pasid: 7, slot: 2 })).toBe(NOT_PRESENT);
  });

  it('reset while a fault is owed hears no answer, and can fault again at once', () => {
    const it = setUp();
    it.attach(it.hwpt());
    it.run(FAULTING_READ);
    it.fault();
    expect(resetFunction(it.fn)).toBe(0);
    expect([it.state(), it.get(0x40)]).toEqual([0, 0]);
    expect(it.run(FAULTING_READ, { group: 1 })).toBe(WAITING);
    it.respond(1); // of the life before: unexpected
    expect([it.state(), it.get(0x40)]).toEqual([WAITING, 1]);
    const fault = it.fault();
    it.map();
    it.respond(fault?.[9] ?? 0);
    expect(it.state()).toBe(DONE);
  });

  it('is a function without PRI: refuses such a table', () => {
    const it = setUp(machineOf({ ...base, pageRequests: 0 }));
    expect(() => it.attach(it.hwpt())).toThrow('the driver refused to attach 0000:00:03.0');
    it.attach(it.ioas);
  });

  it('that is a virtual function is refused such a table (C3)', () => {
    const it = setUp(machineOf({ ...base, vfs: 2 }), 'vfio1');
    expect(it.machine.pciDevices.map(({ bdf }) => bdf)).toEqual([
      '0000:00:03.0',
      '0000:00:03.1',
      '0000:00:03.2',
    ]);
    expect(() => it.attach(it.hwpt())).toThrow('shares page requests with its physical function');
    it.attach(it.ioas);
    it.map();
    expect(it.run(CACHED_WRITE)).toBe(DONE);
  });

  describe('that is a virtual function, where that is emulated (C3),', () => {
    const emulated: MachineDescription = {
      ...machineOf({ ...base, vfs: 2 }),
      vfPageRequests: 'emulate',
    };

    it('faults as any other', () => {
      const it = setUp(emulated, 'vfio1');
      it.attach(it.hwpt());
      expect(it.run(FAULTING_READ)).toBe(WAITING);
      it.map();
      it.respond(it.fault()?.[9] ?? 0);
      expect(it.state()).toBe(DONE);
      quiet(it.machine);
    });

    it('is answered INVALID after a FAILURE until its page requests are reset, and the others go on', () => {
      const it = setUp(emulated, 'vfio1');
      it.attach(it.hwpt());
      const vf = it.machine.pciDevices[1];
      it.run(FAULTING_READ);
      it.respond(it.fault()?.[9] ?? 0, 2);
      // The hardware was told INVALID: its page requests have not stopped, for anybody.
      expect(it.state()).toBe(INVALID);
      expect([it.fn.pri?.enabled, it.fn.pri?.stopped]).toEqual([true, false]);
      expect(it.run(FAULTING_READ, { slot: 1, group: 1 })).toBe(INVALID);
      expect(it.fault()).toBeUndefined();
      vf?.device.resetPageRequests();
      expect(it.run(FAULTING_READ, { slot: 2, group: 2 })).toBe(WAITING);
      it.respond(it.fault()?.[9] ?? 0, 2);
      expect(it.run(FAULTING_READ, { slot: 3, group: 3 })).toBe(INVALID);
      // So does a function level reset, and a table that is attached anew.
      expect(vf && resetFunction(vf)).toBe(0);
      expect(it.run(FAULTING_READ, { slot: 2, group: 2 })).toBe(WAITING);
      it.respond(it.fault()?.[9] ?? 0, 2);
      expect(it.run(FAULTING_READ, { slot: 3, group: 3 })).toBe(INVALID);
      it.detach();
      it.attach(it.hwpt());
      expect(it.run(FAULTING_READ, { slot: 4, group: 4 })).toBe(WAITING);
      it.detach();
    });

    it('is not answered FAILURE where it is not emulated: the code is EINVAL', () => {
      const it = setUp();
      it.attach(it.hwpt());
      it.run(FAULTING_READ);
      const cookie = it.fault()?.[9] ?? 0;
      expect(it.respond(cookie, 2)).toBe(-22);
      expect(it.state()).toBe(WAITING);
      expect(it.respond(cookie, 1)).toBe(RESPONSE);
    });
  });

  it('that nobody answers is told INVALID when its time is out, and the late answer is spurious (C10)', () => {
    const it = setUp({ ...machineOf(base), pageResponseTimeoutMs: 100 });
    const { core } = it.machine.iommufd;
    it.attach(it.hwpt());
    it.run(FAULTING_READ);
    it.run(FAULTING_READ, { slot: 1, group: 1 });
    const cookie = it.fault()?.[9] ?? 0;
    it.sim.clock.advanceBy(99e6);
    it.sim.settle();
    expect([it.state(0), it.state(1)]).toEqual([WAITING, WAITING]);
    it.sim.clock.advanceBy(1e6);
    it.sim.settle();
    expect([it.state(0), it.state(1)]).toEqual([INVALID, INVALID]);
    expect(core.timedOutPageRequests).toBe(2);
    expect(it.fault()).toBeUndefined();
    // Another fault, which must not get the cookie of the late answer.
    it.run(FAULTING_READ, { slot: 2, group: 2 });
    expect(it.fault()?.[9]).not.toBe(cookie);
    expect(it.respond(cookie)).toBe(-22);
    expect(core.spuriousPageResponses).toBe(1);
    expect(it.state(2)).toBe(WAITING);
    it.detach();
    expect(core.warnings).toEqual([]);
  });

  it('leaves nothing behind when its file is closed with a fault owed', () => {
    const it = setUp();
    it.attach(it.hwpt());
    it.run(FAULTING_READ);
    it.client.process.close(it.device.fd);
    expect(it.fn.pri).toMatchObject({ outstanding: 0, enabled: false });
    quiet(it.machine);
  });
});

describe('what a device keeps of translations', () => {
  it('is forgotten when its client unmaps', () => {
    const it = setUp();
    it.attach(it.ioas);
    it.map();
    expect(it.run(CACHED_WRITE)).toBe(DONE);
    it.unmap();
    expect(it.get(0x44)).toBe(0);
    expect(it.run(CACHED_WRITE)).toBe(NOT_PRESENT);
  });

  it('is forgotten at detach', () => {
    const it = setUp();
    it.attach(it.ioas);
    it.map();
    it.run(TRANSLATE);
    expect(it.get(0x44)).toBe(1);
    it.detach();
    expect(it.get(0x44)).toBe(0);
  });

  it('of a device that does not complete invalidations is not believed: warned, and refused from then on', () => {
    const it = setUp();
    it.attach(it.ioas);
    it.map();
    it.run(TRANSLATE);
    it.set(0x24, 2);
    it.unmap();
    expect(it.machine.iommufd.core.warnings).toEqual([
      expect.stringContaining('0000:00:03.0 did not complete an invalidation'),
    ]);
    expect(it.run(CACHED_WRITE)).toBe(REFUSED);
    expect(it.events.filter(({ fault }) => !fault)).toEqual([]);
  });

  it('of a device that lies lets it write to memory that was unmapped: the DMA is seen', () => {
    const stale: string[] = [];
    const { report } = staleDefault;
    staleDefault.report = ({ text }) => stale.push(text);
    const it = setUp();
    staleDefault.report = report;
    it.attach(it.ioas);
    it.map();
    it.set(0x20, 2);
    it.run(TRANSLATE);
    it.set(0x24, 4);
    it.unmap();
    expect(it.run(CACHED_WRITE)).toBe(DONE);
    expect(it.events.at(-1)).toMatchObject({ translated: true, fault: undefined });
    expect(stale).toEqual([
      expect.stringMatching(/by the device TLB, .* unmapped .* not done: device TLB, device 0000:/),
    ]);
  });

  it('does not escape dirty tracking, which it is forgotten for', () => {
    const it = setUp();
    it.attach(it.hwpt(DIRTY_TRACKING));
    it.map();
    it.run(CACHED_WRITE);
    const domain = it.fn.device.group?.domain as unknown as {
      setTracking(on: boolean): number;
      readAndClear(...args: unknown[]): number;
    };
    expect(domain.setTracking(true)).toBe(0);
    expect(it.get(0x44)).toBe(0);
    it.run(CACHED_WRITE);
    let dirty = 0;
    domain.readAndClear(IOVA, 2, 1, undefined, () => dirty++);
    expect(dirty).toBeGreaterThan(0);
  });
});

describe('DMA by what a device keeps against unmap and detach, in every order', () => {
  /** A driver with two doorbells against `take`, after which no DMA may be done. */
  function race(mode: number, take: (it: ReturnType<typeof setUp>) => void) {
    const seen = { done: 0, not: 0, runs: 0 };
    const program = (sim: Sim) => {
      const it = setUp(undefined, undefined, sim);
      it.attach(it.ioas);
      it.map();
      it.set(0x20, 2);
      it.run(TRANSLATE, { slot: 5 });
      it.set(0x24, mode);
      let isTaken = false;
      it.machine.dmaObserver = {
        dma: ({ fault }) => {
          if (fault) return;
          seen.done++;
          if (isTaken) throw new Error('a DMA to memory that was taken away');
        },
      };
      sim.spawn('driver', function* () {
        it.start(CACHED_WRITE, 0);
        yield 'the second doorbell';
        it.start(CACHED_WRITE, 1);
      });
      sim.spawn('client', function* () {
        yield 'begin';
        take(it);
        isTaken = true;
      });
      return () => {
        for (const slot of [0, 1]) if (it.state(slot) === NOT_PRESENT) seen.not++;
        quiet(it.machine);
      };
    };
    seen.runs = exploreOrThrow(program, { maxPreemptions: 3 });
    return seen;
  }

  it.each([
    ['unmap', (it: ReturnType<typeof setUp>) => void it.unmap()],
    ['detach', (it: ReturnType<typeof setUp>) => void it.detach()],
  ])('%s', (_what, take) => {
    const { done, not, runs } = race(0, take);
    expect(runs).toBeGreaterThan(20);
    expect(Math.min(done, not)).toBeGreaterThan(0);
  });

  it('a device that lies is found', () => {
    expect(() => race(4, (it) => void it.unmap())).toThrow('stale translation');
  });
});

describe('groups of a machine', () => {
  const groupsOf = (description: MachineDescription): number[] =>
    new Machine({ description }).pciDevices.map(({ device }) => device.group?.id ?? -1);
  const same = ([first, ...others]: number[]): boolean => others.every((id) => id === first);

  it('functions of one device share one unless they have ACS', () => {
    const two = [base, { ...base, name: 'test1', address: '0000:00:03.1' }];
    expect(same(groupsOf(machineOf(...two)))).toBe(true);
    expect(same(groupsOf(machineOf(...two.map((one) => ({ ...one, acs: true })))))).toBe(false);
  });

  it('functions behind a root port without ACS share one', () => {
    const devices = ['0000:01:00.0', '0000:01:01.0'].map((address, i) => ({
      ...{ ...base, name: `test${i}`, address },
    }));
    const behind = (acs: boolean): MachineDescription => ({
      ...{ name: 'port', summary: '' },
      iommus: [
        {
          ...{ name: 'iommu0', driver: 'paging', devices },
          rootPorts: [{ address: '0000:00:1c.0', bus: 1, acs }],
        },
      ],
    });
    expect(same(groupsOf(behind(false)))).toBe(true);
    expect(same(groupsOf(behind(true)))).toBe(false);
  });

  it('virtual functions have groups of their own', () => {
    expect(new Set(groupsOf(machineOf({ ...base, vfs: 3 }))).size).toBe(4);
  });
});
