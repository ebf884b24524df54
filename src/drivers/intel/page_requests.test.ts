// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Errno } from '../../base/errno.ts';
import { IommuCore } from '../../iommu/core.ts';
import { isFaultCapable } from '../../iommu/domain.ts';
import { type FaultHandler, PageResponseCode } from '../../iommu/fault.ts';
import type { IopfGroup } from '../../iommu/io_pgfault.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { exploreOrThrow } from '../../sim/explore.ts';
import { Sim } from '../../sim/sim.ts';
import { until } from '../../sim/task.ts';
import { fakeAts, fakePri, FakeRig, guestTable } from './fake_rig.ts';
import { bits, ECAP_PASID, ECAP_PRI, type FakePageRequest, FakeVtd } from './fake_vtd.ts';
import { PAGE_REQUESTS } from './page_requests.ts';

const SID = 0x0318;
const PASID = 5;
const [PQH, PQT, PQA, PRS, PECTL] = [0xc0, 0xc8, 0xd0, 0xdc, 0xe0];

/** A handler that keeps the groups that it is given. */
class Keeper implements FaultHandler {
  readonly groups: IopfGroup[] = [];
  handle(group: IopfGroup): number {
    group.dequeue();
    this.groups.push(group);
    return 0;
  }
  get indexes(): number[] {
    return this.groups.map(({ last }) => last.grpid);
  }
}

function setUp(options: ConstructorParameters<typeof FakeRig>[0] = {}, core?: IommuCore) {
  const rig = new FakeRig({ ecap: ECAP_PRI, ...options }, FakeVtd, core);
  const pri = fakePri();
  const device = rig.add(SID, { pasidBits: 20, ats: fakeAts(1), pri });
  const handler = new Keeper();
  const faulting = () => rig.paging(device, 0, handler);
  const ask = (group: number, more: Partial<FakePageRequest> = {}): void =>
    rig.vtd.requestPage({ sourceId: SID, address: 0x1000n, access: 'r', group, ...more });
  return { rig, vtd: rig.vtd, sim: rig.sim, pri, device, handler, faulting, ask };
}

describe('the queue of page requests', () => {
  it('is told to the hardware, empty, with 2048 descriptors and its own interrupt', () => {
    const { vtd, rig } = setUp();
    const base = vtd.mmio.read64(PQA);
    expect(base & 0xfffn).toBe(4n);
    expect(PAGE_REQUESTS).toBe(2048);
    expect([vtd.mmio.read64(PQH), vtd.mmio.read64(PQT)]).toEqual([0n, 0n]);
    // What firmware left is not told.
    expect([vtd.mmio.read32(PRS), vtd.mmio.read32(PECTL)]).toEqual([0, 0]);
    const message = [...vtd.handlers.keys()][1];
    expect(vtd.mmio.read32(0xe4)).toBe(message?.data);
    expect(vtd.mmio.read32(0xe8)).toBe(0xfee0_1000);
    expect(vtd.mmio.read32(0xec)).toBe(0x12);
    const live = rig.ram.liveFrames;
    rig.unit.pageRequests?.stop();
    expect(rig.ram.liveFrames).toBe(live - 32);
    expect([vtd.mmio.read64(PQA), vtd.mmio.read32(PECTL)]).toEqual([0n, 0x8000_0000]);
    expect(vtd.handlers.size).toBe(1);
  });

  it.each([
    ['no page requests', ECAP_PRI & ~(1n << 29n)],
    ['no drain', ECAP_PRI & ~(1n << 42n)],
    ['legacy', ECAP_PRI & ~(1n << 43n)],
  ])('is not there where the unit has %s, and then no device can fault', (_what, ecap) => {
    const { rig, device, pri, vtd } = setUp({ ecap });
    expect(rig.unit.pageRequests).toBeUndefined();
    expect(vtd.mmio.read64(PQA)).toBe(0n);
    expect([pri.log, rig.driver.ops.canFault?.(device)]).toEqual([[], false]);
    expect((rig.context(SID)[0] ?? 0) & 0x10).toBe(0);
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])('that can not be made stops the unit: allocation %i', (nth) => {
    const core = new IommuCore({ sim: new Sim() });
    core.sim.faults.plan({ nth, kinds: ['alloc'] });
    try {
      expect(new FakeRig({ ecap: ECAP_PRI }, FakeVtd, core).unit.pageRequests).toBeDefined();
      expect(core.sim.faults.injected).toBeFalsy();
    } catch (error) {
      expect(String(error)).toMatch(/did not start: -12/);
    }
  });
});

