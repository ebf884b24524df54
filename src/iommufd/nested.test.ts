// SPDX-License-Identifier: Apache-2.0
/** Nested tables, virtual IOMMUs and what belongs to them, through the calls of a client. */
import { beforeEach, describe, expect, it } from 'vitest';
import * as t from '../abi/iommufd_test.ts';
import { Errno, type ErrnoError } from '../base/errno.ts';
import { MockIommu } from '../drivers/mock/mock_iommu.ts';
import { type DeviceFile, Poll } from '../kernel/file.ts';
import { type Faults, sweepFaults } from '../sim/faults.ts';
import { Sim } from '../sim/sim.ts';
import { Iommufd } from './iommufd.ts';
import { LocalClient } from './local_client.ts';

/* The numbers of iommufd.h and iommufd_test.h, written out again. */
const NEST_PARENT = 1;
const SELFTEST_HWPT = 0xdead;
const SELFTEST = 0xdeadbeef;
const SELFTEST_EVENTS = 0xbeefbeef;
const IOTLB = 0xbadbeef;
const PAGE = 0x1000n;
const BUFFER = 0x20_0000n;
const MEMORY = 0x10_0000n;
const NOWHERE = 0x7000_0000n;
const IOVA = 1n << 24n;

/** A machine with one mock device in an IOAS, and a nesting parent. */
class World {
  readonly sim: Sim;
  readonly iommufd: Iommufd;
  readonly mock: MockIommu;
  readonly client: LocalClient;
  readonly ioas: number;
  readonly stdev: number;
  readonly idev: number;
  readonly parent: number;

  constructor(faults?: Faults) {
    this.sim = new Sim({ checkLocks: true, ...(faults ? { faults } : {}) });
    this.iommufd = new Iommufd({ sim: this.sim });
    this.mock = new MockIommu(this.iommufd.core);
    this.iommufd.testHardware = this.mock;
    this.client = new LocalClient(this.iommufd);
    this.client.process.mm.map(BUFFER, 0x10000);
    this.client.process.mm.map(MEMORY, 0x10000);
    this.ioas = this.client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    const { stdev, idev } = this.mockDevice();
    this.stdev = stdev;
    this.idev = idev;
    this.parent = this.hwpt(this.ioas, { flags: NEST_PARENT });
  }

  mockDevice(): { stdev: number; idev: number } {
    const op = t.IOMMU_TEST_OP_MOCK_DOMAIN;
    const { u } = this.client.call('IOMMU_TEST_CMD', { op, id: this.ioas });
    const { out_stdev_id: stdev, out_idev_id: idev } = u.mock_domain;
    return { stdev, idev };
  }

  put(words: readonly number[], at = BUFFER): void {
    this.client.process.mm.copyOut(at, new Uint8Array(Uint32Array.from(words).buffer));
  }

  get(words: number, at = BUFFER): number[] {
    const bytes = new Uint8Array(words * 4);
    this.client.process.mm.copyIn(at, bytes);
    return [...new Uint32Array(bytes.buffer)];
  }

  hwpt(pt_id: number, { flags = 0, data_type = 0, data_len = 0, dev_id = this.idev } = {}): number {
    const request = { dev_id, pt_id, flags, data_type, data_len, data_uptr: BUFFER };
    return this.client.call('IOMMU_HWPT_ALLOC', request).out_hwpt_id;
  }

  nested(pt_id = this.parent, options: { flags?: number; data_len?: number } = {}): number {
    this.put([IOTLB, 0, 0, 0]);
    return this.hwpt(pt_id, { data_type: SELFTEST_HWPT, data_len: 8, ...options });
  }

  viommu(
    options: { data?: number; hwpt_id?: number; dev_id?: number; type?: number } = {},
  ): number {
    const { data, hwpt_id = this.parent, dev_id = this.idev, type = SELFTEST } = options;
    if (data !== undefined) this.put([data, 0, 0, 0, 0, 0]);
    const data_len = data === undefined ? 0 : 24;
    const request = { type, dev_id, hwpt_id, data_len, data_uptr: BUFFER };
    return this.client.call('IOMMU_VIOMMU_ALLOC', request).out_viommu_id;
  }

