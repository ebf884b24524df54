// SPDX-License-Identifier: Apache-2.0
/** Chapter C: page requests, their groups and their answers. */
import { expect } from 'vitest';
import { Errno } from '../../src/base/errno.ts';
import { allocUserDomain } from '../../src/iommu/alloc.ts';
import { attach } from '../../src/iommu/attach.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import {
  type FaultHandler,
  type PageRequest,
  PageRequestFlags,
  PageResponseCode,
} from '../../src/iommu/fault.ts';
import { registerFaultHandler } from '../../src/iommu/fault_registration.ts';
import { AttachHandle } from '../../src/iommu/handle.ts';
import type { IopfGroup } from '../../src/iommu/io_pgfault.ts';
import { reportDeviceFault, respondToDevice } from '../../src/iommu/io_pgfault.ts';
import type { Rig } from './rig.ts';
import { IOVA, type RuleDevice } from './rule_device.ts';
import type { Chapter } from './rules.ts';

const PASID = 5;
const RESPONSE_BYTES = 8;
/** Requests that the queue of VT-d has room for, as its driver sets it up. */
const QUEUE = 2048;
const { SUCCESS, INVALID, FAILURE } = PageResponseCode;
const { LAST_PAGE } = PageRequestFlags;

/** A device with fault-capable tables, all of one queue. */
function faulting(rig: Rig, ...pasids: readonly number[]) {
  const device = rig.bind();
  const [ioas, faults] = [rig.space(1), rig.queue()];
  for (const pasid of [NO_PASID, ...pasids])
    device.attach(rig.table(device, ioas, { faults }), pasid);
  return { device, faults };
}

/** Attaches a domain whose faults go to a handler of the test. */
function attachTo({ core }: RuleDevice, faultHandler: FaultHandler): void {
  const domain = allocUserDomain(core, { flags: 0, faultHandler });
  if (typeof domain === 'number') throw new Error(`refused: ${domain}`);
  expect(attach(core, NO_PASID, domain, new AttachHandle())).toBe(0);
}

/** A whole group as a driver reports it. */
const request = (grpid: number): PageRequest => {
  return { flags: LAST_PAGE, pasid: NO_PASID, grpid, perm: 1, addr: IOVA };
};

