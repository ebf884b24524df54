// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import * as t from '../abi/iommufd_test.ts';
import type { ErrnoError } from '../base/errno.ts';
import type { MockDevice } from '../drivers/mock/mock_device.ts';
import { MockIommu } from '../drivers/mock/mock_iommu.ts';
import { NO_PASID } from '../iommu/device.ts';
import { IommuCap } from '../iommu/ops.ts';
import { type ResvRegion, ResvType } from '../iommu/reserved.ts';
import { Sim } from '../sim/sim.ts';
import { attachDevice, detachDevice, replaceDevice } from './change_pt.ts';
import { type BindOptions, IommufdDevice } from './device.ts';
import { Ioas } from './ioas.ts';
import { Iommufd } from './iommufd.ts';
import { LocalClient } from './local_client.ts';

const PAGE = 0x1000n;
const MEMORY = 0x10_0000n;
const IOVA = 1n << 24n;

let iommufd: Iommufd;
let mock: MockIommu;
let client: LocalClient;

beforeEach(() => {
  iommufd = new Iommufd({ sim: new Sim({ checkLocks: true }) });
  mock = new MockIommu(iommufd.core);
  iommufd.testHardware = mock;
  client = new LocalClient(iommufd);
  client.process.mm.map(MEMORY, 0x10000);
  return expectQuiet;
});

/** Nobody broke a rule, and no lock is left held. */
function expectQuiet(): void {
  expect(iommufd.core.warnings).toEqual([]);
  iommufd.sim.assertNothingHeld();
}

const newIoas = (): number => client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
const map = (ioas: number, iova: bigint) =>
  client.call('IOMMU_IOAS_MAP', { flags: 7, ioas_id: ioas, user_va: MEMORY, length: PAGE, iova });
const newHwpt = (dev_id: number, pt_id: number, flags = 0): number =>
  client.call('IOMMU_HWPT_ALLOC', { dev_id, pt_id, flags }).out_hwpt_id;

function device(
  options: {
    group?: number;
    flags?: number;
    resvRegions?: ResvRegion[];
    isolatedMsi?: boolean;
  } = {},
): MockDevice {
  const { flags = 0, ...rest } = options;
  const made = mock.createDevice(flags, rest);
  if (typeof made === 'number') throw new Error(`createDevice: ${made}`);
  return made;
}

const bind = (of: MockDevice, options: BindOptions = {}): IommufdDevice =>
  IommufdDevice.claim(client.file.context, of, { selftest: true, ...options });

const region = (start: bigint, last: bigint, type: ResvType = ResvType.RESERVED): ResvRegion => ({
  start,
  last,
  prot: 0,
  type,
});

function code(body: () => unknown): string {
  try {
    body();
    return 'OK';
  } catch (error) {
    return (error as ErrnoError).code;
  }
}

/** Everything that a refused call must leave alone. */
const state = (): unknown => ({
  objects: [...client.file.context.objects].map((object) => ({
    id: object.id,
    type: object.type,
    users: object.users,
    ...(object instanceof Ioas
      ? {
          reserved: [...object.table.reserved].map(({ start, last }) => [start, last]),
          domains: object.table.domains.length,
        }
      : {}),
  })),
  domains: mock.devices.map(({ domain }) => domain),
  frames: mock.ram.liveFrames,
});

const reservedOf = (id: number): [bigint, bigint][] => {
  const ioas = [...client.file.context.objects].find((object) => object.id === id);
  if (!(ioas instanceof Ioas)) throw new Error(`${id} is no IOAS`);
  const own = [...ioas.table.reserved].filter(({ owner }) => mock.devices.includes(owner as never));
  return own.map(({ start, last }) => [start, last]);
};

