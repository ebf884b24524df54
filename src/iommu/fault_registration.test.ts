// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { attach, detach } from './attach.ts';
import { NO_PASID } from './device.ts';
import { type FakeDevice, FakeWorld } from './fake_driver.ts';
import {
  type PageRequest,
  PageRequestFlags,
  type PageResponse,
  PageResponseCode,
} from './fault.ts';
import { FaultReason, type FaultRecord } from './fault_record.ts';
import {
  FaultFeature,
  FaultRegistration,
  type FaultUser,
  registerFaultHandler,
  reportUnrecoverableFault,
  UNRECOVERABLE_FAULTS,
} from './fault_registration.ts';
import { AttachHandle } from './handle.ts';
import { IopfQueue, reportDeviceFault, respondToDevice } from './io_pgfault.ts';

const { LAST_PAGE, PASID_VALID, PRIVATE_DATA } = PageRequestFlags;
const { SUCCESS, INVALID, FAILURE } = PageResponseCode;
/** 128 bits that only the hardware may see. */
const SECRET = 0xdead_beef_0000_0000_0123_4567_89ab_cdefn;

let world: FakeWorld;
let device: FakeDevice;
let users: number;
let answers: PageResponse[];

beforeEach(() => {
  answers = [];
  users = 0;
  world = new FakeWorld({
    pageResponse: (_device, response) => void answers.push(response),
    enableFaults: (on) => (users++ === 0 ? queue.addDevice(on) : 0),
    disableFaults: (off) => void (--users === 0 && queue.removeDevice(off)),
  });
  const queue = new IopfQueue(world.core);
  device = world.add('a', { canFault: true, pasidBits: 4 });
  return () => expect(world.core.warnings).toEqual([]);
});

/** A user that keeps what it is told. */
class Keeper implements FaultUser {
  readonly records: FaultRecord[] = [];
  readonly features: number;
  result = 0;
  constructor(features = 0) {
    this.features = features;
  }
  report(records: readonly FaultRecord[]): number {
    if (this.result === 0) this.records.push(...records);
    return this.result;
  }
  /** The n-th page request that it was told of. */
  request(index = 0): PageRequest | undefined {
    const record = this.records[index];
    return record?.type === 'page request' ? record.request : undefined;
  }
}

function register(id: number, user: FaultUser): FaultRegistration {
  const registration = registerFaultHandler(device, id, user);
  if (typeof registration === 'number') throw new Error(`refused: ${registration}`);
  return registration;
}

const report = (fields: Partial<PageRequest> = {}): number =>
  reportDeviceFault(device, {
    ...{ flags: LAST_PAGE, pasid: 0, grpid: 1, perm: 1, addr: 0x1000n },
    ...fields,
  });
const forPasid = (pasid: number, fields: Partial<PageRequest> = {}): number =>
  report({ flags: LAST_PAGE | PASID_VALID, pasid, ...fields });