  vdevice(viommu_id: number, virt_id: bigint, dev_id = this.idev): number {
    return this.client.call('IOMMU_VDEVICE_ALLOC', { viommu_id, dev_id, virt_id }).out_vdevice_id;
  }

  events(viommu_id: number, veventq_depth: number): { id: number; fd: number; file: DeviceFile } {
    const request = { viommu_id, type: SELFTEST_EVENTS, veventq_depth };
    const { out_veventq_id: id, out_veventq_fd: fd } = this.client.call(
      'IOMMU_VEVENTQ_ALLOC',
      request,
    );
    const open = this.client.process.get(fd);
    if (open?.kind !== 'device') throw new Error('no queue');
    return { id, fd, file: open.file };
  }

  queue(viommu_id: number, index: number, nesting_parent_iova: bigint, length = 0x100n): number {
    const request = { viommu_id, type: SELFTEST, index, nesting_parent_iova, length };
    return this.client.call('IOMMU_HW_QUEUE_ALLOC', request).out_hw_queue_id;
  }

  map(iova: bigint, length = PAGE): void {
    const request = { flags: 7, ioas_id: this.ioas, user_va: MEMORY, length, iova };
    this.client.call('IOMMU_IOAS_MAP', request);
  }

  unmap(iova: bigint, length = PAGE): string {
    return code(() => this.client.call('IOMMU_IOAS_UNMAP', { ioas_id: this.ioas, iova, length }));
  }

  replace(pt_id: number): void {
    const op = t.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE;
    this.client.call('IOMMU_TEST_CMD', {
      op,
      id: this.stdev,
      u: { mock_domain_replace: { pt_id } },
    });
  }

  trigger(dev_id = this.idev): string {
    const op = t.IOMMU_TEST_OP_TRIGGER_VEVENT;
    return code(() =>
      this.client.call('IOMMU_TEST_CMD', { op, u: { trigger_vevent: { dev_id } } }),
    );
  }

  /** Which entries of a nested table's cache hold a value. */
  iotlb(id: number, value: number): number[] {
    const op = t.IOMMU_TEST_OP_MD_CHECK_IOTLB;
    return [0, 1, 2, 3, 4].filter((entry) => {
      const u = { check_iotlb: { id: entry, iotlb: value } };
      return code(() => this.client.call('IOMMU_TEST_CMD', { op, id, u })) === 'OK';
    });
  }

  invalidate(
    hwpt_id: number,
    entries: readonly (readonly number[])[],
    fields: { data_type?: number; entry_len?: number; entry_num?: number; data_uptr?: bigint } = {},
  ): string {
    this.put(entries.flat());
    const request = {
      hwpt_id,
      data_uptr: BUFFER,
      data_type: SELFTEST,
      entry_len: (entries[0]?.length ?? 2) * 4,
      entry_num: entries.length,
      ...fields,
    };
    const { result, reply } = this.client.tryCall('IOMMU_HWPT_INVALIDATE', request);
    const name = Object.entries(Errno).find(([, value]) => value === -result.value)?.[0] ?? 'OK';
    return `${name} ${reply.entry_num}`;
  }

  destroy(id: number): string {
    return code(() => this.client.call('IOMMU_DESTROY', { id }));
  }

  ids(): number[] {
    return [...this.client.file.context.objects].map(({ id }) => id);
  }
}

function code(body: () => unknown): string {
  try {
    body();
    return 'OK';
  } catch (error) {
    return (error as ErrnoError).code;
  }
}

let world: World;

beforeEach(() => {
  world = new World();
  return () => {
    expect(world.iommufd.core.warnings).toEqual([]);
    world.sim.assertNothingHeld();
    world.client.process.exit();
    expect(world.iommufd.contexts).toEqual([]);
    expect(world.iommufd.memory.segmentCount).toBe(0);
  };
});

