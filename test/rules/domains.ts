// SPDX-License-Identifier: Apache-2.0
/** Chapter A: domains and their creation. */
import { expect, vi } from 'vitest';
import { Errno } from '../../src/base/errno.ts';
import { MockIommu } from '../../src/drivers/mock/mock_iommu.ts';
import { PagingIommu } from '../../src/drivers/paging/paging_iommu.ts';
import { allocPagingDomain, allocSvaDomain, allocUserDomain } from '../../src/iommu/alloc.ts';
import { Device } from '../../src/iommu/device.ts';
import { DomainType, isFaultCapable, type PagingDomain } from '../../src/iommu/domain.ts';
import { DomainFlags } from '../../src/iommu/ops.ts';
import type { UserData } from '../../src/iommu/user_data.ts';
import { HwptPaging } from '../../src/iommufd/hw_pagetable.ts';
import { outcome, type Rig } from './rig.ts';
import type { Chapter } from './rules.ts';

const PASID = 5;
const UNKNOWN_FLAG = 1 << 20;

/** The domain that a device's requests without PASID go through. */
function domainOf(device: Device) {
  const domain = device.group?.domain;
  if (!domain) throw new Error('no domain');
  return domain;
}

/** A domain of another driver, whose device is on the same machine. */
function foreignDomain({ hardware, core }: Rig): PagingDomain {
  const device = new Device('foreign');
  const other =
    hardware === 'mock'
      ? new PagingIommu(core, { name: 'other' }).addDevice(device)
      : new MockIommu(core).createDevice(0);
  if (typeof other === 'number' && other !== 0) throw new Error(`no foreign device: ${other}`);
  const domain = allocPagingDomain(typeof other === 'number' ? device : other);
  if (typeof domain === 'number') throw new Error(`no foreign domain: ${domain}`);
  return domain;
}

/** Whether a driver is asked to attach the domain of a table, from now on. */
function watchAttach({ client }: Rig, table: number): () => boolean {
  const hwpt = [...client.file.context.objects].find(({ id }) => id === table);
  if (!(hwpt instanceof HwptPaging)) throw new Error(`${table} is no table`);
  const domain = hwpt.domain as Required<PagingDomain>;
  const spies = [vi.spyOn(domain, 'attachDev'), vi.spyOn(domain, 'setDevPasid')];
  return () => spies.some(({ mock }) => mock.calls.length > 0);
}

const guestData: UserData = { type: 0, length: 8, copyIn: () => true, copyOut: () => true };

