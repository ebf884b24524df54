// SPDX-License-Identifier: Apache-2.0
/** Handlers that are registered on a device, with a device that asks for pages (C11, C12). */
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { type PageRequest, PageResponseCode } from '../iommu/fault.ts';
import { type FaultRegistration, registerFaultHandler } from '../iommu/fault_registration.ts';
import { Sim } from '../sim/sim.ts';
import { Machine } from './machine.ts';

const BASE = 0x1000;
const FAULTING_READ = 8;
const [WAITING, INVALID, OFF] = [2, 6, 9];

let machine: Machine;
let told: PageRequest[];

beforeEach(() => {
  machine = new Machine({
    sim: new Sim({ checkLocks: true }),
    description: {
      name: 'registered',
      summary: '',
      iommus: [
        {
          name: 'iommu0',
          driver: 'paging',
          devices: [{ name: 'test0', model: 'iommu_test', address: '0000:00:03.0' }],
        },
      ],
    },
  });
  told = [];
  fn().config.write(4, 2, 6);
  return () => expect(machine.iommufd.core.warnings).toEqual([]);
});

function fn() {
  const [first] = machine.pciDevices;
  if (!first) throw new Error('no device');
  return first;
}

const bar = () => {
  const found = fn().bars[0];
  if (!found) throw new Error('no registers');
  return found;
};
const set = (at: number, value: number): void => bar().write(BASE + at, 4, BigInt(value >>> 0));
const state = (slot: number): number => Number(bar().read(BASE + 0x80 + 4 * slot, 4));

/** Asks for the page at 1 MiB with a PASID (0: none), in a slot and with the group of the same number. */
function ask(slot: number, pasid = 0): number {
  set(0x08, 0x10_0000);
  set(0x10, 16);
  set(0x18, pasid === 0 ? 0 : 0x8000_0000 + pasid);
  set(0x1c, slot);
  set(0x28, slot);
  set(0x30, FAULTING_READ);
  machine.iommufd.sim.settle();
  return state(slot);
}

function register(id: number): FaultRegistration {
  const registration = registerFaultHandler(fn().device, id, {
    report: (records) => {
      for (const record of records) if (record.type === 'page request') told.push(record.request);
      return 0;
    },
  });
  if (typeof registration === 'number') throw new Error(`refused: ${registration}`);
  return registration;
}

describe('a device with registered handlers', () => {
  it('C12: asks the handler of its PASID, and nobody where there is none', () => {
    expect(ask(0)).toBe(OFF);
    const [none, seven] = [register(0), register(7)];
    expect(ask(1)).toBe(WAITING);
    expect(ask(2, 7)).toBe(WAITING);
    expect(ask(3, 8)).toBe(INVALID);
    expect(told.map(({ pasid, grpid, addr }) => [pasid, grpid, addr])).toEqual([
      [0, 1, 0x10_0000n],
      [7, 2, 0x10_0000n],
    ]);
    const code = PageResponseCode.INVALID;
    expect(seven.respond({ pasid: 0, grpid: 1, code })).toBe(-Errno.EINVAL);
    expect(none.respond({ pasid: 0, grpid: 1, code })).toBe(0);
    expect(seven.respond({ pasid: 7, grpid: 2, code })).toBe(0);
    machine.iommufd.sim.settle();
    expect([state(1), state(2)]).toEqual([INVALID, INVALID]);
  });

  it('C11: has its answers when the handlers go, and cannot ask any more after the last', () => {
    const [none, seven] = [register(0), register(7)];
    ask(1);
    ask(2, 7);
    seven.unregister();
    machine.iommufd.sim.settle();
    expect([state(1), state(2)]).toEqual([WAITING, INVALID]);
    expect(fn().pri?.enabled).toBe(true);
    none.unregister();
    machine.iommufd.sim.settle();
    expect(state(1)).not.toBe(WAITING);
    expect(fn().pri).toMatchObject({ enabled: false, outstanding: 0 });
    expect(ask(3)).toBe(OFF);
  });
});
