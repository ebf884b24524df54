// SPDX-License-Identifier: Apache-2.0
/** Chapter B: attach, detach, replace; those rules that a device's DMA shows. */
import { expect, vi } from 'vitest';
import * as t from '../../src/abi/iommufd_test.ts';
import { Errno } from '../../src/base/errno.ts';
import { attachHandleAt, attach, replace } from '../../src/iommu/attach.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import { DomainType } from '../../src/iommu/domain.ts';
import { AttachHandle } from '../../src/iommu/handle.ts';
import { replaceDevice } from '../../src/iommufd/change_pt.ts';
import { Endpoint } from './endpoint.ts';
import { failEach } from './fail_each.ts';
import { outcome, type Rig } from './rig.ts';
import { PAGE, type RuleDevice } from './rule_device.ts';
import type { Chapter } from './rules.ts';

const PASID = 5;
const SHARED = [{ group: 'shared' }, { group: 'shared' }];
/** Bits of an attachment: with a PASID, and fault-capable. */
const WAYS = [
  { pasid: 0, isCapable: false },
  { pasid: 0, isCapable: true },
  { pasid: PASID, isCapable: false },
  { pasid: PASID, isCapable: true },
];

/** What two devices reach, without PASID and with. */
const reach = (...devices: readonly RuleDevice[]) =>
  devices.map((device) => [device.read(), device.read(PASID)]);

