// SPDX-License-Identifier: Apache-2.0
/** Events for a guest, through the calls of a client. */
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { type DeviceFile, Poll } from '../kernel/file.ts';
import { BUFFER, code, NestedWorld, NOWHERE } from '../drivers/mock/fake_guest.ts';

let world: NestedWorld;

beforeEach(() => {
  world = new NestedWorld();
  return () => expect(world.end()).toEqual([]);
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