describe('nested tables', () => {
  it('hold their parent, and can be attached', () => {
    const nested = world.nested();
    expect(world.destroy(world.parent)).toBe('EBUSY');
    world.replace(nested);
    expect(world.destroy(nested)).toBe('EBUSY');
    world.replace(world.ioas);
    expect(world.destroy(nested)).toBe('OK');
    expect(world.destroy(world.parent)).toBe('OK');
  });

  it('want a parent made to be one, and data for the driver', () => {
    const plain = world.hwpt(world.ioas);
    const before = world.ids();
    expect(code(() => world.nested(plain))).toBe('EINVAL');
    expect(code(() => world.nested(999))).toBe('EINVAL');
    expect(code(() => world.nested(world.idev))).toBe('EINVAL');
    expect(code(() => world.hwpt(world.parent))).toBe('EOPNOTSUPP');
    expect(code(() => world.nested(world.parent, { flags: NEST_PARENT }))).toBe('EOPNOTSUPP');
    expect(code(() => world.nested(world.parent, { data_len: 3 }))).toBe('EINVAL');
    expect(code(() => world.nested(world.parent, { data_len: 9 }))).toBe('EINVAL');
    expect(code(() => world.hwpt(world.parent, { data_type: 1, data_len: 8 }))).toBe('EOPNOTSUPP');
    expect(world.ids()).toEqual(before);
    expect(world.nested(world.parent, { data_len: 4 })).toBeGreaterThan(0);
  });

  it('are invalidated entry by entry, up to the first bad one', () => {
    const nested = world.nested();
    expect(world.iotlb(nested, IOTLB)).toEqual([0, 1, 2, 3]);
    expect(world.invalidate(nested, [[0, 1]])).toBe('OK 1');
    expect(world.iotlb(nested, 0)).toEqual([1]);
    expect(world.invalidate(nested, [[0, 0], [0, 4], [0, 2]])).toBe('EINVAL 1'); // prettier-ignore
    expect(world.iotlb(nested, 0)).toEqual([0, 1]);
    expect(world.invalidate(nested, [[2, 0]])).toBe('EOPNOTSUPP 0');
    expect(world.invalidate(nested, [[1, 0]])).toBe('OK 1');
    expect(world.iotlb(nested, 0)).toEqual([0, 1, 2, 3]);
  });

  it('answer an invalidation with the number done, whatever is wrong with it', () => {
    const nested = world.nested();
    expect(world.invalidate(nested, [], { entry_num: 0 })).toBe('OK 0');
    expect(world.invalidate(nested, [], { data_type: 1 })).toBe('EINVAL 0');
    expect(world.invalidate(nested, [[0, 1]], { data_uptr: 0n })).toBe('EINVAL 0');
    expect(world.invalidate(nested, [[0, 1]], { data_uptr: NOWHERE })).toBe('EFAULT 0');
    expect(world.invalidate(nested, [[0, 1]], { entry_len: 4097 })).toBe('EINVAL 0');
    expect(world.invalidate(999, [[0, 1]], { entry_num: 2 ** 19 + 1 })).toBe('EINVAL 0');
    expect(world.invalidate(999, [[0, 1]])).toBe('ENOENT 0');
    expect(world.invalidate(world.parent, [[0, 1]])).toBe('EINVAL 0');
    expect(world.invalidate(nested, [[0, 1, 0]])).toBe('EINVAL 0'); // longer than the driver knows
    expect(world.iotlb(nested, IOTLB)).toEqual([0, 1, 2, 3]);
  });
});

