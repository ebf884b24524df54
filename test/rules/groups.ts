// SPDX-License-Identifier: Apache-2.0
/** Chapter B: what groups, address spaces and owners have to do with attaching. */
import { expect, vi } from 'vitest';
import { allocPagingDomain } from '../../src/iommu/alloc.ts';
import { attach, detach } from '../../src/iommu/attach.ts';
import { NO_PASID } from '../../src/iommu/device.ts';
import { NOT_MAPPED, type PagingDomain } from '../../src/iommu/domain.ts';
import { AttachHandle } from '../../src/iommu/handle.ts';
import { getMsiCookie, prepareMsi } from '../../src/iommu/msi_cookie.ts';
import { releaseDmaOwner } from '../../src/iommu/ownership.ts';
import { IommufdDevice } from '../../src/iommufd/device.ts';
import { FRAME_SIZE } from '../../src/memory/frame.ts';
import { failEach } from './fail_each.ts';
import { outcome, type Rig } from './rig.ts';
import { PAGE } from './rule_device.ts';
import type { Chapter } from './rules.ts';

const PASID = 5;
const [FIRST_REGION, SECOND_REGION] = [0x300_0000n, 0x400_0000n];
const BASE = 0x500_0000n;

const region = (start: bigint) => ({
  ...{ start, last: start + BigInt(PAGE) - 1n },
  kind: 'reserved' as const,
});
const TWO_REGIONS = [
  { group: 'shared', reserved: [region(FIRST_REGION)] },
  { group: 'shared', reserved: [region(SECOND_REGION)] },
];

/** Whether an address space leaves each of the regions free. */
const isFree = (rig: Rig, ioas: number): boolean[] =>
  [FIRST_REGION, SECOND_REGION].map((at) => {
    const isMapped = outcome(() => rig.map(ioas, at, 9)) === 'OK';
    if (isMapped) rig.unmap(ioas, at);
    return isMapped;
  });

