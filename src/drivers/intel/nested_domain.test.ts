// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
  IOMMU_HWPT_DATA_VTD_S1,
} from '../../abi/iommufd.ts';
import { Errno } from '../../base/errno.ts';
import { allocUserDomain } from '../../iommu/alloc.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import type { UserData, UserDataArray } from '../../iommu/user_data.ts';
import { FakeRig, userDataOf, fakeAts } from './fake_rig.ts';
import { CAP_ALL, ECAP_LEGACY, ECAP_SCALABLE } from './fake_vtd.ts';

const SID = 0x0318;
const SIZE = iommu_hwpt_vtd_s1.size;
const ALL = 2n ** 64n - 1n;

const plain = (): UserData => {
  const bytes = new Uint8Array(SIZE);
  iommu_hwpt_vtd_s1.on(new DataView(bytes.buffer)).addr_width = 48;
  return userDataOf(IOMMU_HWPT_DATA_VTD_S1, bytes);
};

/** A device on a guest's table on a nesting parent. */
function guest(options: ConstructorParameters<typeof FakeRig>[0] = {}) {
  const rig = new FakeRig(options);
  const device = rig.add(SID, { ats: fakeAts(1) });
  const parent = rig.paging(device, DomainFlags.NEST_PARENT);
  const nested = rig.nested(device, parent, plain());
  expect(rig.attach(device, nested)).toBe(0);
  return { rig, device, parent, nested };
}

interface Request {
  readonly addr?: bigint;
  readonly npages?: bigint;
  readonly flags?: number;
  readonly reserved?: number;
}

/** The client's array; `readable` entries of it can be read. */
function arrayOf(requests: readonly Request[], readable = Infinity, type = 0): UserDataArray {
  const layout = iommu_hwpt_vtd_s1_invalidate;
  return {
    type,
    entryLength: layout.size,
    entryCount: requests.length,
    entry: (index) => {
      const bytes = new Uint8Array(layout.size);
      const entry = layout.on(new DataView(bytes.buffer));
      const { addr = 0n, npages = 1n, flags = 0, reserved = 0 } = requests[index] ?? {};
      entry.addr = addr;
      entry.npages = npages;
      entry.flags = flags;
      entry.__reserved = reserved;
      const data = userDataOf(type, bytes);
      return index < readable ? data : { ...data, copyIn: () => false };
    },
  };
}

describe('the making of a nested domain', () => {
  const refused = (
    options: ConstructorParameters<typeof FakeRig>[0],
    change: (rig: FakeRig) => { flags?: number; userData?: UserData; parentFlags?: number },
  ): number => {
    const rig = new FakeRig(options);
    const device = rig.add(SID);
    const { flags = 0, userData = plain(), parentFlags = DomainFlags.NEST_PARENT } = change(rig);
    const parent = rig.paging(device, parentFlags);
    const live = rig.ram.liveFrames;
    const rc = allocUserDomain(device, { flags, parent, userData });
    expect(rig.ram.liveFrames).toBe(live);
    expect(parent.guests.size).toBe(0);
    return typeof rc === 'number' ? rc : 0;
  };

  it.each([
    ['a unit without nesting', { ecap: ECAP_LEGACY }, { parentFlags: 0 }, Errno.EOPNOTSUPP],
    ['a flag', {}, { flags: DomainFlags.DIRTY_TRACKING }, Errno.EOPNOTSUPP],
    ['another type', {}, { userData: userDataOf(2, new Uint8Array(SIZE)) }, Errno.EOPNOTSUPP],
    ['a first stage below it', {}, { parentFlags: 0 }, Errno.EINVAL],
    ['a second stage that is no parent', {}, { parentFlags: 2 }, Errno.EINVAL],
    ['less data', {}, { userData: userDataOf(1, new Uint8Array(SIZE - 1)) }, Errno.EINVAL],
    [
      'data that can not be read',
      {},
      { userData: { ...plain(), copyIn: () => false } },
      Errno.EFAULT,
    ],
  ])('is refused for %s', (_what, options, change, errno) => {
    expect(refused(options, () => change)).toBe(-errno);
  });

  it('is -ENOMEM where there is no memory', () => {
    expect(
      refused({}, (rig) => {
        // The parent takes three: its own, its table's, and the next is this one's.
        rig.faults.plan({ nth: 3, kinds: ['alloc'] });
        return {};
      }),
    ).toBe(-Errno.ENOMEM);
  });

  it('checks type before parent, and parent before data', () => {
    const wrongType = userDataOf(2, new Uint8Array(1));
    expect(refused({}, () => ({ userData: wrongType, parentFlags: 0 }))).toBe(-Errno.EOPNOTSUPP);
    const short = userDataOf(1, new Uint8Array(1));
    expect(refused({}, () => ({ userData: short, parentFlags: 0 }))).toBe(-Errno.EINVAL);
  });

  it('holds its parent until it goes', () => {
    const { rig, device, parent, nested } = guest();
    expect(() => parent.free()).toThrow('guests');
    rig.detach(device, nested);
    nested.free();
    parent.free();
  });
});