describe('virtual IOMMUs', () => {
  it('are made on a nesting parent, which they hold', () => {
    const plain = world.hwpt(world.ioas);
    expect(code(() => world.viommu({ type: 0 }))).toBe('EOPNOTSUPP');
    expect(code(() => world.viommu({ type: 1, hwpt_id: 999 }))).toBe('EOPNOTSUPP');
    expect(code(() => world.viommu({ dev_id: 999 }))).toBe('ENOENT');
    expect(code(() => world.viommu({ hwpt_id: world.ioas }))).toBe('ENOENT');
    expect(code(() => world.viommu({ hwpt_id: plain }))).toBe('EINVAL');
    const viommu = world.viommu();
    expect(world.destroy(world.parent)).toBe('EBUSY');
    const nested = world.nested(viommu);
    expect(world.destroy(viommu)).toBe('EBUSY');
    expect(world.destroy(nested)).toBe('OK');
    expect(world.destroy(viommu)).toBe('OK');
    expect(world.destroy(world.parent)).toBe('OK');
  });

  it('let a nested table be attached to devices that the guest has only', () => {
    const viommu = world.viommu();
    const nested = world.nested(viommu);
    expect(code(() => world.replace(nested))).toBe('ENOENT');
    world.vdevice(viommu, 0x42n);
    world.replace(nested);
    world.replace(world.ioas);
  });

  it('share pages with the client at an offset of /dev/iommu, and are busy while they are mapped', () => {
    const viommu = world.viommu({ data: 0xabcd });
    const [, out, offset] = world.get(6);
    expect([out, offset]).toEqual([0xabcd, 0x1000]);
    const second = world.viommu({ data: 1 });
    expect(world.get(6)[2]).toBe(0x3000);
    const { mmaps } = world.client.file.context;
    const whole = { offset: 0x1000n, length: 0x2000n, shared: true, executable: false };
    const map = (change: Partial<typeof whole>) => code(() => mmaps.map({ ...whole, ...change }));
    expect(map({ length: 0x2001n, shared: false })).toBe('EINVAL');
    expect(map({ shared: false, executable: true })).toBe('EINVAL');
    expect(map({ executable: true, offset: 0n })).toBe('EPERM');
    for (const change of [{ offset: 0n }, { offset: 0x2000n }, { length: 0x1000n }])
      expect(map(change)).toBe('ENXIO');
    const region = mmaps.map(whole);
    const word = new Uint8Array(4);
    region.read(0, word);
    expect([...word]).toEqual([0xcd, 0xab, 0, 0]);
    expect(world.destroy(viommu)).toBe('EBUSY');
    region.closed();
    expect(world.destroy(viommu)).toBe('OK');
    expect(map({})).toBe('ENXIO');
    world.viommu({ data: 2 });
    expect(world.get(6)[2]).toBe(0x1000); // the lowest that is free
    expect(world.destroy(second)).toBe('OK');
  });

  it('keep /dev/iommu open while a client has their pages mapped', () => {
    world.viommu({ data: 1 });
    const { mmaps } = world.client.file.context;
    const region = mmaps.map({ offset: 0x1000n, length: 0x2000n, shared: true, executable: false });
    world.client.close();
    expect(world.iommufd.contexts).toHaveLength(1);
    region.closed();
    expect(world.iommufd.contexts).toEqual([]);
  });

  it('leave nothing behind where the answer to their data can not be written', () => {
    const before = world.ids();
    world.client.process.mm.map(0x30_0000n, 0x1000, { writable: false });
    const request = { type: SELFTEST, dev_id: world.idev, hwpt_id: world.parent, data_len: 24 };
    const alloc = (data_uptr: bigint) =>
      code(() => world.client.call('IOMMU_VIOMMU_ALLOC', { ...request, data_uptr }));
    expect(alloc(0x30_0000n)).toBe('EFAULT');
    expect(world.ids()).toEqual(before);
    world.viommu({ data: 1 });
    expect(world.get(6)[2]).toBe(0x1000);
  });
});