describe('page requests of a device', () => {
  it('are reset and turned on after ATS, when the entry allows them, and off first', () => {
    const rig = new FakeRig({ ecap: ECAP_PRI });
    const log: string[] = [];
    const at = (what: string) => () => log.push(`${what} ${(rig.context(SID)[0] ?? 0) & 0x15}`) > 0;
    const enable = (on: boolean) => at(on ? 'ATS on' : 'ATS off')();
    const pri = { pasidRequired: true, reset: at('reset'), enable: at('on'), disable: at('off') };
    const device = rig.add(SID, { ats: { queueDepth: 1, enable }, pri });
    expect(log.splice(0)).toEqual(['ATS on 21', 'reset 21', 'on 21']);
    expect(rig.driver.ops.canFault?.(device)).toBe(true);
    rig.driver.removeDevice(device);
    expect(log).toEqual(['off 21', 'ATS off 21']);
  });

  it('may be 2048 at once', () => {
    expect(setUp().pri.log).toEqual(['reset', 'on, 2048']);
  });

  it.each([
    ['without ATS', { ats: undefined }, []],
    ['where its answers lack the PASID', { pri: fakePri({ pasidRequired: false }) }, []],
    ['where the function refuses', { pri: fakePri({ enable: () => false }) }, ['reset']],
  ])('stay off %s', (_why, more, log) => {
    const rig = new FakeRig({ ecap: ECAP_PRI });
    const pri = 'pri' in more ? more.pri : fakePri();
    const device = rig.add(SID, { pasidBits: 20, ats: fakeAts(1), pri, ...more });
    expect(rig.driver.ops.canFault?.(device)).toBe(false);
    expect(rig.driver.ops.enableFaults?.(device)).toBe(-Errno.ENODEV);
    expect(pri.log).toEqual(log);
    rig.driver.removeDevice(device);
    expect(pri.log).toEqual(log);
  });

  it('are counted by what is attached: on before the first, off after the last (C1, C5)', () => {
    const { rig, device, faulting } = setUp();
    const [one, two, plain] = [faulting(), faulting(), rig.paging(device)];
    const isOn = () => device.faultParam !== undefined;
    let during: boolean[] = [];
    rig.vtd.onAsked = () => during.push(isOn());
    expect(isFaultCapable(one)).toBe(true);
    expect(rig.attach(device, plain)).toBe(0);
    expect(isOn()).toBe(false);
    during = [];
    expect(rig.replace(device, one)).toBe(0);
    expect(rig.attach(device, two, PASID)).toBe(0);
    expect(during.every(Boolean)).toBe(true);
    during = [];
    expect(rig.replace(device, plain)).toBe(0);
    expect([isOn(), during.length > 3, during.every(Boolean)]).toEqual([true, true, true]);
    during = [];
    rig.detach(device, two, PASID);
    expect([isOn(), during.length > 3, during.every(Boolean)]).toEqual([false, true, true]);
    rig.detach(device, plain);
    expect(rig.core.warnings).toEqual([]);
  });

  it('are as before where an attach or a replace fails', () => {
    for (const hasOld of [false, true]) {
      for (let nth = 1; ; nth++) {
        const { rig, device, faulting } = setUp();
        const [before, next] = [rig.paging(device), faulting()];
        if (hasOld) rig.attach(device, before, PASID);
        rig.faults.plan({ nth });
        const rc = hasOld ? rig.replace(device, next, PASID) : rig.attach(device, next, PASID);
        rig.faults.clear();
        if (!rig.faults.injected) break;
        // What follows a switch that can not be undone is tried again instead.
        if (rc === 0) {
          expect(rig.faults.injected).toBe('command');
          continue;
        }
        expect(device.faultParam).toBeUndefined();
        expect(rig.attach(device, next)).toBe(0);
        rig.detach(device, next);
        expect(device.faultParam).toBeUndefined();
      }
    }
  });

  it('have users beside domains: handlers that are registered on the device', () => {
    const { rig, device, faulting } = setUp();
    const { ops } = rig.driver;
    const domain = faulting();
    expect(ops.enableFaults?.(device)).toBe(0);
    rig.attach(device, domain);
    rig.detach(device, domain);
    expect(device.faultParam).toBeDefined();
    const asked = rig.vtd.during(() => ops.disableFaults?.(device));
    expect(asked).toContain('drain');
    expect(device.faultParam).toBeUndefined();
  });
});

