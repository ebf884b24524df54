// SPDX-License-Identifier: Apache-2.0
/** Hardware queues of a guest, through the calls of a client. */
import { beforeEach, describe, expect, it } from 'vitest';
import { code, IOVA, NestedWorld } from '../drivers/mock/fake_guest.ts';

let world: NestedWorld;

beforeEach(() => {
  world = new NestedWorld();
  return () => expect(world.end()).toEqual([]);
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
