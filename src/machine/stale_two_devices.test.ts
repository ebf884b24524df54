// SPDX-License-Identifier: Apache-2.0
/** Two devices on one guest's table: what one keeps is not the other's, and neither is what was asked for it. */
import { beforeEach, describe, expect, it } from 'vitest';
import { attachDevice, detachDevice } from '../iommufd/change_pt.ts';
import { IommufdDevice } from '../iommufd/device.ts';
import { NO_PASID } from '../iommu/device.ts';
import type { PciFunction } from '../pci/function.ts';
import type { MachineDescription } from './description.ts';
import { ADDRESS, CACHED_READ, GuestRig, NEST_PARENT, PT } from './guest_rig.ts';

const [DATA, OTHER_DATA] = [16, 32];
/** The device completes, and forgets nothing. */
const LIE = 4;

const description: MachineDescription = {
  name: 'two',
  summary: '',
  iommus: [
    {
      name: 'dmar0',
      driver: 'intel-vtd',
      devices: [
        { name: 'test0', model: 'iommu_test', address: '0000:00:02.0' },
        { name: 'test1', model: 'iommu_test', address: '0000:00:03.0' },
      ],
    },
  ],
};

let found: string[];
let rig: GuestRig;
let other: PciFunction;
let nested: number;
let bound: IommufdDevice;

beforeEach(() => {
  found = [];
  rig = new GuestRig(description, ({ text }) => found.push(text));
  const [, second] = rig.machine.pciDevices;
  if (!second) throw new Error('no second function');
  other = second;
  other.config.write(4, 2, 6);
  bound = IommufdDevice.claim(rig.client.file.context, other.device);
  nested = rig.nested(rig.hwpt(rig.ioas, { flags: NEST_PARENT }));
  rig.set(PT, 0, DATA);
  for (const one of [rig.bound, bound]) attachDevice(one, NO_PASID, nested);
});

/** Both devices read by translations that they keep. */
function touchBoth(): void {
  for (const fn of [rig.fn, other]) {
    rig.start(CACHED_READ, ADDRESS, NO_PASID, 0, fn);
    rig.machine.iommufd.sim.settle();
  }
}

describe('two devices on the table of a guest', () => {
  it('use what it had before it invalidated, each in its own way', () => {
    touchBoth();
    rig.set(PT, 0, OTHER_DATA);
    touchBoth();
    other.dma.read(ADDRESS, new Uint8Array(8));
    rig.invalidate(nested, { address: ADDRESS });
    touchBoth();
    expect(found).toEqual([]);
  });

  it('of which one lies: that one is named, with what was asked of it alone', () => {
    touchBoth();
    rig.answers(LIE);
    rig.set(PT, 0, OTHER_DATA);
    rig.invalidate(nested, { address: ADDRESS });
    touchBoth();
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(/read of 0x200000 by 0000:00:02\.0 reaches .* by the device TLB/);
    expect(found[0]).toMatch(/not done: device TLB, 0x200000-0x200fff of device 0x10\.$/);
  });

  it('of which one leaves, and comes back: the other has kept what it may', () => {
    touchBoth();
    detachDevice(rig.client.file.context, rig.bound, NO_PASID);
    rig.set(PT, 0, OTHER_DATA);
    attachDevice(rig.bound, NO_PASID, nested);
    touchBoth();
    other.dma.read(ADDRESS, new Uint8Array(8));
    rig.fn.dma.read(ADDRESS, new Uint8Array(8));
    expect(found).toEqual([]);
  });
});
