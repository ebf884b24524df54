// SPDX-License-Identifier: Apache-2.0
/** Chapter C: what answers there are to page requests, that there is one, and by when. */
import { expect } from 'vitest';
import { Errno } from '../../src/base/errno.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import { type PageRequest, PageRequestFlags, PageResponseCode } from '../../src/iommu/fault.ts';
import type { IopfGroup } from '../../src/iommu/io_pgfault.ts';
import { reportDeviceFault } from '../../src/iommu/io_pgfault.ts';
import { attachHandler } from './attach_handler.ts';
import { IOVA } from './rule_device.ts';
import type { Chapter } from './rules.ts';

const PASID = 5;
const RESPONSE_BYTES = 8;
const MS = 1e6;
const { SUCCESS, INVALID, FAILURE } = PageResponseCode;

/** A whole group as a driver reports it. */
const request = (grpid: number): PageRequest => {
  return { flags: PageRequestFlags.LAST_PAGE, pasid: NO_PASID, grpid, perm: 1, addr: IOVA };
};

export const answerRules: Chapter<'C7' | 'C10' | 'C13'> = {
  C7: [
    {
      says: 'SUCCESS lets the device go on, INVALID ends its access, and there is nothing else',
      check(make) {
        const rig = make();
        const { device, faults } = rig.faulting(NO_PASID);
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
        attachHandler(device, {
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

  C10: [
    {
      says: 'what nobody answers is INVALID when its time is out, and the late answer is spurious',
      check(make) {
        const rig = make({ pageResponseTimeoutMs: 100 });
        const device = rig.bind();
        const faults = rig.queue();
        device.attach(rig.table(device, rig.space(1), { faults }));
        for (const group of [1, 2, 3]) device.ask(group);
        rig.sim.settle();
        const [first, second, third] = [1, 2, 3];
        const cookies = faults.read().map(({ cookie }) => cookie);
        faults.respond(cookies[2] ?? 0);
        device.ask(4);
        rig.sim.settle();
        const wait = (ms: number) => {
          rig.sim.clock.advanceBy(ms * MS);
          rig.sim.settle();
        };
        wait(90);
        expect(device.answer(first)).toBe('none');
        wait(20);
        const seen = [first, second, third, 4].map((group) => device.answer(group));
        expect(seen).toEqual(['INVALID', 'INVALID', 'SUCCESS', 'INVALID']);
        expect([rig.core.timedOutPageRequests, faults.read()]).toEqual([3, []]);
        expect(faults.respond(cookies[0] ?? 0)).toBe(-Errno.EINVAL);
        expect([rig.core.spuriousPageResponses, device.answers()]).toEqual([1, 4]);
        device.ask(5);
        rig.sim.settle();
        expect(rig.sim.clock.nextDue).toBeDefined();
        faults.respond(faults.read()[0]?.cookie ?? 0);
        rig.sim.settle();
        expect(rig.sim.clock.nextDue).toBeUndefined();
      },
    },
    {
      says: 'unless told, a fault waits for ever',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const faults = rig.queue();
        device.attach(rig.table(device, rig.space(1), { faults }));
        device.ask(1);
        rig.sim.settle();
        rig.sim.clock.advanceBy(365 * 24 * 3600 * 1000 * MS);
        rig.sim.settle();
        expect([device.answer(1), faults.read().length]).toEqual(['none', 1]);
      },
    },
  ],

  C13: [
    {
      says: 'a group has one answer, also where its time is out, or it ends, before it is answered',
      check(make) {
        const rig = make({ pageResponseTimeoutMs: 100 });
        const { device, faults } = rig.faulting(NO_PASID);
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
        attachHandler(device, { handle: () => -Errno.ENOSPC });
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
        const { device, faults } = rig.faulting(NO_PASID, PASID);
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
      says: 'a stop marker is no request, and has no answer',
      on: ['paging', 'vtd'],
      check(make) {
        const rig = make();
        const { faults } = rig.faulting(NO_PASID, PASID);
        const [fn] = rig.machine.pciDevices;
        const answers: unknown[] = [];
        rig.machine.dmaObserver = { groupResponse: (...answer) => answers.push(answer) };
        fn?.config.write(4, 2, 6);
        const pasid = { value: PASID, execute: false, privileged: false };
        const marker = { pasid, group: 1, address: 0n, read: false, write: false, last: true };
        expect(fn?.atsPort.pageRequest(marker)).toBeUndefined();
        rig.sim.settle();
        expect([answers, faults.read()]).toEqual([[], []]);
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
