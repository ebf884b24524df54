// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../../base/errno.ts';
import { allocUserDomain } from '../../iommu/alloc.ts';
import { attach, detach, replace } from '../../iommu/attach.ts';
import { IommuCore } from '../../iommu/core.ts';
import { type Device, NO_PASID } from '../../iommu/device.ts';
import { DIRTY_NO_CLEAR, type Domain, DomainType, IotlbGather, Prot } from '../../iommu/domain.ts';
import { registerFaultHandler } from '../../iommu/fault_registration.ts';
import { AttachHandle } from '../../iommu/handle.ts';
import { DomainFlags, IommuCap } from '../../iommu/ops.ts';
import { claimDmaOwner, releaseDmaOwner } from '../../iommu/ownership.ts';
import { ResvType } from '../../iommu/reserved.ts';
import type { UserData } from '../../iommu/user_data.ts';
import { sweepFaults } from '../../sim/faults.ts';
import { Sim } from '../../sim/sim.ts';
import type { MockDevice, MockDeviceOptions } from './mock_device.ts';
import { MockPagingDomain } from './mock_domain.ts';
import { MockIommu } from './mock_iommu.ts';

/* Numbers as the header of the kernel's test driver has them (iommufd_test.h), written out again. */
const NO_DIRTY = 1;
const PASID = 4;
const SELFTEST = 0xdead;
const HUGE = 1;
const RW = Prot.READ | Prot.WRITE;

let sim: Sim;
let core: IommuCore;
let mock: MockIommu;

beforeEach(() => {
  sim = new Sim({ checkLocks: true });
  core = new IommuCore({ sim });
  mock = new MockIommu(core);
  return expectQuiet;
});

/** Nobody broke a rule. */
function expectQuiet(): void {
  expect(core.warnings).toEqual([]);
}

function device(flags = 0, options: MockDeviceOptions = {}): MockDevice {
  const made = mock.createDevice(flags, options);
  if (typeof made === 'number') throw new Error(`no device: ${made}`);
  expect(claimDmaOwner(made, mock)).toBe(0);
  return made;
}

/** The client's structure, as it would lie in its memory. */
function userData(words: readonly number[], type = SELFTEST): UserData {
  const bytes = new Uint8Array(Uint32Array.from(words).buffer);
  return {
    type,
    length: bytes.length,
    copyIn(offset, into) {
      into.set(bytes.subarray(offset, offset + into.length));
      return true;
    },
    copyOut: () => true,
  };
}

function domain(on: Device, flags = 0, data?: UserData): MockPagingDomain {
  const made = allocUserDomain(on, { flags, userData: data });
  if (!(made instanceof MockPagingDomain)) throw new Error(`no domain: ${JSON.stringify(made)}`);
  return made;
}

describe('mock devices', () => {
  it('are named by the lowest free number', () => {
    const [first] = [device(), device()];
    releaseDmaOwner(first);
    mock.destroyDevice(first);
    expect([device().name, device().name]).toEqual(['iommufd_mock0', 'iommufd_mock2']);
  });

  it('that must not be blocked are refused, and their number is free again', () => {
    const direct = { start: 0x1000n, last: 0x1fffn, prot: RW, type: ResvType.DIRECT };
    expect(mock.createDevice(0, { resvRegions: [direct] })).toBe(-Errno.EINVAL);
    expect(device().name).toBe('iommufd_mock0');
  });

  it('have a group of their own unless told', () => {
    expect(device().group).not.toBe(device().group);
    const [a, b] = [device(0, { group: 'g' }), device(0, { group: 'g' })];
    expect(a.group).toBe(b.group);
  });

  it('refuse flags that they do not know, 2 among them', () => {
    expect([2, 8, 16].map((flags) => mock.createDevice(flags))).toEqual(
      Array(3).fill(-Errno.EINVAL),
    );
    expect(mock.devices).toEqual([]);
  });

  it('can use 2^20 PASIDs with the flag, and none but 0 without', () => {
    expect([device(PASID).maxPasids, device().maxPasids]).toEqual([2 ** 20, 1]);
    const without = device();
    expect(attach(without, 1, domain(without), new AttachHandle())).toBe(-Errno.EINVAL);
  });

  it('have four cache entries of a known value', () => {
    const one = device();
    expect([0, 3, 4].map((id) => mock.cacheEntry(one, id))).toEqual([
      0xbaddad,
      0xbaddad,
      undefined,
    ]);
  });

  it('are blocked by default and while nothing is attached', () => {
    const one = device();
    expect(one.domain?.type).toBe(DomainType.BLOCKED);
    const attached = domain(one);
    attach(one, NO_PASID, attached, new AttachHandle());
    expect(one.domain).toBe(attached);
    detach(one, NO_PASID, attached);
    expect(one.domain?.type).toBe(DomainType.BLOCKED);
  });

  it('say what hardware they are on', () => {
    const { hwInfo } = mock.ops;
    const info = hwInfo?.(device(), 0);
    expect(info).toEqual({
      type: 0xfeedbeef,
      data: Uint8Array.of(0, 0, 0, 0, 0xef, 0xbe, 0xad, 0xde),
    });
    expect(hwInfo?.(device(), 0xfeedbeef)).toEqual(info);
    expect(hwInfo?.(device(), 1)).toBe(-Errno.EOPNOTSUPP);
  });

  it('are cache coherent, cannot enforce it, and track dirty pages unless told', () => {
    const can = (on: Device, cap: IommuCap): boolean | undefined => mock.ops.capable?.(on, cap);
    const { CACHE_COHERENCY, ENFORCE_CACHE_COHERENCY, DIRTY_TRACKING } = IommuCap;
    const [plain, undirty] = [device(), device(NO_DIRTY)];
    const caps = [CACHE_COHERENCY, ENFORCE_CACHE_COHERENCY, DIRTY_TRACKING];
    expect(caps.map((cap) => can(plain, cap))).toEqual([true, false, true]);
    expect(caps.map((cap) => can(undirty, cap))).toEqual([true, false, false]);
    expect(domain(plain)).not.toHaveProperty('enforceCacheCoherency');
  });
});

