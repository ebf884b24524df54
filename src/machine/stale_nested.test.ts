// SPDX-License-Identifier: Apache-2.0
/**
 * Guests' tables: what a guest has invalidated, and what its second stage has lost, no device uses any more; where one does, the oracle
 * names what was not asked for. What the guest has not invalidated is its own business.
 */
import { describe, expect, it, vi } from 'vitest';
import { attachDevice, detachDevice, replaceDevice } from '../iommufd/change_pt.ts';
import { NO_PASID } from '../iommu/device.ts';
import {
  ADDRESS,
  DIRTY,
  FOR_PASIDS,
  GuestRig,
  NEST_PARENT,
  OTHER_PML4,
  OTHER_PT,
  PAGE,
  PD,
  PDPT,
  PML4,
  PT,
} from './guest_rig.ts';
import { type Play, placeIn, textsOf, unnamedLosses } from './lost_invalidations.ts';

vi.mock('../drivers/intel/descriptors.ts', async (original) => {
  const { withLosses } = await import('./lost_invalidations.ts');
  return withLosses(await original());
});

const [DATA, OTHER_DATA] = [16, 32];
const TOUCHED = 4;
const PASID = 5;

/** All that makes what is cached of a guest's table wrong, with DMA before and after. */
function play(preset: string, report: Parameters<Play>[0]): void {
  const rig = new GuestRig(preset, report);
  const { bound, client } = rig;
  const { context } = client.file;
  const pasids = rig.fn.pasid ? [NO_PASID, PASID] : [NO_PASID];
  const flags = rig.fn.pasid ? FOR_PASIDS : 0;
  const everywhere = (): void => {
    for (const pasid of pasids)
      for (let page = 0; page < TOUCHED; page++) rig.touch(ADDRESS + BigInt(page) * PAGE, pasid);
  };
  const fill = (from: number, bits?: bigint, table = PT): void => {
    for (let page = 0; page < TOUCHED; page++) rig.set(table, page, from + page, bits);
  };
  const parent = rig.hwpt(rig.ioas, { flags: NEST_PARENT | DIRTY | flags });
  const plain = rig.hwpt(rig.ioas, { flags });
  const nested = rig.nested(parent, flags);
  const other = rig.nested(parent, flags, OTHER_PML4);
  const replaceBy = (hwpt: number): void => {
    for (const pasid of pasids) {
      replaceDevice(bound, pasid, hwpt);
      everywhere();
    }
  };
  fill(DATA);
  for (const pasid of pasids) attachDevice(bound, pasid, nested);
  everywhere();

  // Leaves: other pages, fewer rights, none. Before it invalidates, the guest is not blamed.
  const steps: (() => void)[] = [
    () => fill(OTHER_DATA),
    () => fill(OTHER_DATA, 0n),
    () => fill(DATA),
    () => rig.set(PT, TOUCHED - 1, undefined),
    () => rig.set(PT, TOUCHED - 1, DATA),
  ];
  for (const leavesOnly of [true, false])
    for (const step of steps) {
      step();
      everywhere();
      rig.invalidate(nested, { address: ADDRESS, pages: BigInt(TOUCHED), leavesOnly });
      everywhere();
    }
  // Tables.
  fill(OTHER_DATA, undefined, OTHER_PT);
  rig.set(PD, 1, OTHER_PT);
  everywhere();
  rig.invalidate(nested, { address: ADDRESS, pages: BigInt(TOUCHED) });
  everywhere();
  rig.set(PD, 1, PT);
  rig.invalidate(nested, {});
  everywhere();
  // The stage below: data, each table; elsewhere in memory from then on.
  for (const page of [DATA, PT, PD, PDPT, PML4]) {
    rig.unmapPage(page);
    everywhere();
    rig.movePage(page);
    rig.mapPage(page);
    everywhere();
  }
  // What was written there is recorded once, and again when it was read.
  const track = (on: number) =>
    client.call('IOMMU_HWPT_SET_DIRTY_TRACKING', { hwpt_id: parent, flags: on });
  track(1);
  for (let round = 0; round < 2; round++) {
    everywhere();
    client.call('IOMMU_HWPT_GET_DIRTY_BITMAP', {
      ...{ hwpt_id: parent, iova: 0x10_0000n, length: 64n * PAGE },
      ...{ page_size: PAGE, data: 0x5000_0000n },
    });
  }
  everywhere();
  track(0);
  everywhere();
  // Other tables in its place.
  replaceBy(plain);
  fill(OTHER_DATA);
  replaceBy(nested);
  replaceBy(other);
  replaceBy(parent);
  fill(DATA);
  replaceBy(other);
  for (const pasid of pasids.toReversed()) {
    detachDevice(context, bound, pasid);
    everywhere();
  }
  fill(OTHER_DATA);
  for (const pasid of pasids) attachDevice(bound, pasid, other);
  everywhere();
  for (const pasid of pasids.toReversed()) detachDevice(context, bound, pasid);
  everywhere();
}

