// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../base/errno.ts';
import { attach } from './attach.ts';
import { NO_PASID } from './device.ts';
import { type PagingDomain, Prot } from './domain.ts';
import { FakeWorld } from './fake_driver.ts';
import { AttachHandle } from './handle.ts';
import { getMsiCookie, prepareMsi } from './msi_cookie.ts';
import { claimDmaOwner } from './ownership.ts';
import { mergeResvRegions, type ResvRegion, ResvType } from './reserved.ts';

let world: FakeWorld;

beforeEach(() => {
  world = new FakeWorld();
  return expectQuiet;
});

/** Nobody broke a rule, and no lock is left held. */
function expectQuiet(): void {
  expect(world.core.warnings).toEqual([]);
  world.sim.assertNothingHeld();
}

describe('reserved regions', () => {
  const direct: ResvRegion = {
    start: 0x1000n,
    last: 0x2fffn,
    prot: Prot.READ,
    type: ResvType.DIRECT,
  };
  const relaxable: ResvRegion = {
    ...direct,
    start: 0x5000n,
    last: 0x5fffn,
    type: ResvType.DIRECT_RELAXABLE,
  };
  const msi: ResvRegion = { start: 0xfee0_0000n, last: 0xfeef_ffffn, prot: 2, type: ResvType.MSI };

  it('B5: are those of one device, from its platform and its driver', () => {
    world = new FakeWorld({ getResvRegions: () => [msi] });
    const [first, second] = [
      world.add('a', { group: 1, resvRegions: [direct] }),
      world.add('b', { group: 1 }),
    ];
    expect(world.core.resvRegions(first)).toEqual([direct, msi]);
    expect(world.core.resvRegions(second)).toEqual([msi]);
    expect(first.group?.resvRegions()).toEqual([direct, msi]);
  });

  it('that are direct are mapped one to one in the default domain, others are not', () => {
    const device = world.add('a', { resvRegions: [direct, relaxable, msi] });
    const domain = device.rid as PagingDomain;
    const at = [0x0fffn, 0x1000n, 0x2fffn, 0x3000n, 0x5000n, 0xfee0_0000n];
    expect(at.map((iova) => domain.iovaToPhys(iova))).toEqual([
      -1n,
      0x1000n,
      0x2fffn,
      -1n,
      0x5000n,
      -1n,
    ]);
  });

  it('of a second device are added to what the first has mapped', () => {
    world.add('a', { group: 1, resvRegions: [direct] });
    const wider = { ...direct, start: 0x0n, last: 0x4fffn };
    const device = world.add('b', { group: 1, resvRegions: [wider] });
    const domain = device.rid as PagingDomain;
    expect(domain.runs(0n, 10)).toEqual([{ frame: 0, frames: 10 }]);
  });

  it('of a group are sorted, and joined where they touch and are of one type', () => {
    const [a, b] = [
      { ...msi, start: 0x3000n, last: 0x3fffn },
      { ...msi, start: 0x1000n, last: 0x2fffn },
    ];
    expect(mergeResvRegions([a, direct, b, { ...a, start: 0x3800n }])).toEqual([
      direct,
      { ...b, last: 0x3fffn },
    ]);
  });
});

describe('interrupts', () => {
  it('B6: a group is isolated when all its devices are', () => {
    const device = world.add('a', { group: 1 });
    expect(device.group?.hasIsolatedMsi()).toBe(true);
    world.add('b', { group: 1, isolatedMsi: false });
    expect(device.group?.hasIsolatedMsi()).toBe(false);
  });

  it('B6: a doorbell is mapped once for all devices in the domain, in the window', () => {
    const device = world.add('a');
    claimDmaOwner(device, 'me');
    const domain = world.domain(device);
    expect(getMsiCookie(domain, 0x800_0000n)).toBe(0);
    expect(getMsiCookie(domain, 0x800_0000n)).toBe(-Errno.EEXIST);
    attach(device, NO_PASID, domain, new AttachHandle());
    expect(prepareMsi(device, 0x1234_5040n)).toBe(0x800_0040n);
    expect(prepareMsi(device, 0x1234_5080n)).toBe(0x800_0080n);
    expect(prepareMsi(device, 0x2000_0000n)).toBe(0x800_1000n);
    expect(domain.iovaToPhys(0x800_0040n)).toBe(0x1234_5040n);
  });

  it('B6: a domain that nobody prepared has no window', () => {
    const device = world.add('a');
    claimDmaOwner(device, 'me');
    expect(prepareMsi(device, 0x1234_5040n)).toBe(-Errno.EOPNOTSUPP);
    expect(getMsiCookie(world.blocked, 0n)).toBe(-Errno.EINVAL);
  });
});
