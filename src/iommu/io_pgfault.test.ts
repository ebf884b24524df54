// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { attach, detach } from './attach.ts';
import { NO_PASID } from './device.ts';
import type { PagingDomain } from './domain.ts';
import { type FakeDevice, FakeWorld } from './fake_driver.ts';
import {
  type PageRequest,
  PageRequestFlags,
  type PageResponse,
  PageResponseCode,
} from './fault.ts';
import { AttachHandle } from './handle.ts';
import {
  endFaults,
  type IopfGroup,
  IopfQueue,
  reportDeviceFault,
  respondToDevice,
} from './io_pgfault.ts';
import { claimDmaOwner } from './ownership.ts';

const { LAST_PAGE, PASID_VALID, PRIVATE_DATA } = PageRequestFlags;

let world: FakeWorld;
let queue: IopfQueue;
let device: FakeDevice;
let handle: AttachHandle;
/** What the device was answered. */
let answers: PageResponse[];
/** Groups that the handler has taken. */
let taken: IopfGroup[];
let handlerResult: number;
let faulting: PagingDomain;

beforeEach(() => {
  answers = [];
  taken = [];
  handlerResult = 0;
  world = new FakeWorld({ pageResponse: (_device, response) => void answers.push(response) });
  queue = new IopfQueue(world.core);
  device = world.add('a', { canFault: true, pasidBits: 4 });
  expect(claimDmaOwner(device, world)).toBe(0);
  const faultHandler = {
    handle(group: IopfGroup): number {
      if (handlerResult === 0) {
        group.dequeue();
        taken.push(group);
      }
      return handlerResult;
    },
  };
  faulting = world.domain(device, { flags: 0, faultHandler });
  handle = new AttachHandle();
  expect(attach(device, NO_PASID, faulting, handle)).toBe(0);
  expect(queue.addDevice(device)).toBe(0);
});

const request = (fields: Partial<PageRequest> = {}): PageRequest => ({
  flags: LAST_PAGE,
  pasid: 0,
  grpid: 1,
  perm: 1,
  addr: 0x1000n,
  ...fields,
});
const report = (fields: Partial<PageRequest> = {}): number =>
  reportDeviceFault(device, request(fields));

describe('a device’s faults', () => {
  it('C1: can be turned on once, by a driver that can answer', () => {
    expect(queue.addDevice(device)).toBe(-Errno.EBUSY);
    const mute = new FakeWorld().add('b');
    expect(new IopfQueue(world.core).addDevice(mute)).toBe(-Errno.ENODEV);
  });

  it('C4: groups that nobody has taken are answered INVALID when faults are turned off', () => {
    handlerResult = 0;
    const keeps = world.domain(device, { flags: 0, faultHandler: { handle: () => 0 } });
    const other = world.add('b', { canFault: true });
    claimDmaOwner(other, world);
    expect(attach(other, NO_PASID, keeps, new AttachHandle())).toBe(0);
    queue.addDevice(other);
    expect(reportDeviceFault(other, request({ grpid: 9 }))).toBe(0);
    expect(answers).toEqual([]);
    queue.removeDevice(other);
    expect(answers).toEqual([{ pasid: 0, grpid: 9, code: PageResponseCode.INVALID }]);
    expect(world.core.warnings).toEqual([]);
  });

  it('C4: a group that a handler has taken is the handler’s to answer, also after that', () => {
    report({ grpid: 3 });
    queue.removeDevice(device);
    expect(answers).toEqual([]);
    expect(taken[0]?.respond(PageResponseCode.INVALID)).toBe(true);
    expect(answers).toEqual([{ pasid: 0, grpid: 3, code: PageResponseCode.INVALID }]);
  });

  it('C4: turning off what is not on is reported as a driver’s bug', () => {
    queue.removeDevice(device);
    queue.removeDevice(device);
    expect(queue.flushDevice(device)).toBe(-Errno.ENODEV);
    expect(world.core.warnings).toHaveLength(2);
  });
});

