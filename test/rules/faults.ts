// SPDX-License-Identifier: Apache-2.0
/** Chapter C: page faults and the attachments that they come through. */
import { expect } from 'vitest';
import { Errno } from '../../src/base/errno.ts';
import { detach } from '../../src/iommu/attach.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import type { Choices } from '../../src/sim/choices.ts';
import { Sim } from '../../src/sim/sim.ts';
import { attachHandler } from './attach_handler.ts';
import { failEach } from './fail_each.ts';
import { outcome, type Rig } from './rig.ts';
import type { RuleDevice } from './rule_device.ts';
import type { Chapter } from './rules.ts';

const PASID = 5;
const [SUCCESS, INVALID, FAILURE] = [0, 1, 2];
const RESPONSE_BYTES = 8;
const PASIDS = [NO_PASID, PASID];
/** Of the tasks that can run, the oldest or the newest does, and none where the foreground can go on. */
const FIRST_COME: Choices = { choose: () => 0 };
const LAST_COME: Choices = {
  choose: (options, _current, atPoint) => (atPoint ? 0 : options.length - 1),
};
/** How far a page request has come. */
const STAGES = ['sent', 'queued', 'read'] as const;

/** Whether the device's page requests go to anybody. */
const isOn = ({ core }: RuleDevice): boolean => core.faultParam !== undefined;

/** A page fault of group 1 that has come so far; its cookie, where it was read. */
function bring(rig: Rig, to: (typeof STAGES)[number], pasid = NO_PASID) {
  const { device, ioas, faults } = rig.faulting(pasid);
  device.ask(1, { pasid });
  if (to !== 'sent') rig.sim.settle();
  const cookie = to === 'read' ? faults.read()[0]?.cookie : undefined;
  return { device, ioas, faults, cookie };
}

/** A device with a virtual function, which has a fault-capable table. */
function virtual(rig: Rig) {
  const device = rig.bind(1);
  const faults = rig.queue();
  return { device, faults, table: rig.table(device, rig.space(2), { faults }) };
}