describe('a page request', () => {
  it('comes to the handler of its attachment with all that the device said', () => {
    const { rig, device, handler, faulting, ask, sim } = setUp();
    rig.attach(device, faulting());
    rig.attach(device, faulting(), PASID);
    ask(3, { address: 0x7fff_1234_5000n, access: 'w', isLast: false });
    ask(3, { address: 0x1000n, access: 'rw' });
    ask(0x1ff, { pasid: PASID, address: 0xffff_8000_0000_0000n, access: 'r' });
    sim.settle();
    expect(handler.groups.map(({ requests }) => requests)).toEqual([
      [
        { flags: 0, pasid: 0, grpid: 3, perm: 2, addr: 0x7fff_1234_5000n },
        { flags: 2, pasid: 0, grpid: 3, perm: 3, addr: 0x1000n },
      ],
      [{ flags: 7, pasid: PASID, grpid: 0x1ff, perm: 1, addr: 0xffff_8000_0000_0000n }],
    ]);
    expect(rig.vtd.mmio.read64(PQH)).toBe(96n);
  });

  it.each([
    [PageResponseCode.SUCCESS, 0],
    [PageResponseCode.INVALID, 1],
    [PageResponseCode.FAILURE, 15],
  ])(
    'is answered with its group, its PASID where it had one, and a code: %i is %i',
    (code, told) => {
      const { rig, device, handler, faulting, ask, sim } = setUp();
      rig.attach(device, faulting());
      rig.attach(device, faulting(), PASID);
      ask(3);
      ask(4, { pasid: PASID });
      ask(5, { pasid: 0 });
      sim.settle();
      const asked = rig.vtd.during(() => handler.groups.forEach((group) => group.respond(code)));
      expect(asked).toEqual([
        `answer 0x318 group 3: ${told}`,
        `answer 0x318/5 group 4: ${told}`,
        `answer 0x318/0 group 5: ${told}`,
      ]);
      // The same index again, without.
      ask(5);
      sim.settle();
      expect(rig.vtd.during(() => handler.groups[3]?.respond(code))).toEqual([
        `answer 0x318 group 5: ${told}`,
      ]);
    },
  );

  it.each<[string, Partial<FakePageRequest>]>([
    ['an address that is not canonical', { address: 0x0080_0000_0000_0000n << 1n }],
    ['an address that is not canonical either', { address: 0xfe00_0000_0000_0000n }],
    ['a privileged read', { access: 'rp' }],
    ['a privileged write', { access: 'wp' }],
    ['execution', { access: 'rx' }],
    ['a device that is not there', { sourceId: 0x777 }],
  ])('that no handler is asked about is answered INVALID: %s', (_what, more) => {
    const { rig, device, handler, faulting, ask, sim, vtd } = setUp({
      cap: bits([1, 60]) | new FakeRig().unit.caps.capReg,
    });
    rig.attach(device, faulting(), PASID);
    const asked = vtd.during(() => {
      ask(7, { pasid: PASID, isLast: false });
      ask(7, { pasid: PASID, ...more, isLast: false });
      ask(7, { pasid: PASID, ...more });
      sim.settle();
    });
    const sid = (more.sourceId ?? SID).toString(16);
    expect(asked).toEqual([`answer 0x${sid}/5 group 7: 1`]);
    expect(handler.groups).toEqual([]);
    // What had come of the group before is gone with it.
    if (more.sourceId === undefined) ask(7, { pasid: PASID });
    sim.settle();
    expect(handler.groups.map(({ requests }) => requests.length)).toEqual(
      more.sourceId === undefined ? [1] : [],
    );
  });

  it.each([
    [0n, 0xffff_7fff_ffff_f000n, true],
    [0n, 0x0000_8000_0000_0000n, true],
    [0n, 0x0000_7fff_ffff_f000n, false],
    [1n, 0x0000_8000_0000_0000n, false],
    [1n, 0x00ff_ffff_ffff_f000n, false],
    [1n, 0xff00_0000_0000_0000n, false],
    [1n, 0x0100_0000_0000_0000n, true],
  ])(
    'has an address of 48 bits, or 57 where there are 5 levels (%i): 0x%x',
    (fl5lp, address, bad) => {
      const { rig, device, handler, faulting, ask, sim } = setUp({
        cap: (fl5lp << 60n) | new FakeRig().unit.caps.capReg,
      });
      rig.attach(device, faulting());
      ask(1, { address });
      sim.settle();
      expect(handler.groups).toHaveLength(bad ? 0 : 1);
    },
  );

  it('with private data of the hardware has it back with the answer, wherever it is in its group (C9)', () => {
    const { rig, vtd, sim, device, handler, faulting, ask } = setUp();
    rig.attach(device, faulting());
    const answers: number[][] = [];
    vtd.onDescriptor = (words) => {
      if (((words[0] ?? 0) & 0xf) === 9) answers.push([...words].map((word) => word >>> 0));
    };
    const privateData = [0x89ab_cdef, 1, 2, 0xffff_fffe];
    ask(3, { privateData, isLast: false });
    ask(4);
    sim.settle();
    expect(handler.indexes).toEqual([3, 4]);
    for (const group of handler.groups) group.respond(PageResponseCode.SUCCESS);
    const to = SID * 0x1_0000;
    expect(answers).toEqual([
      [to + 0x29, 0, 3 << 3, 0, ...privateData],
      [to + 9, 0, 4 << 3, 0, 0, 0, 0, 0],
    ]);
  });

  it('that only says that the device stops is dropped', () => {
    const { rig, device, handler, faulting, ask, sim, vtd } = setUp();
    rig.attach(device, faulting(), PASID);
    const asked = vtd.during(() => {
      ask(7, { pasid: PASID, access: '' });
      sim.settle();
    });
    expect([asked, handler.groups, vtd.mmio.read64(PQH)]).toEqual([[], [], 32n]);
  });

  it('where nobody handles faults is answered INVALID', () => {
    const { rig, device, ask, sim, vtd } = setUp();
    rig.attach(device, rig.paging(device));
    const asked = vtd.during(() => {
      ask(1);
      ask(2, { pasid: 77 });
      sim.settle();
    });
    expect(asked).toEqual(['answer 0x318 group 1: 1', 'answer 0x318/77 group 2: 1']);
  });

  it('that comes while others are handled is not missed', () => {
    const { rig, device, handler, faulting, ask, sim } = setUp();
    rig.attach(device, faulting());
    sim.spawn('a device', function* asking() {
      for (let group = 0; group < 40; group++) {
        ask(group);
        yield 'asked';
        if (group % 3 === 0) yield 'later';
      }
    });
    sim.settle();
    expect(handler.indexes).toEqual(Array.from({ length: 40 }, (_, i) => i));
    expect(rig.vtd.mmio.read32(PRS)).toBe(0);
  });

  it('whose group is not whole waits for the rest, however long', () => {
    const { rig, device, handler, faulting, ask, sim } = setUp();
    rig.attach(device, faulting());
    ask(3, { isLast: false });
    sim.settle();
    ask(3);
    sim.settle();
    expect(handler.groups.map(({ requests }) => requests.length)).toEqual([2]);
  });

  it('that come in a flood when there is room again: what is incomplete of that is dropped too', () => {
    const { rig, device, handler, faulting, ask, sim } = setUp();
    rig.attach(device, faulting());
    ask(1);
    sim.spawn('a device', function* flooding() {
      yield until('room', () => rig.vtd.mmio.read64(PQH) === 32n);
      for (let i = 0; i < PAGE_REQUESTS + 5; i++) ask(i % 512, { isLast: i % 512 !== 9 });
    });
    sim.settle();
    expect(handler.groups.length).toBe(PAGE_REQUESTS - 4);
    expect(device.faultParam?.partial).toEqual([]);
    expect(rig.vtd.mmio.read32(PRS)).toBe(0);
  });

  it('more than there is room for: incomplete groups are dropped, and the hardware goes on', () => {
    const { rig, device, handler, faulting, ask, sim, vtd } = setUp();
    rig.attach(device, faulting());
    for (let i = 0; i < 2 * PAGE_REQUESTS; i++) ask(i % 512, { isLast: i % 512 !== 9 });
    expect([vtd.mmio.read32(PRS), vtd.autoAnswered.length > 2000]).toEqual([3, true]);
    const count = PAGE_REQUESTS - 1 - 4;
    sim.settle();
    expect(handler.groups).toHaveLength(count);
    expect(vtd.mmio.read32(PRS)).toBe(0);
    expect(device.faultParam?.partial).toEqual([]);
    ask(9);
    sim.settle();
    expect(handler.groups.at(-1)?.requests).toHaveLength(1);
    expect(handler.groups).toHaveLength(count + 1);
  });
});