export const requestRules: Chapter<'C6' | 'C7' | 'C8' | 'C13'> = {
  C6: [
    {
      says: 'a group is delivered with its last request, as a whole and in order',
      check(make) {
        const rig = make();
        const { device, faults } = faulting(rig);
        device.ask(1, { last: false });
        device.ask(2, { last: false });
        device.ask(1, { last: false });
        rig.sim.settle();
        expect(faults.read()).toEqual([]);
        device.ask(1);
        expect(device.answer(1)).toBe('none');
        expect(faults.read().map(({ group, flags }) => [group, flags])).toEqual([
          [1, 0],
          [1, 0],
          [1, LAST_PAGE],
        ]);
        device.ask(2);
        expect(device.answer(2)).toBe('none');
        const second = faults.read();
        expect(second).toHaveLength(2);
        faults.respond(second[0]?.cookie ?? 0);
        expect(device.answer(2)).toBe('SUCCESS');
        device.ask(2);
        expect(device.answer(2)).toBe('none');
        expect(faults.read()).toHaveLength(1);
      },
    },
    {
      says: 'requests that were never completed go with the attachment',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const [ioas, faults] = [rig.space(1), rig.queue()];
        const table = rig.table(device, ioas, { faults });
        device.attach(table);
        device.ask(1, { last: false });
        rig.sim.settle();
        device.detach();
        device.attach(table);
        device.ask(1);
        expect(device.answer(1)).toBe('none');
        expect(faults.read()).toHaveLength(1);
      },
    },
    {
      says: 'and with the handler that was registered for them',
      check(make) {
        const rig = make();
        const device = rig.attached(NO_PASID, PASID);
        const sizes: number[] = [];
        const user = {
          report(records: readonly unknown[]) {
            sizes.push(records.length);
            return 0;
          },
        };
        const [first, kept] = [
          registerFaultHandler(device.core, NO_PASID, user),
          registerFaultHandler(device.core, PASID, user),
        ];
        if (typeof first === 'number' || typeof kept === 'number') throw new Error('refused');
        device.ask(1, { last: false });
        device.ask(2, { pasid: PASID, last: false });
        rig.sim.settle();
        first.unregister();
        registerFaultHandler(device.core, NO_PASID, user);
        device.ask(1);
        device.ask(2, { pasid: PASID });
        rig.sim.settle();
        expect(sizes).toEqual([1, 2]);
      },
    },
    {
      says: 'an overflow of the queue drops the requests that it may have cut off',
      on: ['vtd'],
      check(make) {
        const shape = { pageRequestCapacity: QUEUE };
        const rig = make({ devices: [shape, shape] });
        const { device, faults } = faulting(rig);
        rig.bind(1).attach(rig.table(device, rig.space(2), { faults }));
        device.ask(1, { last: false });
        rig.sim.settle();
        const [, other] = rig.machine.pciDevices;
        other?.config.write(4, 2, 6);
        const part = { pasid: undefined, group: 2, address: IOVA, read: true, write: false };
        for (let i = 0; i < QUEUE; i++)
          expect(other?.atsPort.pageRequest({ ...part, last: false })).toBeUndefined();
        rig.sim.settle();
        device.ask(1);
        expect(device.answer(1)).toBe('none');
        expect(faults.read()).toHaveLength(1);
      },
    },
  ],

  C7: [
    {
      says: 'SUCCESS lets the device go on, INVALID ends its access, and there is nothing else',
      check(make) {
        const rig = make();
        const { device, faults } = faulting(rig);
        for (const group of [0, 1, 2]) device.ask(group);
        rig.sim.settle();
        const cookies = faults.read().map(({ cookie }) => cookie);
        for (const code of [2, 7, 0xffff_ffff])
          expect(faults.respond(cookies[0] ?? 0, code)).toBe(-Errno.EINVAL);
        expect(device.answers()).toBe(0);
        for (const code of [SUCCESS, INVALID])
          expect(faults.respond(cookies[code] ?? 0, code)).toBe(RESPONSE_BYTES);
        const seen = [0, 1, 2].map((group) => device.answer(group));
        expect(seen).toEqual(['SUCCESS', 'INVALID', 'none']);
      },
    },
    {
      says: 'FAILURE stops the page requests of a device that can be stopped',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const groups: IopfGroup[] = [];
        attachTo(device, {
          handle(group) {
            groups.push(group);
            return 0;
          },
        });
        device.ask(1);
        device.ask(2);
        rig.sim.settle();
        expect(groups[0]?.respond(FAILURE)).toBe(true);
        expect([device.answer(1), device.answer(2)]).toEqual(['FAILURE', 'none']);
        device.ask(3);
        // A device of the test driver has no interface that could stop.
        const isStopped = rig.hardware !== 'mock';
        expect(device.answer(3)).toBe(isStopped ? 'FAILURE' : 'none');
        expect(groups).toHaveLength(isStopped ? 2 : 3);
      },
    },
  ],

  C8: [
    {
      says: 'an answer names its group and PASID, or never reaches the device and is counted',
      check(make) {
        const rig = make();
        const device = rig.attached(NO_PASID, PASID);
        const user = { report: () => 0 };
        const [none, seven] = [NO_PASID, PASID].map((id) =>
          registerFaultHandler(device.core, id, user),
        );
        if (typeof none !== 'object' || typeof seven !== 'object') throw new Error('refused');
        device.ask(1);
        device.ask(2, { pasid: PASID });
        rig.sim.settle();
        const code = SUCCESS;
        const wrong = [
          none.respond({ pasid: NO_PASID, grpid: 2, code }),
          none.respond({ pasid: NO_PASID, grpid: 3, code }),
          seven.respond({ pasid: PASID, grpid: 1, code }),
          seven.respond({ pasid: PASID + 1, grpid: 2, code }),
        ];
        expect(new Set(wrong)).toEqual(new Set([-Errno.EINVAL]));
        expect([rig.core.spuriousPageResponses, device.answers()]).toEqual([4, 0]);
        expect(none.respond({ pasid: NO_PASID, grpid: 1, code })).toBe(0);
        expect(seven.respond({ pasid: PASID, grpid: 2, code })).toBe(0);
        expect([device.answer(1), device.answer(2)]).toEqual(['SUCCESS', 'SUCCESS']);
        expect(none.respond({ pasid: NO_PASID, grpid: 1, code })).toBe(-Errno.EINVAL);
        expect([rig.core.spuriousPageResponses, device.answers()]).toEqual([5, 2]);
      },
    },
    {
      says: 'and gives back the private data that the request had',
      check(make) {
        const rig = make({ privateData: true });
        const device = rig.bind();
        attachTo(device, { handle: () => 0 });
        device.ask(1, { privateData: 7n });
        rig.sim.settle();
        const answer = { pasid: NO_PASID, grpid: 1, code: SUCCESS };
        expect(respondToDevice(device.core, answer)).toBe(-Errno.EINVAL);
        expect(respondToDevice(device.core, { ...answer, privateData: 8n })).toBe(-Errno.EINVAL);
        expect([rig.core.spuriousPageResponses, device.answers()]).toEqual([2, 0]);
        expect(respondToDevice(device.core, { ...answer, privateData: 7n })).toBe(0);
        expect([device.answer(1), device.answeredData()]).toEqual(['SUCCESS', 7n]);
      },
    },
    {
      says: 'on the descriptor the cookie is the match, and good once',
      check(make) {
        const rig = make();
        const { device, faults } = faulting(rig);
        device.ask(1);
        device.ask(2);
        rig.sim.settle();
        const [first, second] = faults.read().map(({ cookie }) => cookie);
        expect(faults.respond(99)).toBe(-Errno.EINVAL);
        expect(faults.respond(first ?? 0)).toBe(RESPONSE_BYTES);
        expect(faults.respond(first ?? 0)).toBe(-Errno.EINVAL);
        expect(device.answers()).toBe(1);
        expect(rig.core.spuriousPageResponses).toBe(0);
        device.ask(3);
        rig.sim.settle();
        expect(faults.read()).toMatchObject([{ group: 3, cookie: first }]);
        expect(faults.respond(second ?? 0, INVALID)).toBe(RESPONSE_BYTES);
        const seen = [1, 2, 3].map((group) => device.answer(group));
        expect(seen).toEqual(['SUCCESS', 'INVALID', 'none']);
      },
    },
  ],

  C13: [
    {
      says: 'a group has one answer, also where its time is out, or it ends, before it is answered',
      check(make) {
        const rig = make({ pageResponseTimeoutMs: 100 });
        const { device, faults } = faulting(rig);
        device.ask(1);
        rig.sim.settle();
        const cookie = faults.read()[0]?.cookie ?? 0;
        rig.sim.clock.advanceBy(100e6);
        rig.sim.settle();
        expect(faults.respond(cookie)).toBe(-Errno.EINVAL);
        device.detach();
        expect([device.answer(1), device.answers()]).toEqual(['INVALID', 1]);
      },
    },
    {
      says: 'a handler that fails is FAILURE, nobody to handle it INVALID, and the driver never answers',
      check(make) {
        const rig = make();
        const device = rig.bind();
        expect(reportDeviceFault(device.core, request(1))).toBe(-Errno.EINVAL);
        expect(rig.responses(device.core)).toMatchObject([{ grpid: 1, code: INVALID }]);
        attachTo(device, { handle: () => -Errno.ENOSPC });
        device.ask(2);
        expect(device.answer(2)).toBe('FAILURE');
        expect(reportDeviceFault(device.core, request(3))).toBe(0);
        expect(rig.responses(device.core).slice(1)).toMatchObject([
          { grpid: 2, code: FAILURE },
          { grpid: 3, code: FAILURE },
        ]);
      },
    },
    {
      says: 'a group that nobody handles is answered with its last request, and leaves none behind',
      check(make) {
        const rig = make();
        const { device, faults } = faulting(rig, PASID);
        device.ask(1, { pasid: PASID, last: false });
        rig.sim.settle();
        device.attach(rig.table(device, rig.space(2)), PASID);
        const before = device.answers();
        device.ask(2, { pasid: PASID, last: false });
        rig.sim.settle();
        expect(device.answers()).toBe(before);
        device.ask(2, { pasid: PASID });
        device.ask(1, { pasid: PASID });
        expect([device.answer(1), device.answer(2)]).toEqual(['INVALID', 'INVALID']);
        expect(device.answers()).toBe(before + 2);
        for (const group of [1, 2]) {
          device.ask(group);
          expect(device.answer(group)).toBe('none');
        }
        expect(faults.read()).toHaveLength(2);
      },
    },
    {
      says: 'the exit of a process in the middle of a fault of its device is one answer too',
      on: ['paging', 'vtd'],
      check(make) {
        const rig = make();
        const device = rig.bind();
        const mm = rig.process();
        const bond = rig.core.sva.bind(device.core, mm);
        if (typeof bond === 'number') throw new Error(`bind: ${bond}`);
        device.ask(1, { pasid: bond.pasid });
        mm.exit();
        expect([device.answer(1), device.answers()]).toEqual(['INVALID', 1]);
        rig.core.sva.unbind(bond);
        expect(device.answers()).toBe(1);
      },
    },
  ],
};