describe('devices of one group', () => {
  it('B2: attach to one table, and the last of them takes it off the group', () => {
    const [first, second] = [bind(device({ group: 1 })), bind(device({ group: 1 }))];
    const [ioas, other] = [newIoas(), newIoas()];
    const hwpt = attachDevice(first, NO_PASID, ioas);
    expect(code(() => attachDevice(second, NO_PASID, other))).toBe('EINVAL');
    expect(attachDevice(second, NO_PASID, ioas)).toBe(hwpt);
    const inForce = mock.devices[0]?.domain;
    detachDevice(client.file.context, first, NO_PASID);
    expect(mock.devices.map(({ domain }) => domain)).toEqual([inForce, inForce]);
    detachDevice(client.file.context, second, NO_PASID);
    expect(mock.devices.map(({ domain }) => domain)).toEqual([
      mock.ops.blockedDomain,
      mock.ops.blockedDomain,
    ]);
  });

  it('B2: a replace moves all that are attached, and their references', () => {
    const [first, second] = [bind(device({ group: 1 })), bind(device({ group: 1 }))];
    const [from, to] = [newIoas(), newIoas()];
    for (const each of [first, second]) attachDevice(each, NO_PASID, from);
    const hwpt = replaceDevice(second, NO_PASID, to);
    const objects = [...client.file.context.objects];
    expect(objects.find(({ id }) => id === hwpt)?.users).toBe(3);
    expect(objects.find(({ id }) => id === from)?.users).toBe(1);
  });

  it('B2: a detach of one that is not attached leaves the others alone', () => {
    const [first, second] = [bind(device({ group: 1 })), bind(device({ group: 1 }))];
    attachDevice(first, NO_PASID, newIoas());
    const before = state();
    detachDevice(client.file.context, second, NO_PASID);
    expect(state()).toEqual(before);
  });
});

describe('replace', () => {
  it('B3: that the driver refuses for one device of the group changes nothing', () => {
    const tracking = bind(device());
    const resvRegions = [region(IOVA, IOVA + PAGE - 1n)];
    const first = bind(device({ group: 1, resvRegions }));
    bind(device({ group: 1, flags: t.MOCK_FLAGS_DEVICE_NO_DIRTY }));
    const [from, to] = [newIoas(), newIoas()];
    const dirty = newHwpt(tracking.id, to, 2);
    attachDevice(first, NO_PASID, from);
    const before = state();
    expect(code(() => replaceDevice(first, NO_PASID, dirty))).toBe('EINVAL');
    expect(state()).toEqual(before);
  });

  it('B3: that meets a map in a reserved region changes nothing', () => {
    const first = bind(
      device({ group: 1, resvRegions: [region(IOVA + PAGE, IOVA + 2n * PAGE - 1n)] }),
    );
    const second = bind(device({ group: 1, resvRegions: [region(IOVA, IOVA + PAGE - 1n)] }));
    const [from, to] = [newIoas(), newIoas()];
    for (const each of [first, second]) attachDevice(each, NO_PASID, from);
    map(to, IOVA);
    const before = state();
    expect(code(() => replaceDevice(first, NO_PASID, to))).toBe('EADDRINUSE');
    expect(state()).toEqual(before);
  });

  it('B4: of a device that is not attached is EINVAL, even where another of its group is', () => {
    const [first, second] = [bind(device({ group: 1 })), bind(device({ group: 1 }))];
    const ioas = newIoas();
    attachDevice(first, NO_PASID, ioas);
    const before = state();
    expect(code(() => replaceDevice(second, NO_PASID, newIoas()))).toBe('EINVAL');
    client.call('IOMMU_DESTROY', { id: 5 });
    expect(state()).toEqual(before);
  });

  it('B4: writes pt_id back on success only', () => {
    const [from, to] = [newIoas(), newIoas()];
    map(to, PAGE); // outside the aperture of a mock domain
    const { out_stdev_id: id } = client.call('IOMMU_TEST_CMD', {
      op: t.IOMMU_TEST_OP_MOCK_DOMAIN,
      id: from,
    }).u.mock_domain;
    const replaceBy = (pt_id: number): [number, number] => {
      const u = { mock_domain_replace: { pt_id } };
      const op = t.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE;
      const { result, reply } = client.tryCall('IOMMU_TEST_CMD', { op, id, u });
      return [result.value, reply.u.mock_domain_replace.pt_id];
    };
    expect(replaceBy(to)).toEqual([-98, to]); // EADDRINUSE
    client.call('IOMMU_IOAS_UNMAP', { ioas_id: to, iova: PAGE, length: PAGE });
    expect(replaceBy(to)).toEqual([0, 6]); // the table that was made, beside the one that is let go of
  });
});

describe('reserved regions', () => {
  it('B5: of every attached device hold, and go with their device', () => {
    const [low, high] = [
      region(IOVA, IOVA + PAGE - 1n),
      region(IOVA + PAGE, IOVA + 2n * PAGE - 1n),
    ];
    const first = bind(device({ group: 1, resvRegions: [low] }));
    const second = bind(device({ group: 1, resvRegions: [high] }));
    const ioas = newIoas();
    attachDevice(first, NO_PASID, ioas);
    expect(reservedOf(ioas)).toEqual([[low.start, low.last]]);
    attachDevice(second, NO_PASID, ioas);
    expect(code(() => map(ioas, high.start))).toBe('EINVAL');
    detachDevice(client.file.context, first, NO_PASID);
    expect(reservedOf(ioas)).toEqual([[high.start, high.last]]);
    expect(code(() => map(ioas, low.start))).toBe('OK');
  });

  it('B5: that are only relaxable do not bind', () => {
    const relaxable = region(IOVA, IOVA + PAGE - 1n, ResvType.DIRECT_RELAXABLE);
    const one = bind(device({ resvRegions: [relaxable] }));
    const ioas = newIoas();
    attachDevice(one, NO_PASID, ioas);
    expect(reservedOf(ioas)).toEqual([]);
  });
});