describe('C12: the handlers of a device', () => {
  it('each get what is of their id', () => {
    const [none, five, unrecoverable] = [new Keeper(), new Keeper(), new Keeper()];
    register(NO_PASID, none);
    register(5, five);
    register(UNRECOVERABLE_FAULTS, unrecoverable);
    expect(report({ addr: 0x1000n })).toBe(0);
    expect(forPasid(5, { addr: 0x2000n })).toBe(0);
    const fault = { reason: FaultReason.PERMISSION, perm: 2, addr: 0x3000n };
    expect(reportUnrecoverableFault(device, fault)).toBe(0);
    expect(none.records.map((_record, i) => none.request(i)?.addr)).toEqual([0x1000n]);
    expect(five.records.map((_record, i) => five.request(i)?.addr)).toEqual([0x2000n]);
    expect(unrecoverable.records).toEqual([{ type: 'unrecoverable', fault }]);
  });

  it('have ids that are unique on it, and that it can send', () => {
    register(5, new Keeper());
    expect(registerFaultHandler(device, 5, new Keeper())).toBe(-Errno.EBUSY);
    expect(registerFaultHandler(device, 16, new Keeper())).toBe(-Errno.EINVAL);
    expect(registerFaultHandler(device, -1, new Keeper())).toBe(-Errno.EINVAL);
    const other = world.add('b', { canFault: true, pasidBits: 4 });
    expect(registerFaultHandler(other, 5, new Keeper())).toBeInstanceOf(FaultRegistration);
  });

  it('share no id with a fault-capable domain', () => {
    const domain = world.domain(device, { flags: 0, faultHandler: { handle: () => 0 } });
    expect(attach(device, 5, domain, new AttachHandle())).toBe(0);
    expect(registerFaultHandler(device, 5, new Keeper())).toBe(-Errno.EBUSY);
    detach(device, 5, domain);
    register(5, new Keeper());
    register(NO_PASID, new Keeper());
    expect(attach(device, 5, domain, new AttachHandle())).toBe(-Errno.EBUSY);
    expect(attach(device, NO_PASID, domain, new AttachHandle())).toBe(-Errno.EBUSY);
    const plain = world.domain(device);
    expect(attach(device, 5, plain, new AttachHandle())).toBe(0);
  });

  it('are told nothing of an id without a handler', () => {
    register(5, new Keeper());
    expect(forPasid(6)).toBe(-Errno.EINVAL);
    expect(report()).toBe(-Errno.EINVAL);
    expect(answers.map(({ code }) => code)).toEqual([INVALID, INVALID]);
    const fault = { reason: FaultReason.UNKNOWN, perm: 0 };
    expect(reportUnrecoverableFault(device, fault)).toBe(-Errno.EINVAL);
  });

  it('turn page requests on while there are any for them', () => {
    const unrecoverable = register(UNRECOVERABLE_FAULTS, new Keeper());
    expect(device.faultParam).toBeUndefined();
    const [first, second] = [register(1, new Keeper()), register(2, new Keeper())];
    expect(users).toBe(2);
    first.unregister();
    first.unregister();
    unrecoverable.unregister();
    expect([users, device.faultParam !== undefined]).toEqual([1, true]);
    second.unregister();
    expect(device.faultParam).toBeUndefined();
  });

  it('need a device that faults and a driver that turns them on', () => {
    const deaf = world.add('deaf', { pasidBits: 4 });
    expect(registerFaultHandler(deaf, 0, new Keeper())).toBe(-Errno.ENODEV);
    const plain = new FakeWorld().add('b', { canFault: true });
    expect(registerFaultHandler(plain, 0, new Keeper())).toBe(-Errno.EOPNOTSUPP);
    expect(registerFaultHandler(plain, UNRECOVERABLE_FAULTS, new Keeper())).toBeInstanceOf(
      FaultRegistration,
    );
  });

  it('C13: that fail are answered for: FAILURE, once', () => {
    const user = new Keeper();
    const registration = register(0, user);
    user.result = -Errno.ENOSPC;
    expect(report()).toBe(0);
    expect(answers.map(({ code }) => code)).toEqual([FAILURE]);
    expect(registration.respond({ pasid: 0, grpid: 1, code: SUCCESS })).toBe(-Errno.EINVAL);
    expect(answers).toHaveLength(1);
  });
});

