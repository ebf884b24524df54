// SPDX-License-Identifier: Apache-2.0
/** Chapter C: handlers that are registered on a device, what they are told, and for how long. */
import { expect } from 'vitest';
import { Errno } from '../../src/base/errno.ts';
import { PageRequestFlags, PageResponseCode } from '../../src/iommu/fault.ts';
import {
  decodeFault,
  encodeFault,
  FaultReason,
  type FaultRecord,
} from '../../src/iommu/fault_record.ts';
import {
  FaultFeature,
  type FaultRegistration,
  registerFaultHandler,
  reportUnrecoverableFault,
  UNRECOVERABLE_FAULTS,
} from '../../src/iommu/fault_registration.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import { respondToDevice } from '../../src/iommu/io_pgfault.ts';
import { outcome, type Rig } from './rig.ts';
import { IOVA, type RuleDevice } from './rule_device.ts';
import type { Chapter } from './rules.ts';

const PASID = 5;
const { SUCCESS } = PageResponseCode;
const { LAST_PAGE, PRIVATE_DATA } = PageRequestFlags;
const SECRET = 0x0123_4567_89ab_cdef_0011_2233_4455_6677n;
/** Nothing is mapped there. */
const NOWHERE = 0x300_0000n;

/** Registers a handler; `told` has what it was told. */
function register(device: RuleDevice, id: number, features = 0) {
  const told: FaultRecord[] = [];
  const registration = registerFaultHandler(device.core, id, {
    features,
    report(records) {
      told.push(...records);
      return 0;
    },
  });
  if (typeof registration === 'number') throw new Error(`refused: ${registration}`);
  return { registration, told };
}

/** The groups of the page requests in records. */
const groupsOf = (told: readonly FaultRecord[]): number[] =>
  told.flatMap((record) => (record.type === 'page request' ? [record.request.grpid] : []));

const answer = (registration: FaultRegistration, grpid: number, pasid = NO_PASID): number =>
  registration.respond({ pasid, grpid, code: SUCCESS });

/** An access that the hardware refuses; where there is no model of the hardware, its driver says so. */
function refuse({ hardware, sim }: Rig, device: RuleDevice): void {
  expect(device.read(NO_PASID, NOWHERE)).toBeUndefined();
  const fault = { reason: FaultReason.ENTRY_FETCH, perm: 1, addr: NOWHERE };
  if (hardware !== 'vtd') reportUnrecoverableFault(device.core, fault);
  sim.settle();
}