describe('a group', () => {
  it('C2: leads back to the attachment it came through', () => {
    expect(report()).toBe(0);
    expect(taken[0]?.handle).toBe(handle);
    expect(taken[0]?.device).toBe(device);
  });

  it('C6: is handled when its last request arrives, with all of them in order', () => {
    expect(report({ flags: 0, addr: 0x1000n })).toBe(0);
    expect(report({ flags: 0, addr: 0x5000n, grpid: 2 })).toBe(0);
    expect(report({ flags: 0, addr: 0x2000n })).toBe(0);
    expect(taken).toEqual([]);
    expect(report({ addr: 0x3000n })).toBe(0);
    expect(taken[0]?.requests.map(({ addr }) => addr)).toEqual([0x1000n, 0x2000n, 0x3000n]);
    expect(answers).toEqual([]);
    // The next group of the same number begins anew; the other one still waits for its last.
    expect(report({ addr: 0x4000n })).toBe(0);
    expect(taken[1]?.requests.map(({ addr }) => addr)).toEqual([0x4000n]);
    expect(report({ addr: 0x6000n, grpid: 2 })).toBe(0);
    expect(taken[2]?.requests.map(({ addr }) => addr)).toEqual([0x5000n, 0x6000n]);
  });

  it('C6: loses its first requests when the hardware queue overflows', () => {
    report({ flags: 0, addr: 0x1000n });
    queue.discardPartial();
    report({ addr: 0x2000n });
    expect(taken[0]?.requests).toHaveLength(1);
  });

  it('C6: is dropped with its device', () => {
    report({ flags: 0 });
    const { faultParam } = device;
    detach(device, NO_PASID, faulting);
    world.core.releaseDevice(device);
    expect(device.faultParam).toBeUndefined();
    expect(faultParam?.partial).toEqual([]);
    expect(answers).toEqual([]);
  });

  it.each([PageResponseCode.SUCCESS, PageResponseCode.INVALID, PageResponseCode.FAILURE])(
    'C7, C13: is answered once, with code %d, and a second answer goes nowhere',
    (code) => {
      report({ grpid: 5, pasid: 0 });
      expect(taken[0]?.respond(code)).toBe(true);
      expect(taken[0]?.respond(PageResponseCode.SUCCESS)).toBe(false);
      expect(answers).toEqual([{ pasid: 0, grpid: 5, code }]);
      expect(world.core.spuriousPageResponses).toBe(1);
    },
  );

  it('C13: is answered FAILURE where its handler fails, and the report succeeds', () => {
    handlerResult = -Errno.ENOSPC;
    report({ flags: 0 });
    expect(report()).toBe(0);
    expect(answers.map(({ code }) => code)).toEqual([PageResponseCode.FAILURE]);
    handlerResult = 0;
    report();
    expect(taken[0]?.requests).toHaveLength(1);
  });

  it('C13: is answered FAILURE where there is no memory for it, and keeps no request', () => {
    report({ flags: 0 });
    world.sim.faults.plan({ nth: 1 });
    expect(report()).toBe(0);
    world.sim.faults.clear();
    expect(answers.map(({ code }) => code)).toEqual([PageResponseCode.FAILURE]);
    expect(taken).toEqual([]);
    expect(device.faultParam?.partial).toEqual([]);
    expect(device.faultParam?.unanswered.size).toBe(0);
  });

  it('C13: without a handler is answered INVALID once, at its last request', () => {
    detach(device, NO_PASID, faulting);
    expect(report({ flags: 0 })).toBe(-Errno.EINVAL);
    expect(answers).toEqual([]);
    expect(report()).toBe(-Errno.EINVAL);
    expect(answers.map(({ code }) => code)).toEqual([PageResponseCode.INVALID]);
  });

  it('C13: that nobody handles takes its earlier requests with it', () => {
    report({ flags: 0, addr: 0x1000n });
    detach(device, NO_PASID, faulting);
    report();
    attach(device, NO_PASID, faulting, new AttachHandle());
    report({ addr: 0x2000n });
    expect(taken[0]?.requests.map(({ addr }) => addr)).toEqual([0x2000n]);
  });

  it('is a driver’s bug where a fault-capable domain is attached and faults are off', () => {
    queue.removeDevice(device);
    expect(report()).toBe(-Errno.EINVAL);
    expect(world.core.warnings).toHaveLength(1);
  });

  it('goes to the domain of its PASID, and to none where the PASID has none', () => {
    const own = new AttachHandle();
    expect(attach(device, 5, faulting, own)).toBe(0);
    expect(report({ flags: LAST_PAGE | PASID_VALID, pasid: 5 })).toBe(0);
    expect(taken[0]?.handle).toBe(own);
    expect(report({ flags: LAST_PAGE | PASID_VALID, pasid: 6 })).toBe(-Errno.EINVAL);
    expect(answers).toEqual([{ pasid: 6, grpid: 1, code: PageResponseCode.INVALID }]);
  });
});