export const domainRules: Chapter<'A1' | 'A2' | 'A3' | 'A4'> = {
  A1: [
    {
      says: 'a user has the choices that the driver declares, and no others',
      check(make) {
        const rig = make();
        const [device] = rig.cores;
        if (!device) throw new Error('no device');
        const faultHandler = { handle: () => 0 };
        const flags = DomainFlags.DIRTY_TRACKING;
        const chosen = allocUserDomain(device, { flags, faultHandler });
        if (typeof chosen === 'number') throw new Error(`refused: ${chosen}`);
        expect(chosen).toMatchObject({ type: DomainType.UNMANAGED, faultHandler });
        expect((chosen as PagingDomain).dirty).toBeDefined();
        expect(allocUserDomain(device, { flags: UNKNOWN_FLAG })).toBe(-Errno.EOPNOTSUPP);
        const objects = { dev_id: rig.bind().id, pt_id: rig.space(1) };
        const ask = (asked: number) =>
          outcome(() => rig.client.call('IOMMU_HWPT_ALLOC', { ...objects, flags: asked }));
        const hasNesting = rig.hardware !== 'paging';
        expect([flags, DomainFlags.NEST_PARENT, UNKNOWN_FLAG].map(ask)).toEqual([
          'OK',
          hasNesting ? 'OK' : 'EOPNOTSUPP',
          'EOPNOTSUPP',
        ]);
        chosen.free();
      },
    },
    {
      says: 'a simple domain has no choices, and its type is what core asks for',
      check(make) {
        const [device] = make().cores;
        if (!device) throw new Error('no device');
        const simple = allocPagingDomain(device, DomainType.DMA);
        expect(simple).toMatchObject({ type: DomainType.DMA, faultHandler: undefined });
        if (typeof simple === 'number') throw new Error(`refused: ${simple}`);
        expect(simple.dirty).toBeUndefined();
        simple.free();
      },
    },
    {
      says: "a process's domain is whole at its creation, where the driver has them",
      check(make) {
        const rig = make();
        const [device] = rig.cores;
        if (!device) throw new Error('no device');
        const mm = rig.process();
        const domain = allocSvaDomain(device, mm);
        if (rig.hardware === 'mock') {
          expect(domain).toBe(-Errno.EOPNOTSUPP);
          return;
        }
        if (typeof domain === 'number') throw new Error(`refused: ${domain}`);
        expect(domain.type).toBe(DomainType.SVA);
        expect(domain.mm).toBe(mm);
        expect(isFaultCapable(domain)).toBe(true);
        domain.free();
      },
    },
    {
      says: "a domain nests on none of another driver's",
      check(make) {
        const rig = make();
        const [device] = rig.cores;
        if (!device) throw new Error('no device');
        const parent = foreignDomain(rig);
        const nested = allocUserDomain(device, { flags: 0, parent, userData: guestData });
        // The driver without nesting is not even asked.
        expect(nested).toBe(rig.hardware === 'paging' ? -Errno.EOPNOTSUPP : -Errno.EINVAL);
      },
    },
  ],

  A2: [
    {
      says: 'a table faults, or does not, as it was allocated',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const [ioas, faults] = [rig.space(1), rig.queue()];
        const [plain, capable] = [rig.table(device, ioas), rig.table(device, ioas, { faults })];
        device.attach(plain);
        device.ask(1);
        expect(['INVALID', 'off']).toContain(device.answer(1));
        expect(faults.read()).toEqual([]);
        device.attach(capable);
        device.ask(2);
        expect(device.answer(2)).toBe('none');
        expect(faults.read()).toHaveLength(1);
        device.detach();
      },
    },
    {
      says: 'nothing sets the handler of a domain that exists',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const [ioas, faults] = [rig.space(1), rig.queue()];
        for (const options of [{}, { faults }]) {
          device.attach(rig.table(device, ioas, options));
          const domain = domainOf(device.core);
          const { faultHandler, owner } = domain;
          if (!owner) throw new Error('a domain without owner');
          expect(faultHandler === undefined).toBe(!('faults' in options));
          const other = { handle: () => 0 };
          expect(() => domain.seal(owner, { faultHandler: other })).toThrow('sealed');
          expect(() => Object.assign(domain, { faultHandler: other })).toThrow(TypeError);
          expect(domain.faultHandler).toBe(faultHandler);
        }
      },
    },
  ],

  A3: [
    {
      says: 'a device that cannot fault is attached to no fault-capable table, at no PASID',
      check(make) {
        const rig = make({ devices: [{ canFault: false }] });
        const device = rig.bind();
        const [ioas, faults] = [rig.space(1), rig.queue()];
        const capable = rig.table(device, ioas, { faults });
        const isAsked = watchAttach(rig, capable);
        for (const pasid of [0, PASID]) {
          expect(outcome(() => device.attach(capable, pasid))).toBe('ENODEV');
          expect(device.read(pasid)).toBeUndefined();
        }
        const plain = rig.table(device, ioas);
        for (const pasid of [0, PASID]) {
          device.attach(plain, pasid);
          expect(outcome(() => device.attach(capable, pasid))).toBe('ENODEV');
          expect(device.read(pasid)).toBe(1);
        }
        expect(isAsked()).toBe(false);
      },
    },
    {
      says: 'one device that cannot is enough, in its group',
      check(make) {
        for (const last of [0, 1]) {
          const devices = [0, 1].map((i) => ({ group: 'shared', canFault: i !== last }));
          const rig = make({ devices });
          const [first, second] = rig.bindTwo();
          const capable = rig.table(first, rig.space(1), { faults: rig.queue() });
          const isAsked = watchAttach(rig, capable);
          expect([outcome(() => first.attach(capable)), isAsked()]).toEqual(['ENODEV', false]);
          expect(outcome(() => first.attach(capable, PASID))).toBe('ENODEV');
          for (const each of [first, second]) {
            expect([each.read(), each.read(PASID)]).toEqual([undefined, undefined]);
            expect(each.core.faultParam).toBeUndefined();
          }
        }
      },
    },
  ],

  A4: [
    {
      says: 'a driver asks core whether a domain is fault-capable, and acts as it is told',
      check(make) {
        const rig = make();
        const device = rig.bind();
        const [ioas, faults] = [rig.space(1), rig.queue()];
        const tables = [rig.table(device, ioas), rig.table(device, ioas, { faults })];
        const seen = tables.map((table) => {
          device.attach(table);
          return [isFaultCapable(domainOf(device.core)), device.core.faultParam !== undefined];
        });
        expect(seen).toEqual([
          [false, false],
          [true, true],
        ]);
      },
    },
  ],
};
