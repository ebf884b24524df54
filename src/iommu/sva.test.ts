// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { sweepFaults } from '../sim/faults.ts';
import { allocSvaDomain } from './alloc.ts';
import { attach, detach } from './attach.ts';
import type { Device } from './device.ts';
import { type FakeDevice, FakeSvaDomain, FakeWorld } from './fake_driver.ts';
import { PagePerm, PageRequestFlags, type PageResponse, PageResponseCode } from './fault.ts';
import { AttachHandle } from './handle.ts';
import { IopfQueue, reportDeviceFault } from './io_pgfault.ts';
import { ProcessMm } from './process_mm.ts';
import type { SvaBond } from './sva.ts';

const PAGE = 0x1000;
const AT = 0x5000_0000n;
const RW = { readable: true, writable: true };
const { LAST_PAGE, PASID_VALID } = PageRequestFlags;
const { SUCCESS, INVALID } = PageResponseCode;

/** Refuses the devices in `refuses`. */
class PickyDomain extends FakeSvaDomain {
  override setDevPasid(device: Device, pasid: number): number {
    return refuses.has(device) ? -Errno.EINVAL : super.setDevPasid(device, pasid);
  }
  override free(): void {
    freed++;
  }
}

let refuses: Set<Device>;
let made: PickyDomain[];
let freed: number;
let answers: PageResponse[];
let world: FakeWorld;
let queue: IopfQueue;

function setUp(): void {
  refuses = new Set();
  made = [];
  freed = 0;
  answers = [];
  world = new FakeWorld({
    pageResponse: (_device, response) => void answers.push(response),
    domainAllocSva: (_device, mm) => {
      const domain = new PickyDomain(mm);
      made.push(domain);
      return domain;
    },
  });
  queue = new IopfQueue(world.core);
}

beforeEach(() => {
  setUp();
  return () => expect(world.core.warnings).toEqual([]);
});

const add = (name: string, options: { pasidBits?: number; group?: string } = {}): FakeDevice =>
  world.add(name, { canFault: true, pasidBits: 4, ...options });

function process(): ProcessMm {
  const mm = ProcessMm.create(world.ram);
  if (typeof mm === 'number') throw new Error('no memory');
  return mm;
}

function bind(device: Device, mm: ProcessMm): SvaBond {
  const bond = world.core.sva.bind(device, mm);
  if (typeof bond === 'number') throw new Error(`bind: ${bond}`);
  return bond;
}

const errno = (device: Device, mm: ProcessMm): unknown => {
  const bond = world.core.sva.bind(device, mm);
  return typeof bond === 'number' ? -bond : 'bound';
};

