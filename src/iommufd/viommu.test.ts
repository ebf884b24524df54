// SPDX-License-Identifier: Apache-2.0
/** Virtual IOMMUs and the devices of a guest, through the calls of a client. */
import { beforeEach, describe, expect, it } from 'vitest';
import { sweepFaults } from '../sim/faults.ts';
import { code, IOVA, NestedWorld, NOWHERE, SELFTEST } from '../drivers/mock/fake_guest.ts';

let world: NestedWorld;

beforeEach(() => {
  world = new NestedWorld();
  return () => expect(world.end()).toEqual([]);
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

describe('E2: whichever allocation fails', () => {
  it('everything of a guest is undone', () => {
    let points = 0;
    const failed = sweepFaults((faults) => {
      const plan = { nth: points + 1 };
      faults.clear();
      const one = new NestedWorld(faults);
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