describe('the drain', () => {
  it('of a detach asks in this order, and only where page requests are on', () => {
    const { rig, device, faulting } = setUp();
    const [domain, plain] = [faulting(), rig.paging(device)];
    rig.attach(device, domain, PASID);
    rig.attach(device, plain);
    const steps = ['fence', 'piotlb 1/5', 'device 0x318/5 0x0', 'drain'];
    expect(rig.vtd.during(() => rig.detach(device, domain, PASID)).slice(-4)).toEqual(steps);
    expect(rig.vtd.during(() => rig.detach(device, plain))).not.toContain('drain');
    rig.attach(device, domain);
    expect(rig.vtd.during(() => rig.detach(device, domain)).slice(-3)).toEqual([
      'piotlb 1/0',
      'device 0x318 0x0',
      'drain',
    ]);
  });

  it.each([
    ['in the queue', false],
    ['on their way to it', true],
  ])('brings requests that are %s to their handler before a detach returns (C4)', (_where, far) => {
    for (const pasid of [0, PASID]) {
      const { rig, device, handler, faulting, ask, vtd, sim } = setUp();
      const domain = faulting();
      rig.attach(device, domain, pasid);
      const own = pasid ? { pasid } : {};
      const request = { sourceId: SID, address: 0n, access: 'r', ...own };
      for (const group of [1, 2]) {
        if (far) vtd.onTheWay.push({ ...request, group });
        else ask(group, own);
      }
      let done = 0;
      vtd.onAsked = (words) => {
        if (words === 'drain') done++;
      };
      rig.detach(device, domain, pasid);
      expect([handler.indexes, done]).toEqual([[1, 2], 1]);
      // They belong to what was attached, and get one answer each.
      expect(handler.groups.every((group) => group.handle?.domain === domain)).toBe(true);
      rig.attach(device, domain, pasid);
      sim.settle();
      expect(handler.indexes).toEqual([1, 2]);
    }
  });

  it('of a replace brings what was asked of the old domain to the old handler (C5)', () => {
    const { rig, device, handler, faulting, vtd, sim } = setUp();
    const other = new Keeper();
    const [domain, next] = [faulting(), rig.paging(device, 0, other)];
    rig.attach(device, domain, PASID);
    const request = { sourceId: SID, pasid: PASID, address: 0n, access: 'r' };
    vtd.onTheWay.push({ ...request, group: 1 });
    rig.replace(device, next, PASID);
    expect([handler.indexes, other.indexes]).toEqual([[1], []]);
    vtd.requestPage({ ...request, group: 2 });
    sim.settle();
    expect([handler.indexes, other.indexes]).toEqual([[1], [2]]);
  });

  it('leaves what others asked for after that to the task', () => {
    const { rig, device, handler, faulting, ask } = setUp();
    const [domain, other] = [faulting(), faulting()];
    rig.attach(device, domain, PASID);
    rig.attach(device, other);
    ask(1);
    ask(2, { pasid: PASID });
    ask(3);
    rig.detach(device, domain, PASID);
    expect(handler.indexes).toEqual([1, 2]);
    rig.sim.settle();
    expect(handler.indexes).toEqual([1, 2, 3]);
  });

  it('begins again where requests were lost for want of room', () => {
    const { rig, device, handler, faulting, vtd } = setUp();
    const domain = faulting();
    rig.attach(device, domain);
    const request = { sourceId: SID, address: 0n, access: 'r' };
    for (let i = 0; i < PAGE_REQUESTS + 5; i++) vtd.onTheWay.push({ ...request, group: i % 512 });
    const asked = vtd.during(() => rig.detach(device, domain));
    expect(asked.filter((words) => words === 'drain')).toHaveLength(2);
    expect(handler.groups).toHaveLength(PAGE_REQUESTS - 1);
    expect([vtd.mmio.read32(PRS) & 2, rig.core.warnings]).toEqual([0, []]);
  });

  it('ends, with a warning, where they come for ever', () => {
    const { rig, device, faulting, vtd, ask } = setUp();
    const domain = faulting();
    rig.attach(device, domain);
    vtd.onAsked = (words) => {
      if (words === 'drain') for (let i = 0; i <= PAGE_REQUESTS; i++) ask(i % 512);
    };
    rig.detach(device, domain);
    expect(rig.core.warnings).toEqual([
      'dmar0: page requests come faster than they can be drained',
    ]);
  });

  it('of a device whose cache is not believed any more goes without it', () => {
    const { rig, device, faulting, vtd } = setUp();
    const domain = faulting();
    rig.attach(device, domain);
    vtd.deadDevice = SID;
    rig.detach(device, domain);
    expect(rig.core.warnings).toHaveLength(1);
    expect(rig.driver.ops.canFault?.(device)).toBe(false);
    expect(device.faultParam).toBeUndefined();
    expect(vtd.asked.at(-1)).toBe('drain');
  });

  it('in every order with two changes of mind, of device, task and a user: what was asked of one domain comes to no other', () => {
    const runs = exploreOrThrow(
      (sim) => {
        const { rig, device, handler, faulting, ask } = sim.inOrder(() =>
          setUp({}, new IommuCore({ sim })),
        );
        const other = new Keeper();
        const [domain, next] = [faulting(), rig.paging(device, 0, other)];
        rig.attach(device, domain, PASID);
        const first = rig.pasidEntry(SID, PASID)[4];
        /** Groups that were asked for of the first domain. */
        const early: number[] = [];
        let accepted = 0;
        sim.spawn('a device', function* asking() {
          for (const group of [1, 2, 3]) {
            const [w0 = 0, , , , table] = rig.pasidEntry(SID, PASID);
            // VTD-5.10 §6.5.3.1: the hardware takes no request at a PASID that is not present.
            if (w0 & 1) {
              if (table === first) early.push(group);
              ask(group, { pasid: PASID });
              accepted++;
            }
            yield 'asked';
          }
        });
        sim.spawn('a user', function* moving() {
          yield 'begins';
          rig.detach(device, domain, PASID);
          rig.attach(device, next, PASID);
        });
        return () => {
          sim.settle();
          const wrong = other.indexes.filter((group) => early.includes(group));
          if (wrong.length > 0) throw new Error(`groups ${wrong.join()} came to the other domain`);
          const { asked } = rig.vtd;
          const answered = asked.filter((words) => words.startsWith('answer')).length;
          const kept = handler.groups.length + other.groups.length;
          if (kept + answered !== accepted) throw new Error('a group was lost, or answered twice');
          expect(rig.core.warnings).toEqual([]);
        };
      },
      { maxPreemptions: 2 },
    );
    expect(runs).toBeGreaterThan(300);
  });
});