export const faultRules: Chapter<'C1' | 'C2' | 'C3' | 'C4' | 'C5'> = {
  C1: [
    {
      says: 'the first fault-capable attachment turns faults on, and the last detach off',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const [ioas, faults] = [rig.space(1), rig.queue()];
        const [plain, capable] = [rig.table(device, ioas), rig.table(device, ioas, { faults })];
        const steps = [
          () => device.attach(plain),
          () => device.attach(capable),
          () => device.attach(capable, PASID),
          () => device.detach(),
          () => device.attach(plain, PASID),
          () => device.attach(capable, PASID),
          () => device.detach(PASID),
        ];
        const seen = steps.map((step, group) => {
          step();
          device.ask(group, { pasid: PASID });
          const isAsked = device.answer(group) === 'none';
          expect(faults.read()).toHaveLength(isAsked ? 1 : 0);
          return [isOn(device), isAsked];
        });
        expect(seen).toEqual([
          [false, false],
          [true, false],
          [true, true],
          [true, true],
          [false, false],
          [true, true],
          [false, false],
        ]);
      },
    },
  ],

  C2: [
    {
      says: 'a fault leads back to the device that asked, in a group and beside it',
      check(make) {
        const rig = make({ devices: [{}, { group: 'shared' }, { group: 'shared' }] });
        const devices = [0, 1, 2].map((i) => rig.bind(i));
        const faults = rig.queue();
        for (const device of devices.slice(0, 2))
          device.attach(rig.table(device, rig.space(1), { faults }));
        for (const [group, device] of devices.entries()) {
          device.ask(group);
          expect(device.answer(group)).toBe('none');
        }
        expect(faults.read().map(({ device, group }) => [group, device])).toEqual(
          devices.map(({ id }, group) => [group, id]),
        );
      },
    },
    {
      says: 'and comes to the queue of the table that is attached at its PASID',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const ioas = rig.space(1);
        const queues = PASIDS.map((pasid) => {
          const faults = rig.queue();
          device.attach(rig.table(device, ioas, { faults }), pasid);
          return faults;
        });
        for (const [group, pasid] of PASIDS.entries()) {
          device.ask(group, { pasid });
          expect(device.answer(group)).toBe('none');
        }
        expect(queues.map((queue) => queue.read())).toMatchObject([
          [{ device: device.id, group: 0, pasid: NO_PASID }],
          [{ device: device.id, group: 1, pasid: PASID }],
        ]);
      },
    },
  ],

  C3: [
    {
      says: 'a virtual function is refused fault-capable tables, attached or replaced',
      check(make) {
        const rig = make({ devices: [{ hasVirtualFunction: true }] });
        const { device, table } = virtual(rig);
        const plain = rig.table(device, rig.space(1));
        for (const pasid of PASIDS) {
          expect(outcome(() => device.attach(table, pasid))).toBe('EINVAL');
          expect(device.read(pasid)).toBeUndefined();
          device.attach(plain, pasid);
          expect(outcome(() => device.attach(table, pasid))).toBe('EINVAL');
          expect(device.read(pasid)).toBe(1);
        }
        const physical = rig.bind(0);
        expect(outcome(() => physical.attach(table))).toBe('OK');
      },
    },
    {
      says: 'where it is emulated, a FAILURE for one pauses that one until its reset, and nobody else',
      check(make) {
        const rig = make({
          devices: [{ hasVirtualFunction: true }],
          vfPageRequests: 'emulate',
        });
        const physical = rig.bind(0);
        const { device, faults, table } = virtual(rig);
        physical.attach(table);
        device.attach(table);
        device.ask(1);
        expect(device.answer(1)).toBe('none');
        const cookie = faults.read()[0]?.cookie ?? 0;
        expect(faults.respond(cookie, FAILURE)).toBe(RESPONSE_BYTES);
        expect(device.answer(1)).toBe('INVALID');
        device.ask(2);
        expect([device.answer(2), faults.read()]).toEqual(['INVALID', []]);
        physical.ask(3);
        expect(physical.answer(3)).toBe('none');
        expect(faults.read()).toMatchObject([{ device: physical.id }]);
        device.core.resetPageRequests();
        device.ask(4);
        expect(device.answer(4)).toBe('none');
        const [fault] = faults.read();
        expect(fault).toMatchObject({ device: device.id });
        faults.respond(fault?.cookie ?? 0, FAILURE);
        device.ask(5);
        expect(device.answer(5)).toBe('INVALID');
        device.detach();
        device.attach(table);
        device.ask(6);
        expect(device.answer(6)).toBe('none');
      },
    },
    {
      says: 'FAILURE is no answer of the descriptor where it is not emulated',
      check(make) {
        const rig = make();
        const { device, faults, cookie = 0 } = bring(rig, 'read');
        expect(faults.respond(cookie, FAILURE)).toBe(-Errno.EINVAL);
        expect(device.answer(1)).toBe('none');
        expect(faults.respond(cookie, INVALID)).toBe(RESPONSE_BYTES);
      },
    },
  ],

  C4: [
    {
      says: 'a detach answers INVALID, once, what was sent, queued or read, and turns faults off',
      check(make) {
        for (const stage of STAGES) {
          for (const pasid of PASIDS) {
            const rig = make();
            const { device, faults, cookie } = bring(rig, stage, pasid);
            device.detach(pasid);
            expect(isOn(device)).toBe(false);
            expect([device.answer(1), device.answers()]).toEqual(['INVALID', 1]);
            expect(faults.read()).toEqual([]);
            if (cookie !== undefined) expect(faults.respond(cookie)).toBe(-Errno.EINVAL);
            expect(device.answers()).toBe(1);
          }
        }
      },
    },
    {
      says: 'what was in the queue of the hardware never comes to the next table',
      check(make) {
        for (const pasid of PASIDS) {
          // The task of the driver that reads the queue gets no turn that is not its own.
          const rig = make({ sim: new Sim({ checkLocks: true, choices: FIRST_COME }) });
          const { device, ioas, faults } = bring(rig, 'sent', pasid);
          const next = rig.queue();
          const table = rig.table(device, ioas, { faults: next });
          rig.arrive();
          device.detach(pasid);
          device.attach(table, pasid);
          expect([device.answer(1), device.answers()]).toEqual(['INVALID', 1]);
          expect([faults.read(), next.read()]).toEqual([[], []]);
        }
      },
    },
    {
      says: 'a detach leaves the faults of other PASIDs',
      check(make) {
        const rig = make();
        const { device, ioas, faults } = bring(rig, 'queued');
        device.attach(rig.table(device, ioas, { faults }), PASID);
        device.ask(2, { pasid: PASID });
        device.detach(PASID);
        expect([device.answer(1), device.answer(2)]).toEqual(['none', 'INVALID']);
        expect(faults.read()).toMatchObject([{ group: 1 }]);
      },
    },
    {
      says: 'what no handler has taken is answered when faults go off',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const domain = attachHandler(device, { handle: () => 0 });
        device.ask(1);
        expect(device.answer(1)).toBe('none');
        detach(device.core, NO_PASID, domain);
        expect([device.answer(1), device.answers()]).toEqual(['INVALID', 1]);
      },
    },
    {
      says: 'a fault that a process is at work on is handled before its PASID goes',
      on: ['paging', 'vtd'],
      check(make) {
        for (const choices of [FIRST_COME, LAST_COME]) {
          const rig = make({ sim: new Sim({ checkLocks: true, choices }) });
          const device = rig.bind();
          const mm = rig.process();
          const bond = rig.core.sva.bind(device.core, mm);
          if (typeof bond === 'number') throw new Error(`bind: ${bond}`);
          device.ask(1, { pasid: bond.pasid });
          rig.sim.waitUntil(() => (device.core.faultParam?.unanswered.size ?? 0) > 0);
          rig.core.sva.unbind(bond);
          expect([device.answer(1), device.answers(), mm.pageFaults]).toEqual(['SUCCESS', 1, 1]);
          expect(isOn(device)).toBe(false);
        }
      },
    },
  ],

  C5: [
    {
      says: 'a replace answers the faults of the old table, to whatever kind of table',
      check(make) {
        for (const stage of STAGES) {
          for (const pasid of PASIDS) {
            for (const isCapable of [false, true]) {
              const rig = make();
              const { device, ioas, faults, cookie } = bring(rig, stage, pasid);
              const other = rig.queue();
              const options = isCapable ? { faults: other } : {};
              device.attach(rig.table(device, ioas, options), pasid);
              expect([device.answer(1), device.answers()]).toEqual(['INVALID', 1]);
              expect([isOn(device), faults.read()]).toEqual([isCapable, []]);
              if (cookie !== undefined) expect(faults.respond(cookie)).toBe(-Errno.EINVAL);
              device.ask(2, { pasid });
              expect(device.answer(2) === 'none').toBe(isCapable);
              expect(other.read()).toHaveLength(isCapable ? 1 : 0);
            }
          }
        }
      },
    },
    {
      says: 'a replace that fails leaves faults off that were off',
      check(make) {
        for (const pasid of PASIDS) {
          const failed = failEach(make, {}, (rig) => {
            const device = rig.bind();
            const [ioas, faults] = [rig.space(1), rig.queue()];
            device.attach(rig.table(device, ioas), pasid);
            const next = rig.table(device, ioas, { faults });
            return {
              call: () => device.attach(next, pasid),
              look: () => [isOn(device), device.read(pasid)],
              checkSuccess: () => expect(isOn(device)).toBe(true),
            };
          });
          expect(failed).toBeGreaterThan(0);
        }
      },
    },
    {
      says: 'and those on that were on, with what waits for its answer',
      // Elsewhere nothing can fail on the way from a fault-capable table.
      on: ['vtd'],
      check(make) {
        for (const pasid of PASIDS) {
          for (const isCapable of [false, true]) {
            const failed = failEach(make, {}, (rig) => {
              const { device, ioas, faults, cookie = 0 } = bring(rig, 'read', pasid);
              const next = rig.table(device, ioas, isCapable ? { faults: rig.queue() } : {});
              return {
                call: () => device.attach(next, pasid),
                look: () => [isOn(device), device.answer(1), device.answers(), device.read(pasid)],
                checkSuccess() {
                  expect([isOn(device), device.answer(1)]).toEqual([isCapable, 'INVALID']);
                  expect(faults.respond(cookie, SUCCESS)).toBe(-Errno.EINVAL);
                },
              };
            });
            expect(failed).toBeGreaterThan(0);
          }
        }
      },
    },
  ],
};