describe('B11: a bind', () => {
  it('attaches a new domain of the address space at its one PASID, which is the same on every device', () => {
    const [a, b] = [add('a'), add('b')];
    const mm = process();
    const bond = bind(a, mm);
    expect(bond.pasid).toBe(1);
    expect(a.byPasid.get(1)).toBe(made[0]);
    expect(made[0]?.mm).toBe(mm);
    expect(bind(b, mm).pasid).toBe(1);
    expect(bind(a, process()).pasid).toBe(2);
  });

  it('takes an existing domain that the device accepts, else a new one', () => {
    const [a, b, c] = [add('a'), add('b'), add('c')];
    const mm = process();
    bind(a, mm);
    bind(b, mm);
    expect(b.byPasid.get(1)).toBe(made[0]);
    refuses.add(c);
    expect(errno(c, mm)).toBe(Errno.EINVAL);
    expect([made.length, freed]).toEqual([2, 1]);
    expect(c.group?.pasids.size).toBe(0);
  });

  it('is counted for each device and address space, and the last unbind detaches', () => {
    const [a, b] = [add('a'), add('b')];
    const mm = process();
    const bond = bind(a, mm);
    expect(bind(a, mm)).toBe(bond);
    const other = bind(b, mm);
    world.core.sva.unbind(bond);
    expect(a.byPasid.has(1)).toBe(true);
    world.core.sva.unbind(bond);
    expect(a.byPasid.has(1)).toBe(false);
    expect(freed).toBe(0);
    world.core.sva.unbind(bond); // once too often
    expect(b.byPasid.get(1)).toBe(made[0]);
    world.core.sva.unbind(other);
    expect([freed, b.byPasid.size]).toEqual([1, 0]);
  });

  it('of two devices of one group is counted for each, and the PASID goes with the last', () => {
    const [a, b] = [add('a', { group: 'g' }), add('b', { group: 'g' })];
    const mm = process();
    const [first, second] = [bind(a, mm), bind(b, mm)];
    expect(first).not.toBe(second);
    world.core.sva.unbind(first);
    expect([a.byPasid.has(1), b.byPasid.has(1)]).toEqual([true, true]);
    world.core.sva.unbind(second);
    expect([a.byPasid.has(1), b.byPasid.has(1)]).toEqual([false, false]);
  });

  it('keeps the PASID until the address space is gone', () => {
    const a = add('a');
    const mm = process();
    world.core.sva.unbind(bind(a, mm));
    expect(world.core.sva.pasidOf(mm)).toBe(1);
    expect(bind(a, process()).pasid).toBe(2);
    mm.exit();
    expect(world.core.sva.pasidOf(mm)).toBeUndefined();
    expect(bind(a, process()).pasid).toBe(1);
  });

  it('is EOVERFLOW where the PASID is beyond the device, ENOSPC where none is left for it', () => {
    const [small, big] = [add('small', { pasidBits: 1 }), add('big')];
    const [first, second] = [process(), process()];
    bind(small, first);
    bind(big, second);
    expect(errno(small, second)).toBe(Errno.EOVERFLOW);
    expect(errno(small, process())).toBe(Errno.ENOSPC);
    expect(errno(world.add('none', { canFault: true }), process())).toBe(Errno.ENOSPC);
    expect(world.core.sva.pasidsInUse).toBe(2);
  });

  it('is EBUSY where something else is attached at the PASID', () => {
    const [a, b] = [add('a'), add('b')];
    const [mm, other] = [process(), process()];
    bind(a, mm);
    const domain = allocSvaDomain(b, other);
    if (typeof domain === 'number') throw new Error('no domain');
    expect(attach(b, 1, domain, new AttachHandle())).toBe(0);
    expect(errno(b, mm)).toBe(Errno.EBUSY);
    detach(b, 1, domain);
    const table = world.domain(b);
    expect(attach(b, 1, table, new AttachHandle())).toBe(0);
    expect(errno(b, mm)).toBe(Errno.EBUSY);
    detach(b, 1, table);
    expect(errno(b, mm)).toBe('bound');
  });

  it('is refused on a device that cannot fault, without SVA, without an IOMMU, and of a process that is gone', () => {
    const mm = process();
    expect(errno(world.add('deaf', { pasidBits: 4 }), mm)).toBe(Errno.ENODEV);
    const plain = new FakeWorld();
    const device = plain.add('a', { canFault: true, pasidBits: 4 });
    expect(plain.core.sva.bind(device, mm)).toBe(-Errno.EOPNOTSUPP);
    const gone = process();
    gone.exit();
    expect(errno(add('a'), gone)).toBe(Errno.ESRCH);
    const loose = add('loose');
    world.core.releaseDevice(loose);
    expect(errno(loose, mm)).toBe(Errno.ENODEV);
  });

  it('that fails leaves nothing', () => {
    const a = add('a');
    const mm = process();
    const { faults } = world.sim;
    const failed = sweepFaults(
      () => {
        const bond = world.core.sva.bind(a, mm);
        if (typeof bond !== 'number') return;
        expect(bond).toBe(-Errno.ENOMEM);
        expect([a.byPasid.size, a.group?.pasids.size]).toEqual([0, 0]);
        expect(made.length).toBe(freed);
      },
      { faults },
    );
    expect(failed).toBeGreaterThan(1);
    expect(a.byPasid.size).toBe(1);
  });
});

describe('B11: a device that is released while it is bound', () => {
  it('is let go of by the unbind, and the address space with it', () => {
    const a = add('a');
    const mm = process();
    const bond = bind(a, mm);
    world.core.releaseDevice(a);
    world.core.sva.unbind(bond);
    expect(freed).toBe(1);
    mm.exit();
    expect(world.core.sva.pasidsInUse).toBe(0);
  });
});