describe('mock domains', () => {
  it('of the default kind have all sizes from 2 KiB and a small aperture', () => {
    const { pgsizeBitmap, apertureStart, apertureLast } = domain(device());
    expect(pgsizeBitmap).toBe(0x1f_ffff_f800n);
    expect([apertureStart, apertureLast]).toEqual([0x100_0000n, 0x7fff_ffffn]);
  });

  it('of the huge kind have 1 MiB and 4 KiB, and 38 bits of address', () => {
    const huge = domain(device(), 0, userData([0, HUGE]));
    expect(huge.pgsizeBitmap).toBe(0x10_1000n);
    expect([huge.apertureStart, huge.apertureLast]).toEqual([0n, 0x3f_ffff_ffffn]);
  });

  it.each([
    ['without its last field is of the default kind', userData([0xbadbeef]), 0],
    ['of another type is EOPNOTSUPP', userData([0, 0], 1), -Errno.EOPNOTSUPP],
    ['of no type is EINVAL', userData([0, 0], 0), -Errno.EINVAL],
    ['of an unknown kind of table is EOPNOTSUPP', userData([0, 2]), -Errno.EOPNOTSUPP],
    ['too short is EINVAL', userData([]), -Errno.EINVAL],
    ['too long is EINVAL', userData([0, 0, 0]), -Errno.EINVAL],
    ['unreadable is EFAULT', { ...userData([0, 0]), copyIn: () => false }, -Errno.EFAULT],
  ])('data %s', (_what, data, expected) => {
    const made = allocUserDomain(device(), { flags: 0, userData: data });
    if (expected === 0) expect(made).toBeInstanceOf(MockPagingDomain);
    else expect(made).toBe(expected);
  });

  it('B7: refuse flags that they do not know, and dirty tracking where the device has none', () => {
    const [plain, undirty] = [device(), device(NO_DIRTY)];
    expect(allocUserDomain(plain, { flags: 16 })).toBe(-Errno.EOPNOTSUPP);
    const { DIRTY_TRACKING, NEST_PARENT, PASID: pasid } = DomainFlags;
    expect(allocUserDomain(undirty, { flags: DIRTY_TRACKING })).toBe(-Errno.EOPNOTSUPP);
    expect(domain(plain, DIRTY_TRACKING | NEST_PARENT | pasid).dirty).toBeDefined();
    expect(domain(plain, NEST_PARENT).dirty).toBeUndefined();
  });

  it('with dirty tracking are refused by a device without', () => {
    const tracked = domain(device(), DomainFlags.DIRTY_TRACKING);
    const undirty = device(NO_DIRTY);
    expect(attach(undirty, NO_PASID, tracked, new AttachHandle())).toBe(-Errno.EINVAL);
    expect(undirty.domain?.type).toBe(DomainType.BLOCKED);
  });

  it('C1, C5: faults are on while any fault-capable domain is attached, at whichever PASID', () => {
    const one = device(PASID);
    const faulting = (): Domain => {
      const made = allocUserDomain(one, { flags: 0, faultHandler: { handle: () => 0 } });
      if (typeof made === 'number') throw new Error('no domain');
      return made;
    };
    const [rid, plain, pasid] = [faulting(), domain(one), faulting()];
    expect(one.faultParam).toBeUndefined();
    expect(attach(one, NO_PASID, rid, new AttachHandle())).toBe(0);
    expect(attach(one, 5, pasid, new AttachHandle())).toBe(0);
    expect(one.faultUsers).toBe(2);
    expect(replace(one, NO_PASID, plain, new AttachHandle())).toBe(0);
    expect(one.faultParam).toBeDefined();
    detach(one, 5, pasid);
    expect(one.faultParam).toBeUndefined();
    expect(one.faultUsers).toBe(0);
  });

  it('C1: a handler that is registered on the device is one more user of its faults', () => {
    const one = device(PASID);
    const made = allocUserDomain(one, { flags: 0, faultHandler: { handle: () => 0 } });
    if (typeof made === 'number') throw new Error('no domain');
    expect(attach(one, 5, made, new AttachHandle())).toBe(0);
    const registration = registerFaultHandler(one, 6, { report: () => 0 });
    if (typeof registration === 'number') throw new Error('refused');
    detach(one, 5, made);
    expect([one.faultUsers, one.faultParam !== undefined]).toEqual([1, true]);
    registration.unregister();
    expect([one.faultUsers, one.faultParam]).toEqual([0, undefined]);
  });

  it('C5: a switch to a fault-capable domain that fails leaves faults off', () => {
    const one = device();
    const made = allocUserDomain(one, { flags: 0, faultHandler: { handle: () => 0 } });
    if (typeof made === 'number') throw new Error('no domain');
    const plain = domain(one);
    expect(attach(one, NO_PASID, plain, new AttachHandle())).toBe(0);
    core.sim.faults.plan({ nth: 1 });
    expect(replace(one, NO_PASID, made, new AttachHandle())).toBe(-Errno.ENOMEM);
    core.sim.faults.clear();
    expect(one.faultParam).toBeUndefined();
    expect(one.domain).toBe(plain);
  });

  it('B3: the second call for PASID 1024 fails, and the third brings the old domain back', () => {
    const one = device(PASID);
    const [old, next] = [domain(one), domain(one)];
    expect(attach(one, 1024, old, new AttachHandle())).toBe(0);
    expect(replace(one, 1024, next, new AttachHandle())).toBe(-Errno.ENOMEM);
    expect(one.group?.domainAt(1024)).toBe(old);
    expect(replace(one, 1024, next, new AttachHandle())).toBe(0);
    detach(one, 1024, next);
    expect(attach(one, 1024, old, new AttachHandle())).toBe(0);
  });
});