export const handlerRules: Chapter<'C9' | 'C11' | 'C12' | 'C14'> = {
  C9: [
    {
      says: 'a token stands in for private data, which the device gets back',
      check(make) {
        const rig = make({ privateData: true });
        const device = rig.attached(NO_PASID);
        const { registration, told } = register(device, NO_PASID, FaultFeature.PRIVATE_DATA);
        for (const group of [1, 2]) device.ask(group, { privateData: SECRET });
        rig.sim.settle();
        const [first, second] = told.map((record) =>
          record.type === 'page request' ? record.request.privateData : undefined,
        );
        if (first === undefined || second === undefined) throw new Error('no tokens');
        expect(new Set([first, second, SECRET]).size).toBe(3);
        const response = { pasid: NO_PASID, grpid: 1, code: SUCCESS };
        const wrong = [{}, { privateData: second }, { privateData: SECRET }];
        for (const data of wrong)
          expect(registration.respond({ ...response, ...data })).toBe(-Errno.EINVAL);
        expect(device.answers()).toBe(0);
        expect(registration.respond({ ...response, privateData: first })).toBe(0);
        expect([device.answer(1), device.answeredData()]).toEqual(['SUCCESS', SECRET]);
      },
    },
    {
      says: 'a user that has not announced that it knows of tokens sees none',
      check(make) {
        const rig = make({ privateData: true });
        const device = rig.attached(NO_PASID);
        const { registration, told } = register(device, NO_PASID);
        device.ask(1, { privateData: SECRET });
        rig.sim.settle();
        expect(told).toMatchObject([{ request: { flags: LAST_PAGE } }]);
        expect(told[0]).not.toHaveProperty('request.privateData');
        expect(answer(registration, 1)).toBe(0);
        expect([device.answer(1), device.answeredData()]).toEqual(['SUCCESS', SECRET]);
        const unknown = { features: 1 << 8, report: () => 0 };
        expect(registerFaultHandler(device.core, PASID, unknown)).toBe(-Errno.EINVAL);
      },
    },
    {
      says: 'nor does a program that reads its fault queue',
      check(make) {
        const rig = make({ privateData: true });
        const device = rig.bind();
        const faults = rig.queue();
        device.attach(rig.table(device, rig.space(1), { faults }));
        device.ask(1, { privateData: SECRET });
        rig.sim.settle();
        const [fault] = faults.read();
        expect(fault).toMatchObject({ group: 1, flags: LAST_PAGE });
        faults.respond(fault?.cookie ?? 0);
        expect([device.answer(1), device.answeredData()]).toEqual(['SUCCESS', SECRET]);
      },
    },
  ],

  C11: [
    {
      says: 'a handler goes at once: what waits is INVALID, and later answers are spurious',
      check(make) {
        const rig = make();
        const device = rig.attached(NO_PASID, PASID, PASID + 1);
        const [none, five] = [register(device, NO_PASID), register(device, PASID)];
        device.ask(1);
        device.ask(2, { pasid: PASID });
        rig.sim.settle();
        five.registration.unregister();
        expect([device.answer(1), device.answer(2)]).toEqual(['none', 'INVALID']);
        expect(answer(five.registration, 2, PASID)).toBe(-Errno.EINVAL);
        expect([rig.core.spuriousPageResponses, device.answers()]).toEqual([1, 1]);
        none.registration.unregister();
        expect([device.answer(1), device.answers()]).toEqual(['INVALID', 2]);
        expect(device.core.faultParam).toBeUndefined();
        device.ask(3);
        expect(device.answer(3)).not.toBe('none');
      },
    },
    {
      says: 'an answer of one life is refused in the next, though the group has its number again',
      check(make) {
        const rig = make();
        const device = rig.attached(NO_PASID, PASID, PASID + 1);
        const first = register(device, NO_PASID);
        device.ask(1);
        device.ask(2, { last: false });
        rig.sim.settle();
        first.registration.unregister();
        expect(device.answer(1)).toBe('INVALID');
        const second = register(device, NO_PASID);
        device.ask(1);
        device.ask(2);
        rig.sim.settle();
        expect(answer(first.registration, 1)).toBe(-Errno.EINVAL);
        const nobodys = { pasid: NO_PASID, grpid: 1, code: SUCCESS };
        expect(respondToDevice(device.core, nobodys)).toBe(-Errno.EINVAL);
        expect(device.answer(1)).toBe('none');
        expect(answer(second.registration, 1)).toBe(0);
        expect(device.answer(1)).toBe('SUCCESS');
        expect([groupsOf(first.told), groupsOf(second.told)]).toEqual([[1], [1, 2]]);
      },
    },
  ],

  C12: [
    {
      says: 'a report goes to the handler of its id',
      check(make) {
        const rig = make();
        const device = rig.attached(NO_PASID, PASID, PASID + 1);
        const [none, five, hard] = [NO_PASID, PASID, UNRECOVERABLE_FAULTS].map((id) =>
          register(device, id),
        );
        device.ask(1);
        device.ask(2, { pasid: PASID });
        device.ask(3, { pasid: PASID + 1 });
        rig.sim.settle();
        expect([groupsOf(none?.told ?? []), groupsOf(five?.told ?? [])]).toEqual([[1], [2]]);
        expect(device.answer(3)).toBe('INVALID');
        refuse(rig, device);
        expect(hard?.told).toMatchObject([{ type: 'unrecoverable', fault: { addr: NOWHERE } }]);
        expect([none?.told.length, five?.told.length]).toEqual([1, 1]);
      },
    },
    {
      says: 'an id has one handler, or one fault-capable table',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const user = { report: () => 0 };
        const table = rig.table(device, rig.space(1), { faults: rig.queue() });
        for (const pasid of [NO_PASID, PASID]) {
          const { registration } = register(device, pasid);
          expect(registerFaultHandler(device.core, pasid, user)).toBe(-Errno.EBUSY);
          expect(outcome(() => device.attach(table, pasid))).toBe('EBUSY');
          registration.unregister();
          device.attach(table, pasid);
          expect(registerFaultHandler(device.core, pasid, user)).toBe(-Errno.EBUSY);
        }
      },
    },
    {
      says: 'an id is a PASID that the device can send, or the one of all ones',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const user = { report: () => 0 };
        for (const id of [-1, 2 ** 20, UNRECOVERABLE_FAULTS - 1])
          expect(registerFaultHandler(device.core, id, user)).toBe(-Errno.EINVAL);
        for (const id of [2 ** 20 - 1, UNRECOVERABLE_FAULTS])
          expect(registerFaultHandler(device.core, id, user)).toBeTypeOf('object');
      },
    },
  ],

  C14: [
    {
      says: 'a page request is told in 64 bytes, whose flags say what is valid',
      check(make) {
        const rig = make();
        const device = rig.attached(NO_PASID, PASID, PASID + 1);
        const { told } = register(device, PASID, FaultFeature.PRIVATE_DATA);
        device.ask(3, { pasid: PASID });
        rig.sim.settle();
        const words = told.map((record) => [
          ...new Uint32Array(encodeFault(record).buffer as ArrayBuffer),
        ]);
        // Type, padding; flags (PASID, last), PASID, group, permissions, address; the rest is 0.
        const zeros = Array.from({ length: 8 }, () => 0);
        expect(words).toEqual([[2, 0, 3, PASID, 3, 1, Number(IOVA), 0, ...zeros]]);
      },
    },
    {
      says: 'and so is what the hardware refused, with the reason, the access and the address',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const { told } = register(device, UNRECOVERABLE_FAULTS);
        refuse(rig, device);
        const [record] = told;
        if (record?.type !== 'unrecoverable') throw new Error('nothing was told');
        const { fault } = record;
        expect(Object.values(FaultReason)).toContain(fault.reason);
        const words = new Uint32Array(encodeFault(record).buffer as ArrayBuffer);
        // Type, padding; reason, flags (address), PASID, permissions, address, address of the entry.
        expect([...words.subarray(0, 10)]).toEqual([
          ...[1, 0, fault.reason, 2, 0, 1, Number(NOWHERE), 0, 0, 0],
        ]);
      },
    },
    {
      says: 'records can grow, and not shrink',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const { told } = register(device, UNRECOVERABLE_FAULTS);
        const fault = {
          ...{ reason: FaultReason.PERMISSION, perm: 2 | 8, pasid: PASID },
          ...{ addr: IOVA, fetchAddr: SECRET & 0xffff_ffff_ffff_f000n },
        };
        reportUnrecoverableFault(device.core, fault);
        const [record] = told;
        if (!record) throw new Error('nothing was told');
        const bytes = encodeFault(record);
        const longer = new Uint8Array(bytes.length + 8);
        longer.set(bytes);
        expect(decodeFault(longer)).toEqual(record);
        expect(record).toEqual({ type: 'unrecoverable', fault });
        expect(decodeFault(bytes.subarray(0, bytes.length - 1))).toBe(-Errno.EINVAL);
        const page = {
          type: 'page request' as const,
          request: {
            ...{ flags: LAST_PAGE | PRIVATE_DATA, pasid: 0, grpid: 9, perm: 4, addr: IOVA },
            privateData: SECRET,
          },
        };
        expect(decodeFault(encodeFault(page))).toEqual(page);
      },
    },
  ],
};