describe('devices of a guest', () => {
  it('have one virtual id, which is theirs alone', () => {
    const viommu = world.viommu();
    const other = world.mockDevice();
    const vdevice = world.vdevice(viommu, 1n);
    expect(code(() => world.vdevice(viommu, 2n))).toBe('EEXIST');
    expect(code(() => world.vdevice(viommu, 1n, other.idev))).toBe('EEXIST');
    expect(code(() => world.vdevice(999, 3n))).toBe('ENOENT');
    expect(code(() => world.vdevice(viommu, 3n, 999))).toBe('ENOENT');
    expect(world.destroy(viommu)).toBe('EBUSY');
    expect(world.destroy(vdevice)).toBe('OK');
    expect(world.vdevice(viommu, 1n, other.idev)).toBe(vdevice);
  });

  it('go with their device, and their id is used no more', () => {
    const viommu = world.viommu();
    const other = world.mockDevice();
    const vdevice = world.vdevice(viommu, 1n, other.idev);
    expect(world.destroy(other.stdev)).toBe('OK');
    expect(world.destroy(vdevice)).toBe('ENOENT');
    const next = [1, 2, 3, 4].map(() => world.client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id);
    expect(next).not.toContain(vdevice);
    expect(world.vdevice(viommu, 1n)).not.toBe(vdevice);
  });

  it('have their caches invalidated through the virtual IOMMU', () => {
    const viommu = world.viommu();
    world.vdevice(viommu, 0x22n);
    const cache = (): number[] => [...(world.mock.devices[0]?.cache ?? [])];
    const full = cache()[0];
    expect(world.invalidate(viommu, [[0, 0x22, 1], [0, 0x22, 4]])).toBe('EINVAL 1'); // prettier-ignore
    expect(cache()).toEqual([full, 0, full, full]);
    expect(world.invalidate(viommu, [[0, 0x99, 0]])).toBe('EINVAL 0');
    expect(world.invalidate(viommu, [[1, 0x22, 0]])).toBe('OK 1');
    expect(cache()).toEqual([0, 0, 0, 0]);
    expect(world.invalidate(viommu, [], { entry_num: 0, data_type: 7 })).toBe('EINVAL 0');
    expect(world.invalidate(viommu, [], { entry_num: 0 })).toBe('OK 0');
    expect(world.invalidate(viommu, [[0, 0x22, 1, 0]])).toBe('OK 1');
    expect(world.invalidate(viommu, [[0, 0x22, 1, 5]])).toBe('E2BIG 0');
    expect(world.invalidate(viommu, [[0, 0x22, 1]], { data_uptr: NOWHERE })).toBe('EFAULT 0');
  });
});

describe('events for a guest', () => {
  const attached = (): { viommu: number } => {
    const viommu = world.viommu();
    world.vdevice(viommu, 0x42n);
    world.replace(world.nested(viommu));
    return { viommu };
  };
  const read = (file: DeviceFile, count: number): number =>
    file.read?.(world.client.process, BUFFER, count) ?? 0;

  it('need a guest that has the device, and a queue for them', () => {
    expect(world.trigger()).toBe('ENOENT');
    const { viommu } = attached();
    expect(world.trigger()).toBe('EOPNOTSUPP');
    world.events(viommu, 1);
    expect(world.trigger()).toBe('OK');
    expect(world.trigger(999)).toBe('ENOENT');
    world.replace(world.ioas);
    expect(world.trigger()).toBe('ENOENT');
  });

  it('have queues with a depth, one of each type, busy while their descriptor is open', () => {
    const viommu = world.viommu();
    expect(code(() => world.events(viommu, 0))).toBe('EINVAL');
    expect(code(() => world.events(viommu, 2 ** 19 + 1))).toBe('EINVAL');
    expect(code(() => world.events(999, 1))).toBe('ENOENT');
    const { id, fd } = world.events(viommu, 2 ** 19);
    expect(code(() => world.events(viommu, 1))).toBe('EEXIST');
    expect(world.destroy(id)).toBe('EBUSY');
    world.client.process.close(fd);
    expect(world.destroy(id)).toBe('OK');
    expect(world.destroy(viommu)).toBe('OK');
  });

  it('are numbered, and a mark says that some were lost', () => {
    const { viommu } = attached();
    const { file } = world.events(viommu, 2);
    let woken = 0;
    file.pollChanged = () => woken++;
    expect(file.poll?.()).toBe(0);
    for (let i = 0; i < 4; i++) expect(world.trigger()).toBe('OK');
    expect(woken).toBe(4);
    expect(file.poll?.()).toBe(Poll.IN | Poll.RDNORM);
    expect(read(file, 7)).toBe(-Errno.EINVAL);
    expect(read(file, 8)).toBe(-Errno.EINVAL); // a whole event has 12
    expect(read(file, 64)).toBe(12 + 12 + 8);
    expect(world.get(8)).toEqual([0, 0, 0x42, 0, 1, 0x42, 1, 3]);
    expect(read(file, 64)).toBe(0);
    expect(file.poll?.()).toBe(0);
  });

  it('that come after lost ones take the place of the mark', () => {
    const { viommu } = attached();
    const { file } = world.events(viommu, 1);
    for (let i = 0; i < 3; i++) world.trigger();
    expect(read(file, 12)).toBe(12); // the mark stays
    world.trigger();
    expect(read(file, 64)).toBe(12);
    expect(world.get(3)).toEqual([0, 3, 0x42]);
  });

  it('are not lost by a read that fails, and are not written', () => {
    const { viommu } = attached();
    const { file } = world.events(viommu, 1);
    world.trigger();
    expect(file.read?.(world.client.process, NOWHERE, 64)).toBe(-Errno.EFAULT);
    expect(file.write?.(world.client.process, BUFFER, 8)).toBe(-Errno.EINVAL);
    expect(read(file, 64)).toBe(12);
  });
});