describe('B11: a process that exits while it is bound', () => {
  it('leaves its PASID attached and taken, until the unbind', () => {
    const a = add('a');
    const mm = process();
    const bond = bind(a, mm);
    mm.exit();
    expect(a.byPasid.has(1)).toBe(true);
    expect(errno(a, mm)).toBe(Errno.ESRCH);
    expect(bind(a, process()).pasid).toBe(2);
    world.core.sva.unbind(bond);
    expect(a.byPasid.has(1)).toBe(false);
    expect(bind(a, process()).pasid).toBe(1);
  });
});

describe('page faults of a device in an address space', () => {
  let device: FakeDevice;
  let mm: ProcessMm;
  let bond: SvaBond;

  beforeEach(() => {
    device = add('a');
    expect(queue.addDevice(device)).toBe(0);
    mm = process();
    bond = bind(device, mm);
    mm.mmap(AT, 2 * PAGE, RW);
    mm.mmap(AT + 0x10000n, PAGE, { readable: true });
  });

  const report = (addr: bigint, perm: number, flags = LAST_PAGE | PASID_VALID, grpid = 1): number =>
    reportDeviceFault(device, { flags, pasid: bond.pasid, grpid, perm, addr });
  const codes = (): number[] => {
    world.sim.settle();
    return answers.map(({ code }) => code);
  };

  it('B11: make the page present, and are answered SUCCESS', () => {
    expect(report(AT, PagePerm.READ | PagePerm.WRITE)).toBe(0);
    expect(answers).toEqual([]);
    expect(codes()).toEqual([SUCCESS]);
    expect(mm.pageFaults).toBe(1);
    expect(answers[0]).toEqual({ pasid: 1, grpid: 1, code: SUCCESS });
  });

  it.each([
    ['is not mapped', AT + 0x20000n, PagePerm.READ],
    ['is not to be written', AT + 0x10000n, PagePerm.WRITE],
    ['is not to be executed', AT, PagePerm.EXEC],
  ])('B11: are answered INVALID where the page %s', (_why, addr, perm) => {
    report(addr, perm);
    expect(codes()).toEqual([INVALID]);
    expect(mm.pageFaults).toBe(0);
  });

  it('B11: of a group end at the first that fails', () => {
    report(AT, PagePerm.READ, PASID_VALID);
    report(AT + 0x20000n, PagePerm.READ, PASID_VALID);
    report(AT + 0x1000n, PagePerm.READ);
    expect(codes()).toEqual([INVALID]);
    expect(mm.pageFaults).toBe(1);
  });

  it('B11: are answered INVALID when the process has exited, once', () => {
    report(AT, PagePerm.READ);
    mm.exit();
    report(AT, PagePerm.READ, LAST_PAGE | PASID_VALID, 2);
    expect(codes()).toEqual([INVALID, INVALID]);
    expect(world.core.spuriousPageResponses).toBe(0);
    expect(device.faultParam?.unanswered.size).toBe(0);
  });

  it('C4, C13: are answered when the unbind ends, and only once', () => {
    report(AT, PagePerm.READ);
    world.core.sva.unbind(bond);
    expect(answers.map(({ code }) => code)).toEqual([INVALID]);
    expect(codes()).toEqual([INVALID]);
    expect(world.core.spuriousPageResponses).toBe(0);
  });

  it('C4: are waited for by a driver that flushes', () => {
    report(AT, PagePerm.READ);
    report(AT + 0x1000n, PagePerm.READ, LAST_PAGE | PASID_VALID, 2);
    expect(queue.flushDevice(device)).toBe(0);
    expect(answers.map(({ code }) => code)).toEqual([SUCCESS, SUCCESS]);
  });

  it('C4: are answered INVALID when faults are turned off', () => {
    report(AT, PagePerm.READ);
    queue.removeDevice(device);
    expect(codes()).toEqual([INVALID]);
    expect(world.core.spuriousPageResponses).toBe(0);
  });
});