describe('C11: unregistering', () => {
  it('answers what waits INVALID, of its own handler only, and later answers are spurious', () => {
    const [first, second] = [register(1, new Keeper()), register(2, new Keeper())];
    forPasid(1, { grpid: 7 });
    forPasid(2, { grpid: 8 });
    first.unregister();
    expect(answers).toEqual([{ pasid: 1, grpid: 7, code: INVALID }]);
    expect(first.respond({ pasid: 1, grpid: 7, code: SUCCESS })).toBe(-Errno.EINVAL);
    expect([answers.length, world.core.spuriousPageResponses]).toEqual([1, 1]);
    expect(second.respond({ pasid: 2, grpid: 8, code: SUCCESS })).toBe(0);
  });

  it('and registering again is a new life: answers from the one before are refused though the group index repeats', () => {
    const keep = register(2, new Keeper());
    const before = register(1, new Keeper());
    forPasid(1, { grpid: 1 });
    before.unregister();
    const after = register(1, new Keeper());
    forPasid(1, { grpid: 1 });
    const late = { pasid: 1, grpid: 1, code: SUCCESS };
    expect(before.respond(late)).toBe(-Errno.EINVAL);
    expect(respondToDevice(device, late)).toBe(-Errno.EINVAL);
    expect(answers.map(({ code }) => code)).toEqual([INVALID]);
    expect(world.core.spuriousPageResponses).toBe(2);
    expect(after.respond(late)).toBe(0);
    expect(answers.map(({ code }) => code)).toEqual([INVALID, SUCCESS]);
    keep.unregister();
  });

  it('tells the lives of one user apart by the token, where both sides have agreed on it', () => {
    const user = new Keeper(FaultFeature.PRIVATE_DATA);
    const flags = LAST_PAGE | PASID_VALID | PRIVATE_DATA;
    const before = register(1, user);
    forPasid(1, { flags, privateData: SECRET });
    before.unregister();
    const after = register(1, user);
    forPasid(1, { flags, privateData: SECRET });
    const answer = (index: number): PageResponse => {
      const { privateData = 0n } = user.request(index) ?? {};
      return { pasid: 1, grpid: 1, code: SUCCESS, privateData };
    };
    expect(after.respond(answer(0))).toBe(-Errno.EINVAL);
    expect(after.respond(answer(1))).toBe(0);
  });

  it('happens when the device is released', () => {
    const registration = register(1, new Keeper());
    register(UNRECOVERABLE_FAULTS, new Keeper());
    forPasid(1, { grpid: 4 });
    world.core.releaseDevice(device);
    expect(answers).toEqual([{ pasid: 1, grpid: 4, code: INVALID }]);
    expect([device.faultHandlers.size, users]).toEqual([0, 0]);
    expect(registration.respond({ pasid: 1, grpid: 4, code: SUCCESS })).toBe(-Errno.EINVAL);
    expect(answers).toHaveLength(1);
  });

  it('forgets requests of a group that is not complete', () => {
    const keep = register(2, new Keeper());
    const before = register(1, new Keeper());
    forPasid(1, { flags: PASID_VALID, addr: 0x1000n });
    forPasid(2, { flags: PASID_VALID, grpid: 2, addr: 0x5000n });
    before.unregister();
    const user = new Keeper();
    register(1, user);
    forPasid(1, { addr: 0x2000n });
    expect(user.records).toHaveLength(1);
    expect(device.faultParam?.partial.map(({ addr }) => addr)).toEqual([0x5000n]);
    keep.unregister();
  });
});

describe('C9: the private data of hardware', () => {
  const flags = LAST_PAGE | PRIVATE_DATA;

  it('is a token for a user that knows of it, and goes back to the hardware with the answer', () => {
    const user = new Keeper(FaultFeature.PRIVATE_DATA);
    const registration = register(0, user);
    report({ flags, grpid: 1, privateData: SECRET });
    report({ flags, grpid: 2, privateData: SECRET });
    const tokens = [user.request(0)?.privateData, user.request(1)?.privateData];
    expect(tokens).toEqual([1n, 2n]);
    const answer = { pasid: 0, grpid: 1, code: SUCCESS };
    expect(registration.respond({ ...answer, privateData: SECRET })).toBe(-Errno.EINVAL);
    expect(registration.respond({ ...answer, privateData: 2n })).toBe(-Errno.EINVAL);
    expect(registration.respond(answer)).toBe(-Errno.EINVAL);
    expect(registration.respond({ ...answer, privateData: 1n })).toBe(0);
    expect(answers).toEqual([{ ...answer, privateData: SECRET }]);
    expect(world.core.spuriousPageResponses).toBe(3);
  });

  it('is not told of to a user that does not know of it', () => {
    const user = new Keeper();
    const registration = register(0, user);
    report({ flags, privateData: SECRET });
    expect(user.request()).toEqual({
      ...{ flags: LAST_PAGE, pasid: 0, grpid: 1, perm: 1, addr: 0x1000n },
    });
    expect(registration.respond({ pasid: 0, grpid: 1, code: SUCCESS })).toBe(0);
    expect(answers[0]?.privateData).toBe(SECRET);
  });

  it('and no token is shown where the request had none', () => {
    const user = new Keeper(FaultFeature.PRIVATE_DATA);
    const registration = register(0, user);
    report();
    expect(user.request()).not.toHaveProperty('privateData');
    expect(registration.respond({ pasid: 0, grpid: 1, code: SUCCESS })).toBe(0);
    expect(answers[0]).not.toHaveProperty('privateData');
  });

  it('is refused together with what this side does not know', () => {
    expect(registerFaultHandler(device, 0, new Keeper(2))).toBe(-Errno.EINVAL);
    expect(users).toBe(0);
  });
});