describe('C8: an answer that names its request', () => {
  const { SUCCESS } = PageResponseCode;

  it('must name the group', () => {
    report({ grpid: 7 });
    expect(respondToDevice(device, { pasid: 0, grpid: 8, code: SUCCESS })).toBe(-Errno.EINVAL);
    expect(answers).toEqual([]);
    expect(world.core.spuriousPageResponses).toBe(1);
    expect(respondToDevice(device, { pasid: 0, grpid: 7, code: SUCCESS })).toBe(0);
    expect(answers).toHaveLength(1);
    expect(respondToDevice(device, { pasid: 0, grpid: 7, code: SUCCESS })).toBe(-Errno.EINVAL);
    expect(world.core.spuriousPageResponses).toBe(2);
  });

  it('must name the PASID where the request had one', () => {
    attach(device, 5, faulting, new AttachHandle());
    report({ flags: LAST_PAGE | PASID_VALID, pasid: 5 });
    expect(respondToDevice(device, { pasid: 4, grpid: 1, code: SUCCESS })).toBe(-Errno.EINVAL);
    expect(respondToDevice(device, { pasid: 5, grpid: 1, code: SUCCESS })).toBe(0);
  });

  it('must bring the private data back where the request had any', () => {
    report({ flags: LAST_PAGE | PRIVATE_DATA, privateData: 0xabn });
    const answer = { pasid: 0, grpid: 1, code: SUCCESS };
    expect(respondToDevice(device, answer)).toBe(-Errno.EINVAL);
    expect(respondToDevice(device, { ...answer, privateData: 0xacn })).toBe(-Errno.EINVAL);
    expect(respondToDevice(device, { ...answer, privateData: 0xabn })).toBe(0);
    expect(answers).toEqual([{ ...answer, privateData: 0xabn }]);
  });

  it('of the life before is refused, though its group index is in use again', () => {
    report({ grpid: 1 });
    queue.removeDevice(device);
    queue.addDevice(device);
    expect(respondToDevice(device, { pasid: 0, grpid: 1, code: SUCCESS })).toBe(-Errno.EINVAL);
    report({ grpid: 1 });
    expect(respondToDevice(device, { pasid: 0, grpid: 1, code: SUCCESS })).toBe(0);
    expect(taken[1]?.respond(SUCCESS)).toBe(false);
  });
});

describe('C10: a time-out', () => {
  const MS = 1e6;
  beforeEach(() => {
    Object.assign(world.core, { pageResponseTimeout: 5 * MS });
  });
  const pass = (ns: number): void => {
    world.sim.clock.advanceBy(ns);
    world.sim.settle();
  };

  it('answers INVALID, once, and a late answer is spurious', () => {
    report({ grpid: 3 });
    pass(5 * MS - 1);
    expect(answers).toEqual([]);
    pass(1);
    expect(answers).toEqual([{ pasid: 0, grpid: 3, code: PageResponseCode.INVALID }]);
    expect(taken[0]?.respond(PageResponseCode.SUCCESS)).toBe(false);
    expect(answers).toHaveLength(1);
    expect([world.core.timedOutPageRequests, world.core.spuriousPageResponses]).toEqual([1, 1]);
    expect(device.faultParam?.unanswered.size).toBe(0);
    expect(handle.faults.size).toBe(0);
  });

  it('does not come for a group that has its answer', () => {
    report();
    taken[0]?.respond(PageResponseCode.SUCCESS);
    expect(world.sim.clock.nextDue).toBeUndefined();
    report({ grpid: 1 });
    pass(3 * MS);
    expect(answers).toHaveLength(1);
    pass(2 * MS);
    expect(answers).toHaveLength(2);
  });

  it('counts from the last request of the group, and not for requests that wait for it', () => {
    report({ flags: 0 });
    pass(10 * MS);
    expect(answers).toEqual([]);
    report();
    expect(taken[0]?.requests).toHaveLength(2);
    pass(5 * MS);
    expect(answers).toHaveLength(1);
  });

  it('of 0 never comes', () => {
    Object.assign(world.core, { pageResponseTimeout: 0 });
    report();
    expect(world.sim.clock.nextDue).toBeUndefined();
  });
});