describe('hardware queues', () => {
  it('lock their memory into the address space', () => {
    world.map(IOVA);
    const viommu = world.viommu();
    const queue = world.queue(viommu, 0, IOVA);
    expect(world.iommufd.memory.pinCount).toBeGreaterThan(0);
    expect(world.unmap(IOVA)).toBe('EBUSY');
    expect(world.destroy(viommu)).toBe('EBUSY');
    expect(world.destroy(queue)).toBe('OK');
    expect(world.unmap(IOVA)).toBe('OK');
  });

  it('take an id for the access that pins, and give it back', () => {
    world.map(IOVA);
    const viommu = world.viommu();
    const queue = world.queue(viommu, 0, IOVA);
    const next = world.client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    expect(next).toBe(queue + 2);
    expect(world.destroy(queue + 1)).toBe('EBUSY');
  });

  it('need the queue before them', () => {
    world.map(IOVA);
    const viommu = world.viommu();
    expect(code(() => world.queue(viommu, 1, IOVA))).toBe('EIO');
    const first = world.queue(viommu, 0, IOVA);
    expect(code(() => world.queue(viommu, 0, IOVA))).toBe('EEXIST');
    expect(code(() => world.queue(viommu, 2, IOVA))).toBe('EINVAL');
    const second = world.queue(viommu, 1, IOVA);
    expect(world.destroy(first)).toBe('EBUSY');
    expect(world.destroy(second)).toBe('OK');
    expect(world.destroy(first)).toBe('OK');
    expect(world.unmap(IOVA)).toBe('OK');
  });

  it('want memory that is mapped, and lengths that can be', () => {
    const viommu = world.viommu();
    const before = world.ids();
    expect(code(() => world.queue(viommu, 0, IOVA))).toBe('ENOENT');
    expect(code(() => world.queue(viommu, 0, IOVA, 0n))).toBe('EINVAL');
    expect(code(() => world.queue(viommu, 0, 2n ** 64n - 1n, 2n))).toBe('EOVERFLOW');
    expect(code(() => world.queue(viommu, 0, 0xfffn, 2n ** 64n - 0x1000n))).toBe('ERANGE');
    expect(code(() => world.queue(viommu, 0, 0n, 2n ** 63n))).toBe('ENOMEM');
    expect(world.ids()).toEqual(before);
  });
});

describe('E2: whichever allocation fails', () => {
  it('everything of a guest is undone', () => {
    let points = 0;
    const failed = sweepFaults((faults) => {
      const plan = { nth: points + 1 };
      faults.clear();
      const one = new World(faults);
      one.map(IOVA);
      const before = one.ids();
      faults.plan(plan);
      const result = code(() => {
        const viommu = one.viommu({ data: 1 });
        one.vdevice(viommu, 1n);
        const { fd } = one.events(viommu, 2);
        one.queue(viommu, 0, IOVA);
        one.replace(one.nested(viommu));
        one.client.process.close(fd);
      });
      points++;
      expect(result).toBe(faults.injected ? 'ENOMEM' : 'OK');
      for (const id of one.ids().toReversed()) if (!before.includes(id)) one.destroy(id);
      expect(one.iommufd.core.warnings).toEqual([]);
      one.client.process.exit();
      expect(one.iommufd.contexts).toEqual([]);
      expect(one.iommufd.memory.pinCount).toBe(0);
      expect(one.iommufd.memory.segmentCount).toBe(0);
    });
    expect(failed).toBeGreaterThanOrEqual(8);
  });
});
