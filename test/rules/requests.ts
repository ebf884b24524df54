// SPDX-License-Identifier: Apache-2.0
/** Chapter C: page requests and their groups, and how an answer finds its group. */
import { expect } from 'vitest';
import { Errno } from '../../src/base/errno.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import { PageRequestFlags, PageResponseCode } from '../../src/iommu/fault.ts';
import { registerFaultHandler } from '../../src/iommu/fault_registration.ts';
import { respondToDevice } from '../../src/iommu/io_pgfault.ts';
import { attachHandler } from './attach_handler.ts';
import { IOVA, PAGE } from './rule_device.ts';
import type { Chapter } from './rules.ts';

const PASID = 5;
const RESPONSE_BYTES = 8;
/** Requests that the queue of VT-d has room for, as its driver sets it up. */
const QUEUE = 2048;
const { SUCCESS, INVALID } = PageResponseCode;
const { LAST_PAGE } = PageRequestFlags;

export const requestRules: Chapter<'C6' | 'C8'> = {
  C6: [
    {
      says: 'a group is delivered with its last request, as a whole and in order',
      check(make) {
        const rig = make();
        const { device, faults } = rig.faulting(NO_PASID);
        device.ask(1, { last: false });
        device.ask(2, { last: false });
        device.ask(1, { page: 1, last: false });
        rig.sim.settle();
        expect(faults.read()).toEqual([]);
        device.ask(1, { page: 2 });
        expect(device.answer(1)).toBe('none');
        const at = (page: number) => IOVA + BigInt(page * PAGE);
        expect(faults.read().map(({ group, flags, addr }) => [group, flags, addr])).toEqual([
          [1, 0, at(0)],
          [1, 0, at(1)],
          [1, LAST_PAGE, at(2)],
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
        const { device, faults } = rig.faulting(NO_PASID);
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
        attachHandler(device, { handle: () => 0 });
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
        const { device, faults } = rig.faulting(NO_PASID);
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
};