describe('interrupts', () => {
  it('B6: that another device can forge are refused at bind, unless the caller accepts that', () => {
    const unsafe = device({ isolatedMsi: false });
    const options = { selftest: false };
    expect(code(() => bind(unsafe, options))).toBe('EPERM');
    expect(unsafe.group?.ownerCount).toBe(0);
    bind(unsafe, { ...options, allowUnsafeInterrupts: true }).unbind();
  });

  it('B6: of software have one window a group, told by the first attach', () => {
    const window = region(0x800_0000n, 0x80f_ffffn, ResvType.SW_MSI);
    const [first, second] = [
      bind(device({ group: 1, resvRegions: [window] })),
      bind(device({ group: 1, resvRegions: [window] })),
    ];
    const ioas = newIoas();
    for (const each of [first, second]) attachDevice(each, NO_PASID, ioas);
    expect(first.group).toBe(second.group);
    expect(first.group.softwareMsiStart).toBe(window.start);
    const both = bind(
      device({ resvRegions: [window, region(0xfee0_0000n, 0xfeef_ffffn, ResvType.MSI)] }),
    );
    expect(code(() => attachDevice(both, NO_PASID, ioas))).toBe('EINVAL');
  });
});

describe('hardware page tables', () => {
  it('B7: that are automatic are shared, and go with their last device', () => {
    const [first, second] = [bind(device()), bind(device())];
    const ioas = newIoas();
    const hwpt = attachDevice(first, NO_PASID, ioas);
    expect(attachDevice(second, NO_PASID, ioas)).toBe(hwpt);
    detachDevice(client.file.context, first, NO_PASID);
    expect(mock.ram.liveFrames).toBeGreaterThan(0);
    detachDevice(client.file.context, second, NO_PASID);
    expect(mock.ram.liveFrames).toBe(0);
  });

  it('B7: made by hand are never chosen for an IOAS, and stay when their device leaves', () => {
    const one = bind(device());
    const ioas = newIoas();
    const own = newHwpt(one.id, ioas);
    const automatic = attachDevice(one, NO_PASID, ioas);
    expect(automatic).not.toBe(own);
    expect(replaceDevice(one, NO_PASID, own)).toBe(own);
    detachDevice(client.file.context, one, NO_PASID);
    expect([...client.file.context.objects].map(({ id }) => id)).toEqual([one.id, ioas, own]);
  });

  it('B7: are refused where a reserved field is not 0, or flags are unknown', () => {
    const one = bind(device());
    const ioas = newIoas();
    const alloc = (fields: object) =>
      code(() => client.call('IOMMU_HWPT_ALLOC', { dev_id: one.id, pt_id: ioas, ...fields }));
    expect(alloc({ __reserved: 1 })).toBe('EOPNOTSUPP');
    expect(alloc({ flags: 1 << 5 })).toBe('EOPNOTSUPP');
    expect(alloc({})).toBe('OK');
  });

  it('B7: settle at their allocation that no DMA bypasses the caches, or are not made', () => {
    const promises = { ...mock.ops, capable: () => true };
    Object.assign(mock.ops, promises);
    const one = bind(device());
    expect(one.capable(IommuCap.ENFORCE_CACHE_COHERENCY)).toBe(true);
    const ioas = newIoas();
    const before = state();
    expect(code(() => newHwpt(one.id, ioas))).toBe('EINVAL');
    expect(code(() => attachDevice(one, NO_PASID, ioas))).toBe('EINVAL');
    expect(state()).toEqual(before);
  });

  it('B7: whose allocation ends in an error leave their id, their memory and the IOAS free', () => {
    const one = bind(device());
    const ioas = newIoas();
    map(ioas, PAGE); // outside the aperture
    const before = state();
    expect(code(() => newHwpt(one.id, ioas))).toBe('EADDRINUSE');
    expect(code(() => attachDevice(one, NO_PASID, ioas))).toBe('EADDRINUSE');
    expect(state()).toEqual(before);
    expect(newIoas()).toBe(ioas + 1); // the lowest free id
  });
});