export const groupRules: Chapter<'B5' | 'B6' | 'B7' | 'B9'> = {
  B5: [
    {
      says: 'an address space respects the regions of the devices that are attached, of a group too',
      check(make) {
        const rig = make({ devices: TWO_REGIONS });
        const [first, second] = rig.bindTwo();
        const ioas = rig.space(1);
        const table = rig.table(first, ioas);
        const seen = [isFree(rig, ioas)];
        const steps = [
          () => first.attach(table),
          () => second.attach(table),
          () => first.detach(),
          () => second.detach(),
        ];
        for (const step of steps) {
          step();
          seen.push(isFree(rig, ioas));
        }
        expect(seen).toEqual([
          [true, true],
          [false, true],
          [false, false],
          [true, false],
          [true, true],
        ]);
      },
    },
    {
      says: 'what is mapped where the second device of a group has a region keeps it out',
      check(make) {
        const rig = make({ devices: TWO_REGIONS });
        const [first, second] = rig.bindTwo();
        const ioas = rig.space(1);
        rig.map(ioas, SECOND_REGION, 2);
        const table = rig.table(first, ioas);
        first.attach(table);
        expect(outcome(() => second.attach(table))).toBe('EADDRINUSE');
        rig.unmap(ioas, SECOND_REGION);
        expect(isFree(rig, ioas)).toEqual([false, true]);
        second.attach(table);
        expect(isFree(rig, ioas)).toEqual([false, false]);
      },
    },
  ],

  B6: [
    {
      says: 'interrupts that another device of the group can forge are no client’s, unless it accepts that',
      check(make) {
        const devices = [{ group: 'shared' }, { group: 'shared', isForgeable: true }];
        const rig = make({ devices });
        expect([0, 1].map((i) => outcome(() => rig.bind(i)))).toEqual(['EPERM', 'EPERM']);
        const [core] = rig.cores;
        if (!core) throw new Error('no device');
        const options = { allowUnsafeInterrupts: true };
        IommufdDevice.claim(rig.client.file.context, core, options).unbind();
      },
    },
    {
      says: 'a doorbell is mapped once, for all devices of a group',
      check(make) {
        const rig = make({ devices: [{ group: 'shared' }, { group: 'shared' }] });
        const [first, second] = rig.bindTwo();
        const { ram } = rig.machine;
        const frame = ram.alloc(1);
        const doorbell = BigInt(frame * FRAME_SIZE);
        const domain = allocPagingDomain(first.core);
        if (typeof domain === 'number') throw new Error(`refused: ${domain}`);
        expect(getMsiCookie(domain, BASE)).toBe(0);
        expect(attach(first.core, NO_PASID, domain, new AttachHandle())).toBe(0);
        const messages = [first, second, first].map(({ core }, i) =>
          prepareMsi(core, doorbell + BigInt(i * 4)),
        );
        expect(messages).toEqual([BASE, BASE + 4n, BASE + 8n]);
        expect([second.write(7, NO_PASID, BASE + 4n), ram.bytes(frame)[4]]).toEqual([true, 7]);
        expect(domain.iovaToPhys(BASE + BigInt(PAGE))).toBe(NOT_MAPPED);
        detach(first.core, NO_PASID, domain);
      },
    },
  ],

  B7: [
    {
      says: 'a table is made on attach to an address space, shared, and goes with the last device',
      check(make) {
        const rig = make({ devices: [{}, {}] });
        const [first, second] = rig.bindTwo();
        const ioas = rig.space(1);
        const table = first.attach(ioas);
        expect(second.attach(ioas)).toBe(table);
        expect([first.read(), second.read()]).toEqual([1, 1]);
        first.detach();
        expect([second.read(), rig.destroy(table)]).toEqual([1, 'EBUSY']);
        second.detach();
        expect(rig.destroy(table)).toBe('ENOENT');
      },
    },
    {
      says: 'a table made by hand is attached by its number only, and stays',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const ioas = rig.space(1);
        const table = rig.table(device, ioas);
        expect(device.attach(ioas)).not.toBe(table);
        expect([device.attach(table), device.read()]).toEqual([table, 1]);
        device.detach();
        expect(rig.destroy(table)).toBe('OK');
        const wanted = { dev_id: device.id, pt_id: ioas, __reserved: 1 };
        const asked = outcome(() => rig.client.call('IOMMU_HWPT_ALLOC', wanted));
        expect(asked).toBe('EOPNOTSUPP');
      },
    },
    {
      says: 'cache coherency is settled when the table is allocated, or there is no table',
      on: ['paging', 'vtd'],
      check(make) {
        const rig = make();
        const device = rig.bind();
        const ioas = rig.space(1);
        const some = allocPagingDomain(device.core);
        if (typeof some === 'number') throw new Error(`refused: ${some}`);
        const enforce = vi.spyOn(
          Object.getPrototypeOf(some) as Required<PagingDomain>,
          'enforceCacheCoherency',
        );
        const table = rig.table(device, ioas);
        expect(enforce).toHaveBeenCalledOnce();
        device.attach(table);
        expect(enforce).toHaveBeenCalledOnce();
        enforce.mockReturnValue(false);
        expect(outcome(() => rig.table(device, ioas))).toBe('EINVAL');
        some.free();
      },
    },
    {
      says: 'an allocation that is aborted leaves nothing, not even its number',
      check(make) {
        const failed = failEach(make, {}, (rig) => {
          const device = rig.bind();
          const ioas = rig.space(1);
          return {
            call: () => rig.table(device, ioas, { dirty: true }),
            look() {
              const { out_ioas_id: next } = rig.client.call('IOMMU_IOAS_ALLOC', {});
              return [next, rig.destroy(next), device.read()];
            },
            checkSuccess: () => expect(rig.destroy(ioas)).toBe('EBUSY'),
          };
        });
        expect(failed).toBeGreaterThan(1);
      },
    },
  ],

  B9: [
    {
      says: 'closing a device is never refused, and leaves no PASID attached',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const table = rig.table(device, rig.space(1), { faults: rig.queue() });
        for (const pasid of [NO_PASID, PASID, PASID + 1]) device.attach(table, pasid);
        device.ask(1, { pasid: PASID });
        device.close();
        const seen = [NO_PASID, PASID, PASID + 1].map((pasid) => device.read(pasid));
        expect(seen).toEqual([undefined, undefined, undefined]);
        expect(device.core.group?.pasids.size).toBe(0);
        expect(rig.core.ownershipViolations).toBe(0);
        expect(outcome(() => rig.bind(0, rig.newClient()))).toBe('OK');
      },
    },
    {
      says: 'a release with a PASID left is logged and counted, and the group stays owned',
      check(make) {
        const rig = make();
        const device = rig.bind();
        device.attach(rig.table(device, rig.space(1)), PASID);
        releaseDmaOwner(device.core);
        expect(rig.core.ownershipViolations).toBe(1);
        rig.warnings = [expect.stringMatching(/released with PASID 5 still attached/)];
        expect(device.read(PASID)).toBe(1);
        const other = rig.newClient();
        const { context } = other.file;
        const [core] = rig.cores;
        if (!core) throw new Error('no device');
        expect(outcome(() => IommufdDevice.claim(context, core))).toBe('EPERM');
        device.close();
        expect(device.read(PASID)).toBeUndefined();
        expect(outcome(() => IommufdDevice.claim(context, core).unbind())).toBe('OK');
      },
    },
  ],
};
