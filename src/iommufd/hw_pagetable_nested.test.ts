// SPDX-License-Identifier: Apache-2.0
/** Nested tables, through the calls of a client. */
import { beforeEach, describe, expect, it } from 'vitest';
import { code, IOTLB, NEST_PARENT, NestedWorld, NOWHERE } from '../drivers/mock/fake_guest.ts';

let world: NestedWorld;

beforeEach(() => {
  world = new NestedWorld();
  return () => expect(world.end()).toEqual([]);
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