describe('what is wrong', () => {
  const { SUCCESS, INVALID } = PageResponseCode;

  it('C13: requests of a PASID that nobody has, of a device whose faults are off, and of one without a group are answered INVALID', () => {
    expect(report({ flags: LAST_PAGE | PASID_VALID, pasid: 9, grpid: 2 })).toBe(-Errno.EINVAL);
    const off = world.add('off', { canFault: true });
    expect(reportDeviceFault(off, request({ grpid: 3 }))).toBe(-Errno.EINVAL);
    const gone = world.add('gone', { canFault: true });
    world.core.releaseDevice(gone);
    expect(reportDeviceFault(gone, request({ grpid: 4 }))).toBe(-Errno.EINVAL);
    // Nobody drives the last one any more, who could be told.
    expect(answers).toEqual([
      { pasid: 9, grpid: 2, code: INVALID },
      { pasid: 0, grpid: 3, code: INVALID },
    ]);
    expect(taken).toEqual([]);
  });

  it('C8: an answer of another device finds nothing', () => {
    const other = world.add('b', { canFault: true });
    expect(queue.addDevice(other)).toBe(0);
    report({ grpid: 1 });
    expect(respondToDevice(other, { pasid: 0, grpid: 1, code: SUCCESS })).toBe(-Errno.EINVAL);
    expect(answers).toEqual([]);
    expect(world.core.spuriousPageResponses).toBe(1);
  });

  it('C8: an answer finds none but its own of several groups', () => {
    attach(device, 5, faulting, new AttachHandle());
    report({ grpid: 1 });
    report({ grpid: 2 });
    report({ flags: LAST_PAGE | PASID_VALID, pasid: 5, grpid: 3 });
    expect(respondToDevice(device, { pasid: 0, grpid: 2, code: SUCCESS })).toBe(0);
    expect(respondToDevice(device, { pasid: 5, grpid: 3, code: INVALID })).toBe(0);
    expect(answers.map(({ grpid }) => grpid)).toEqual([2, 3]);
    expect(device.faultParam?.unanswered.size).toBe(1);
  });

  it('C4: an attachment that has ended owes nothing, also when faults were turned off before', () => {
    report({ grpid: 1 });
    report({ grpid: 2 });
    queue.removeDevice(device);
    endFaults(handle);
    expect(answers.map(({ grpid, code }) => [grpid, code])).toEqual([
      [1, INVALID],
      [2, INVALID],
    ]);
    expect(taken.map((group) => group.respond(SUCCESS))).toEqual([false, false]);
    expect(answers).toHaveLength(2);
  });

  it('C6: all partial requests of the devices of a queue go when it overflows, and of no other queue', () => {
    const [same, apart] = [world.add('b', { canFault: true }), world.add('c', { canFault: true })];
    const otherQueue = new IopfQueue(world.core);
    expect([queue.addDevice(same), otherQueue.addDevice(apart)]).toEqual([0, 0]);
    for (const each of [same, apart]) {
      claimDmaOwner(each, world);
      attach(each, NO_PASID, faulting, new AttachHandle());
      reportDeviceFault(each, request({ flags: 0 }));
    }
    report({ flags: 0 });
    queue.discardPartial();
    const left = [device, same, apart].map((each) => each.faultParam?.partial.length);
    expect(left).toEqual([0, 0, 1]);
  });
});