describe('dirty tracking of mock domains', () => {
  const IOVA = 0x200_0000n;
  const FRAME = 2 ** 29;
  let tracked: MockPagingDomain;

  beforeEach(() => {
    tracked = domain(device(), DomainFlags.DIRTY_TRACKING);
    tracked.map(IOVA, FRAME, 32, RW); // 64 KiB: one entry
    tracked.setTracking(true);
  });

  function read(from: bigint, frames: number, flags = 0): [number, number][] {
    const told: [number, number][] = [];
    const rc = tracked.readAndClear(from, frames, flags, new IotlbGather(), (at, count) =>
      told.push([at, count]),
    );
    expect(rc).toBe(0);
    return told;
  }

  it('tells 31 of 32 for 64 KiB read at 2 KiB, and cleans all (kernel-quirks 1)', () => {
    expect(tracked.isTracking).toBe(true);
    expect(tracked.markDirty(IOVA + 4096n)).toBe(0);
    const first = Number(IOVA / 2048n);
    expect(read(IOVA, 32, DIRTY_NO_CLEAR)).toEqual([[first, 31]]);
    expect(read(IOVA, 32)).toEqual([[first, 31]]);
    expect(read(IOVA, 32)).toEqual([]);
  });

  it('answers where Linux hangs: a read that starts in the last item', () => {
    tracked.markDirty(IOVA);
    const last = IOVA + 31n * 2048n;
    expect(read(last, 1)).toEqual([[Number(last / 2048n), 1]]);
    expect(read(IOVA, 32)).toEqual([]);
  });

  it('puts what was cleaned into the gather', () => {
    tracked.markDirty(IOVA);
    const gather = new IotlbGather();
    tracked.readAndClear(IOVA, 32, 0, gather);
    expect([gather.start, gather.last]).toEqual([Number(IOVA / 2048n), Number(IOVA / 2048n) + 30]);
  });

  it('passes over what is not mapped, and refuses what is out of reach', () => {
    expect(read(IOVA + 0x10000n, 64)).toEqual([]);
    expect(tracked.markDirty(IOVA + 0x10000n)).toBe(-Errno.ENOENT);
    expect(tracked.readAndClear(1n << 40n, 1, 0, new IotlbGather())).toBe(-Errno.ERANGE);
    expect(tracked.readAndClear(IOVA, 0, 0, new IotlbGather())).toBe(-Errno.EINVAL);
  });
});

describe('memory of the mock IOMMU', () => {
  it('comes back, whichever allocation fails on the way', () => {
    const run = (): void => {
      const made = mock.createDevice(PASID, {});
      if (typeof made === 'number') return expect(made).toBe(-Errno.ENOMEM);
      if (claimDmaOwner(made, 'me') === 0) {
        const paging = allocUserDomain(made, { flags: 0 });
        if (paging instanceof MockPagingDomain) {
          if (attach(made, NO_PASID, paging, new AttachHandle()) === 0) {
            paging.map(0x200_0000n, 2 ** 29 + 2, 4096, RW);
            detach(made, NO_PASID, paging);
          }
          paging.free();
        }
        releaseDmaOwner(made);
      }
      return mock.destroyDevice(made);
    };
    const points = sweepFaults(
      () => {
        run();
        expect([mock.ram.liveFrames, mock.devices, core.groups.isEmpty()]).toEqual([0, [], true]);
      },
      { faults: sim.faults },
    );
    expect(points).toBeGreaterThan(5);
  });
});