describe('a nested domain with a handler', () => {
  it('is told of faults, at a PASID too', () => {
    const { rig, device, handler, ask, sim } = setUp();
    const parent = rig.paging(device, DomainFlags.NEST_PARENT);
    const made = rig.driver.ops.domainAllocNested?.(device, {
      ...{ flags: DomainFlags.PASID, parent, faultHandler: handler },
      userData: guestTable(0x10_0000n),
    });
    if (!made || typeof made === 'number') throw new Error('refused');
    made.seal(rig.driver.ops, { faultHandler: handler });
    expect(rig.attach(device, made, PASID)).toBe(0);
    ask(1, { pasid: PASID });
    sim.settle();
    expect(handler.indexes).toEqual([1]);
    rig.detach(device, made, PASID);
    expect(device.faultParam).toBeUndefined();
  });

  it('is refused on a device that can not fault (A3)', () => {
    const rig = new FakeRig({ ecap: ECAP_PASID });
    const device = rig.add(SID, { pasidBits: 20, ats: fakeAts(1), pri: fakePri() });
    const domain = rig.paging(device, 0, new Keeper());
    expect(rig.attach(device, domain)).toBe(-Errno.ENODEV);
    expect(rig.attach(device, domain, PASID)).toBe(-Errno.ENODEV);
    expect(domain.setDevPasid(device, PASID, undefined)).toBe(-Errno.ENODEV);
    expect(rig.driver.infoOf(device)?.pasids.size).toBe(0);
  });
});