describe.each(['vtd', 'vtd-page-faults'])('on the machine %s', (name) => {
  it('a guest that changes its table is never blamed', () => {
    expect(textsOf((report) => play(name, report), {})).toEqual([]);
  });

  it('each invalidation that is taken out is named at the DMA that misses it', () => {
    const { asked, unnamed } = unnamedLosses((report) => play(name, report));
    expect(unnamed).toEqual([]);
    expect(asked).toBeGreaterThan(3);
  });
});

describe('what is said of it, on a device with PASIDs and a cache of its own', () => {
  const shared: Play = (report) => play('vtd-page-faults', report);
  const guestAsked =
    /Last change: 0x200000-0x203fff invalidated by the guest \(IOMMU_HWPT_INVALIDATE\)/;

  it.each([
    ['iotlbOfPasidPages', 'cache_tags.ts', /by the IOTLB, .* Too narrow: IOTLB, 0x200000-0x200fff/],
    [
      'deviceIotlb',
      'device_info.ts',
      /by the device TLB, .* Too narrow: device TLB, 0x200000-0x200/,
    ],
  ])('%s cut short is named, with what the guest asked for', (made, file, named) => {
    textsOf(shared, {});
    const place = placeIn(made, file);
    expect(place).not.toBe('');
    const found = textsOf(shared, { narrowed: place }).filter((text) => named.test(text));
    expect(found[0]).toMatch(guestAsked);
    expect(found[0]).toMatch(/, where the guest's tables (have frame 0x|allow nothing)/);
  });

  it('a change below that was not flushed for the guest is told as one of the second stage', () => {
    textsOf(shared, {});
    const found = textsOf(shared, { lost: placeIn('iotlbOfPages', 'cache_tags.ts') });
    expect(found[0]).toMatch(
      /Last change: 0x110000-0x110fff unmapped or cleaned in the second stage/,
    );
  });
});

it('a guest that writes an entry whenever hardware has read it is never blamed', () => {
  const found: string[] = [];
  const rig = new GuestRig('vtd', ({ text }) => found.push(text));
  const nested = rig.nested(rig.hwpt(rig.ioas, { flags: NEST_PARENT }));
  rig.set(PT, 0, DATA);
  attachDevice(rig.bound, NO_PASID, nested);
  const { mm } = rig.client.process;
  const read = mm.readPinned.bind(mm);
  let writes = 0;
  mm.readPinned = (address, into) => {
    const isRead = read(address, into);
    if (into.length === 8) rig.set(PT, 0, DATA + (writes++ % 7));
    return isRead;
  };
  for (let round = 0; round < 50; round++) {
    rig.touch(ADDRESS);
    if (round % 3 === 0) rig.invalidate(nested, { address: ADDRESS });
  }
  expect(writes).toBeGreaterThan(100);
  expect(found).toEqual([]);
});