/** Attaches, or replaces, by an ioctl, and answers what came back in the structure. */
function attachCall(rig: Rig): (pt_id: number) => { value: number; pt_id: number } {
  if (rig.hardware !== 'mock') {
    const device = rig.bind();
    if (!(device instanceof Endpoint)) throw new Error('no endpoint');
    return (pt_id) => {
      const { result, reply } = device.vfio.tryCall('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id });
      return { value: result.value, pt_id: reply.pt_id };
    };
  }
  const made = rig.client.call('IOMMU_TEST_CMD', {
    op: t.IOMMU_TEST_OP_MOCK_DOMAIN,
    id: rig.space(9),
  });
  const id = made.u.mock_domain.out_stdev_id;
  return (pt_id) => {
    const op = t.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE;
    const u = { mock_domain_replace: { pt_id } };
    const { result, reply } = rig.client.tryCall('IOMMU_TEST_CMD', { op, id, u });
    return { value: result.value, pt_id: reply.u.mock_domain_replace.pt_id };
  };
}

export const attachRules: Chapter<'B1' | 'B2' | 'B3' | 'B4' | 'B8' | 'B10'> = {
  B1: [
    {
      says: 'one call attaches with and without PASID, fault-capable or not',
      check(make) {
        for (const { pasid, isCapable } of WAYS) {
          const rig = make();
          const device = rig.bind();
          const faults = rig.queue();
          const table = rig.table(device, rig.space(1), isCapable ? { faults } : {});
          device.attach(table, pasid);
          expect([device.read(0), device.read(PASID)]).toEqual(
            pasid === 0 ? [1, undefined] : [undefined, 1],
          );
          device.ask(1, { pasid });
          expect(device.answer(1) === 'none').toBe(isCapable);
          expect(faults.read().map((fault) => fault.pasid)).toEqual(isCapable ? [pasid] : []);
          device.detach(pasid);
          expect(reach(device)).toEqual([[undefined, undefined]]);
        }
      },
    },
    {
      says: 'whoever asks for the handle of a kind of domain gets no other',
      check(make) {
        const rig = make();
        const device = rig.bind();
        device.attach(rig.space(1));
        const { group } = device.core;
        if (!group) throw new Error('no group');
        expect(attachHandleAt(group, NO_PASID, DomainType.UNMANAGED)).toBeInstanceOf(AttachHandle);
        expect(attachHandleAt(group, NO_PASID, DomainType.NESTED)).toBe(-Errno.EBUSY);
        expect(attachHandleAt(group, PASID)).toBe(-Errno.ENOENT);
      },
    },
  ],

  B2: [
    {
      says: 'the devices of a group are attached, replaced and detached together',
      check(make) {
        const rig = make({ devices: SHARED });
        const [first, second] = rig.bindTwo();
        const [one, two] = [rig.space(1), rig.space(2)];
        const [old, next] = [rig.table(first, one), rig.table(first, two)];
        first.attach(old);
        expect([first.read(), second.read()]).toEqual([1, 1]);
        expect(outcome(() => second.attach(next))).toBe('EINVAL');
        second.attach(old);
        second.attach(next);
        expect([first.read(), second.read()]).toEqual([2, 2]);
        expect([rig.destroy(old), rig.destroy(next)]).toEqual(['OK', 'EBUSY']);
        first.detach();
        expect([first.read(), second.read(), rig.destroy(next)]).toEqual([2, 2, 'EBUSY']);
        second.detach();
        expect([first.read(), second.read(), rig.destroy(next)]).toEqual([
          undefined,
          undefined,
          'OK',
        ]);
      },
    },
    {
      says: 'a group has one owner',
      check(make) {
        const rig = make({ devices: SHARED });
        const [first, other] = [rig.bind(0), rig.newClient()];
        expect(outcome(() => rig.bind(1, other))).toBe('EPERM');
        const second = rig.bind(1);
        first.close();
        second.close();
        rig.bind(0, other);
        rig.bind(1, other);
      },
    },
  ],

  B3: [
    {
      says: 'a replace that fails, wherever, changes nothing for the whole group',
      check(make) {
        const reserved = [{ start: 0x300_0000n, last: 0x300_0fffn, kind: 'reserved' as const }];
        const devices = SHARED.map((shape) => ({ ...shape, reserved }));
        for (const dirty of [false, true]) {
          const failed = failEach(make, { devices }, (rig) => {
            const [first, second] = rig.bindTwo();
            const [one, two] = [rig.space(1), rig.space(2)];
            const old = rig.table(first, one, { dirty });
            for (const each of [first, second]) each.attach(old);
            const next = rig.table(first, two, { dirty, faults: rig.queue() });
            const fits = () => {
              const at = 0x300_0000n;
              const rc = outcome(() => rig.map(two, at, 9));
              if (rc === 'OK') rig.unmap(two, at);
              return rc;
            };
            return {
              call: () => second.attach(next),
              look: () => [reach(first, second), fits(), first.core.faultParam !== undefined],
              checkFailure: () => expect(rig.destroy(next)).toBe('OK'),
              checkSuccess: () =>
                expect([first.read(), second.read(), fits()]).toEqual([2, 2, 'EINVAL']),
            };
          });
          expect(failed).toBeGreaterThan(1);
        }
      },
    },
    {
      says: 'so does one of a PASID, and an attach',
      check(make) {
        for (const isAttached of [false, true]) {
          const failed = failEach(make, { devices: SHARED }, (rig) => {
            const [first, second] = rig.bindTwo();
            const [one, two] = [rig.space(1), rig.space(2)];
            const old = rig.table(first, one);
            if (isAttached) for (const each of [first, second]) each.attach(old, PASID);
            const next = rig.table(first, two, { faults: rig.queue() });
            return {
              call: () => second.attach(next, PASID),
              look: () => reach(first, second),
              checkSuccess: () =>
                expect(reach(first, second)).toEqual([
                  [undefined, 2],
                  [undefined, 2],
                ]),
            };
          });
          expect(failed).toBeGreaterThan(1);
        }
      },
    },
    {
      says: 'DMA through what old and new have in common goes on all the time',
      on: ['vtd'],
      check(make) {
        const rig = make();
        const device = rig.bind();
        const [ioas, faults] = [rig.space(1), rig.queue()];
        const kinds = [{}, { faults }, { dirty: true }, {}, { dirty: true, faults }];
        for (const pasid of [NO_PASID, PASID]) {
          device.attach(rig.table(device, ioas), pasid);
          const seen: unknown[] = [];
          const step = vi.spyOn(rig.sim, 'point').mockImplementation(() => {
            seen.push(device.read(pasid));
          });
          for (const options of kinds) device.attach(rig.table(device, ioas, options), pasid);
          step.mockRestore();
          expect(seen.length).toBeGreaterThan(10);
          expect(new Set(seen)).toEqual(new Set([1]));
        }
      },
    },
  ],

  B4: [
    {
      says: 'nothing is replaced where nothing is attached, nor by the handle in force',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const ioas = rig.space(1);
        device.attach(rig.table(device, ioas));
        const { core } = device;
        const domain = core.group?.domain;
        if (!domain) throw new Error('no domain');
        device.detach();
        for (const pasid of [NO_PASID, PASID]) {
          const [handle, other] = [new AttachHandle(), new AttachHandle()];
          expect(replace(core, pasid, domain, handle)).toBe(-Errno.EINVAL);
          expect(device.read(pasid)).toBeUndefined();
          expect(attach(core, pasid, domain, handle)).toBe(0);
          expect(replace(core, pasid, domain, handle)).toBe(-Errno.EINVAL);
          expect(replace(core, pasid, domain, other)).toBe(0);
          expect(device.read(pasid)).toBe(1);
        }
      },
    },
    {
      says: 'a device does not replace what another of its group has attached',
      check(make) {
        const rig = make({ devices: SHARED });
        const [first, second] = rig.bindTwo();
        const tables = [1, 2].map((fill) => rig.table(first, rig.space(fill)));
        const [old = 0, next = 0] = tables;
        first.attach(old);
        expect(outcome(() => second.attach(next))).toBe('EINVAL');
        const bound = rig.boundAs(second);
        expect(outcome(() => replaceDevice(bound, NO_PASID, next))).toBe('EINVAL');
        expect([first.read(), second.read()]).toEqual([1, 1]);
      },
    },
    {
      says: 'the number of the table is written back on success only',
      check(make) {
        const rig = make();
        const [one, two] = [rig.space(1), rig.space(2)];
        const call = attachCall(rig);
        const first = call(one);
        expect(first).toMatchObject({ value: 0 });
        expect(first.pt_id).not.toBe(one);
        rig.client.process.mm.unmap(rig.pageOf(2), PAGE);
        expect(call(two)).toEqual({ value: -Errno.EFAULT, pt_id: two });
        expect(call(9999)).toEqual({ value: -Errno.ENOENT, pt_id: 9999 });
      },
    },
  ],

  B8: [
    {
      says: 'PASIDs live on when the table of the other requests is detached',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const [one, two, faults] = [rig.space(1), rig.space(2), rig.queue()];
        device.attach(rig.table(device, one));
        device.attach(rig.table(device, two, { faults }), PASID);
        expect(reach(device)).toEqual([[1, 2]]);
        device.detach();
        expect(reach(device)).toEqual([[undefined, 2]]);
        device.ask(1, { pasid: PASID });
        expect(device.answer(1)).toBe('none');
        expect(faults.read()).toMatchObject([{ pasid: PASID, device: device.id }]);
        device.detach(PASID);
        expect(reach(device)).toEqual([[undefined, undefined]]);
      },
    },
  ],

  B10: [
    {
      says: 'devices in one domain have PASIDs of their own',
      check(make) {
        const rig = make({ devices: [{}, {}] });
        const [first, second] = rig.bindTwo();
        const [one, two, three] = [rig.space(1), rig.space(2), rig.space(3)];
        const common = rig.table(first, one);
        for (const each of [first, second]) each.attach(common);
        first.attach(rig.table(first, two), PASID);
        expect(reach(first, second)).toEqual([
          [1, 2],
          [1, undefined],
        ]);
        second.attach(rig.table(second, three), PASID);
        expect(reach(first, second)).toEqual([
          [1, 2],
          [1, 3],
        ]);
        first.detach(PASID);
        expect(reach(first, second)).toEqual([
          [1, undefined],
          [1, 3],
        ]);
      },
    },
    {
      says: 'a PASID of a group is in the table of each of its devices',
      check(make) {
        const rig = make({ devices: SHARED });
        const [first, second] = rig.bindTwo();
        first.attach(rig.table(first, rig.space(1)), PASID);
        expect(reach(first, second)).toEqual([
          [undefined, 1],
          [undefined, 1],
        ]);
        first.detach(PASID);
        expect(reach(first, second)).toEqual([
          [undefined, undefined],
          [undefined, undefined],
        ]);
      },
    },
  ],
};