describe('an invalidation by the guest', () => {
  it.each([
    ['one page', { addr: 0x5000n }, ['piotlb 2/0 pages 0x5+2^0']],
    ['one leaf', { addr: 0x5000n, flags: 1 }, ['piotlb 2/0 pages 0x5+2^0 leaves']],
    ['pages', { addr: 0x4000n, npages: 4n }, ['piotlb 2/0 pages 0x4+2^2']],
    ['pages that are not aligned', { addr: 0x5000n, npages: 4n }, ['piotlb 2/0 pages 0x0+2^4']],
    ['all', { npages: ALL }, ['piotlb 2/0']],
    ['more than all', { npages: 2n ** 52n + 1n }, ['piotlb 2/0']],
    ['an end beyond 2^64', { addr: 2n ** 64n - 0x1000n, npages: 2n }, ['piotlb 2/0']],
    ['no page, with the one before', { addr: 0x1000n, npages: 0n }, ['piotlb 2/0 pages 0x0+2^1']],
  ])('of %s goes to the caches of its table alone', (_what, request, expected) => {
    const { rig, nested } = guest();
    const asked = rig.vtd.during(() => {
      expect(nested.invalidate(arrayOf([request]))).toEqual({ result: 0, handled: 1 });
    });
    expect(asked).toEqual(expected);
  });

  it('goes to the cache of the device too', () => {
    const { rig, nested } = guest({ ecap: ECAP_SCALABLE | 4n });
    const asked = rig.vtd.during(() => nested.invalidate(arrayOf([{ addr: 0x4000n, npages: 2n }])));
    expect(asked).toEqual(['piotlb 2/0 pages 0x4+2^1', 'device 0x318 0x4 S']);
    expect(rig.vtd.submissions).toEqual([2]);
  });

  it.each([
    ['an unknown flag', { flags: 2 }, Errno.EOPNOTSUPP],
    ['a reserved field', { reserved: 1 }, Errno.EOPNOTSUPP],
    ['an address inside a page', { addr: 0x800n }, Errno.EINVAL],
    ['everything from an address on', { addr: 0x1000n, npages: ALL }, Errno.EINVAL],
    ['an unknown flag inside a page', { flags: 2, addr: 1n }, Errno.EOPNOTSUPP],
  ])('stops at %s, and tells how many were done', (_what, request, errno) => {
    const { rig, nested } = guest();
    const asked = rig.vtd.during(() => {
      const done = nested.invalidate(arrayOf([{ addr: 0x1000n }, request, { addr: 0x2000n }]));
      expect(done).toEqual({ result: -errno, handled: 1 });
    });
    expect(asked).toEqual(['piotlb 2/0 pages 0x1+2^0']);
  });

  it('stops where an entry can not be read', () => {
    const { nested } = guest();
    expect(nested.invalidate(arrayOf([{}, {}], 1))).toEqual({ result: -Errno.EFAULT, handled: 1 });
  });

  it('of no entries checks the type', () => {
    const { nested } = guest();
    expect(nested.invalidate(arrayOf([]))).toEqual({ result: 0, handled: 0 });
    expect(nested.invalidate(arrayOf([], 0, 1))).toEqual({ result: -Errno.EINVAL, handled: 0 });
  });
});

describe('a change of the stage below a guest', () => {
  it('is told for the domain id of the table of the guest, and all that its device caches', () => {
    const { rig, parent } = guest({ ecap: ECAP_SCALABLE | 4n });
    parent.map(0x4000n, 0x1002, 4, 3);
    const asked = rig.vtd.during(() => parent.unmap(0x4000n, 4));
    expect(asked).toEqual(['iotlb 2 pages 0x4+2^1 rw', 'device 0x318 all']);
  });

  it('is told once for each table that lies on it', () => {
    const { rig, parent } = guest();
    const other = rig.add(SID + 8);
    rig.attach(other, rig.nested(other, parent, plain()));
    const third = rig.add(SID + 16);
    rig.attach(third, parent);
    parent.map(0x4000n, 0x1002, 2, 3);
    const asked = rig.vtd.during(() => parent.unmap(0x4000n, 2));
    expect(asked).toEqual([
      'iotlb 2 pages 0x4+2^0 rw',
      'iotlb 3 pages 0x4+2^0 rw',
      'iotlb 4 pages 0x4+2^0 leaves rw',
    ]);
    expect(rig.vtd.submissions).toEqual([3]);
  });

  it('is told of maps too where what is not present is cached', () => {
    const { rig, parent } = guest({ cap: CAP_ALL | 0x80n });
    expect(rig.vtd.during(() => parent.map(0x4000n, 0x1002, 2, 3))).toEqual([
      'iotlb 2 pages 0x4+2^0 rw',
    ]);
  });
});
