// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { setDirty } from '../../generic_pt/dirty.ts';
import { IotlbGather } from '../../iommu/domain.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { coveringRange } from './cache_tags.ts';
import { FakeRig, fakeAts } from './fake_rig.ts';
import { CAP_ALL, ECAP_LEGACY, ECAP_SCALABLE } from './fake_vtd.ts';

const RW = 3;
const legacy = { ecap: ECAP_LEGACY };

describe('the stretch that an invalidation covers', () => {
  it.each([
    ['one page', 2, 3, { page: 1, maskLg2: 0 }],
    ['half a page', 3, 3, { page: 1, maskLg2: 0 }],
    ['two that are aligned', 4, 7, { page: 2, maskLg2: 1 }],
    ['two that are not', 2, 5, { page: 0, maskLg2: 2 }],
    ['2 MiB', 1024, 2047, { page: 512, maskLg2: 9 }],
    ['across 2^26 pages', 2 ** 27 - 2, 2 ** 27 + 1, { page: 0, maskLg2: 27 }],
    [
      'the upper half of a first stage',
      2 ** 53 - 4,
      2 ** 53 - 1,
      { page: 2 ** 52 - 2, maskLg2: 1 },
    ],
    ['everything', 0, 2 ** 53 - 1, undefined],
    ['nothing, which is everything', Infinity, -1, undefined],
    ['nothing inside a page', 7, 6, undefined],
  ])('of %s', (_what, start, last, expected) => {
    expect(coveringRange(start, last)).toEqual(expected);
  });

  it('covers all of it, and no half of it would', () => {
    const frame = fc.oneof(fc.nat(2 ** 20), fc.maxSafeNat());
    fc.assert(
      fc.property(frame, frame, (a, b) => {
        const [start, last] = a < b ? [a, b] : [b, a];
        const found = coveringRange(start, last);
        const [first, end] = [BigInt(start) / 2n, BigInt(last) / 2n];
        const lg2 = BigInt(found?.maskLg2 ?? 52);
        const page = BigInt(found?.page ?? 0);
        expect(page % (1n << lg2)).toBe(0n);
        expect(page <= first && end < page + (1n << lg2)).toBe(true);
        if (lg2 > 0n) expect(first >> (lg2 - 1n)).not.toBe(end >> (lg2 - 1n));
      }),
      { seed: 5, numRuns: 2000 },
    );
  });
});

/** One device, with a second stage that has been attached. */
function attached(options: ConstructorParameters<typeof FakeRig>[0], flags = 0) {
  const rig = new FakeRig(options);
  const device = rig.add(0x0318);
  const domain = rig.paging(device, flags);
  expect(rig.attach(device, domain)).toBe(0);
  return { rig, device, domain };
}

describe('an unmap', () => {
  it('asks for one invalidation of its own pages, in one submission', () => {
    const { rig, domain } = attached(legacy);
    domain.map(0x10_0000n, 0x1002, 512, RW);
    const asked = rig.vtd.during(() => domain.unmap(0x10_0000n, 512));
    expect(asked).toEqual(['iotlb 2 pages 0x100+2^8 leaves rw']);
    expect(rig.vtd.submissions).toEqual([1]);
  });

  it('of a first stage asks by PASID', () => {
    const { rig, domain } = attached({});
    domain.map(0x10_0000n, 0x1002, 2, RW);
    expect(rig.vtd.during(() => domain.unmap(0x10_0000n, 2))).toEqual([
      'piotlb 2/0 pages 0x100+2^0 leaves',
    ]);
  });

  it('that removes a table says so, and frees it only then', () => {
    const { rig, domain } = attached(legacy);
    domain.map(0n, 0x1002, 1024, RW);
    const live = rig.ram.liveFrames;
    expect(rig.vtd.during(() => domain.unmap(0n, 1024))).toEqual(['iotlb 2 pages 0x0+2^9 rw']);
    expect(rig.ram.liveFrames).toBe(live - 2);
  });

  it('of more than one invalidation can cover asks for the domain', () => {
    const options = { ...legacy, cap: CAP_ALL & ~(0x3fn << 48n) };
    const { rig, domain } = attached(options);
    domain.map(0n, 0x1002, 4, RW);
    expect(rig.vtd.during(() => domain.unmap(0n, 4))).toEqual(['iotlb 2 rw']);
    domain.map(0n, 0x1002, 2, RW);
    expect(rig.vtd.during(() => domain.unmap(0n, 2))).toEqual(['iotlb 2 pages 0x0+2^0 leaves rw']);
  });

  it('asks for the domain where the hardware has nothing smaller', () => {
    const { rig, domain } = attached({ ...legacy, cap: CAP_ALL & ~(1n << 39n) });
    domain.map(0n, 0x1002, 2, RW);
    expect(rig.vtd.during(() => domain.unmap(0n, 2))).toEqual(['iotlb 2 rw']);
  });

  it('asks once for all devices that share the caches, and the one of each device', () => {
    const rig = new FakeRig({ ecap: ECAP_LEGACY | 4n });
    const one = rig.add(0x0318);
    const two = rig.add(0x0320, { ats: fakeAts(3) });
    const domain = rig.paging(one);
    rig.attach(one, domain);
    rig.attach(two, domain);
    domain.map(0x10_0000n, 0x1002, 8, RW);
    expect(rig.vtd.during(() => domain.unmap(0x10_0000n, 8))).toEqual([
      `iotlb ${domain.attachments.didOn(rig.unit)} pages 0x100+2^2 leaves rw`,
      'device 0x320 0x101 S',
    ]);
    expect(rig.vtd.submissions).toEqual([2]);
  });

  it('asks for nothing where nothing was unmapped, or nobody is attached', () => {
    const { rig, device, domain } = attached(legacy);
    expect(rig.vtd.during(() => domain.unmap(0n, 2))).toEqual([]);
    domain.map(0n, 0x1002, 2, RW);
    rig.detach(device, domain);
    expect(rig.vtd.during(() => domain.unmap(0n, 2))).toEqual([]);
    expect(domain.attachments.tags.all).toEqual([]);
  });

  it('several that are gathered ask once, for what covers them', () => {
    const { rig, domain } = attached(legacy);
    domain.map(0n, 0x1002, 64, RW);
    const gather = new IotlbGather();
    const asked = rig.vtd.during(() => {
      domain.unmapGathered(0n, 2, gather);
      domain.unmapGathered(6n << 12n, 2, gather);
      expect(rig.vtd.asked).toEqual([]);
      domain.iotlbSync(gather);
    });
    expect(asked).toEqual(['iotlb 2 pages 0x0+2^3 leaves rw']);
  });

  it('is tried again where its submission fails, and keeps tables where the hardware is dead', () => {
    const { rig, domain } = attached(legacy);
    domain.map(0n, 0x1002, 1024, RW);
    rig.faults.plan({ nth: 1, kinds: ['command'] });
    expect(rig.vtd.during(() => domain.unmap(0n, 1024))).toEqual(['iotlb 2 pages 0x0+2^9 rw']);
    rig.faults.clear();
    domain.map(0n, 0x1002, 1024, RW);
    const live = rig.ram.liveFrames;
    rig.vtd.isDead = true;
    expect(domain.unmap(0n, 1024)).toBe(1024);
    expect(rig.ram.liveFrames).toBe(live);
    expect(rig.core.warnings).toHaveLength(1);
  });
});

describe('a map', () => {
  it('where nothing was asks for nothing', () => {
    const { rig, domain } = attached(legacy);
    expect(rig.vtd.during(() => domain.map(0n, 0x1002, 2, RW))).toEqual([]);
  });

  it('asks where the hardware caches what is not present: of a second stage only', () => {
    const cap = CAP_ALL | 0x80n;
    const second = attached({ ...legacy, cap });
    expect(second.rig.vtd.during(() => second.domain.map(0n, 0x1002, 2, RW))).toEqual([
      'iotlb 2 pages 0x0+2^0 rw',
    ]);
    const first = attached({ cap });
    expect(first.rig.vtd.during(() => first.domain.map(0n, 0x1002, 2, RW))).toEqual([]);
  });

  it('is undone where the hardware can not be told', () => {
    const { rig, domain } = attached({ ...legacy, cap: CAP_ALL | 0x80n });
    rig.faults.plan({ nth: 1, kinds: ['command'] });
    expect(domain.map(0n, 0x1002, 2, RW)).toBe(-5);
    rig.faults.clear();
    expect(domain.iovaToFrame(0n)).toBe(-1);
  });

  it('asks where it takes the place of an empty table', () => {
    const { rig, domain } = attached(legacy);
    domain.map(0n, 0x1002, 2, RW);
    domain.unmap(0n, 2);
    expect(rig.vtd.during(() => domain.map(0n, 0x10_0000, 1024, RW))).toEqual([
      'iotlb 2 pages 0x0+2^9 rw',
    ]);
  });
});

describe('hardware that has to be told to write its buffers', () => {
  const RWBF = { cap: CAP_ALL | 0x10n };

  it.each([
    ['legacy', { ...legacy, ...RWBF }],
    ['scalable', RWBF],
  ])(
    'is told of a device, of an attach and of every map, and of no unmap: %s',
    (_mode, options) => {
      const rig = new FakeRig(options);
      const count = (body: () => unknown): number => {
        const before = rig.vtd.writeBufferFlushes;
        body();
        return rig.vtd.writeBufferFlushes - before;
      };
      const device = rig.add(0x0318);
      const domain = rig.paging(device);
      expect(count(() => rig.attach(device, domain))).toBe(1);
      expect(count(() => domain.map(0n, 0x1002, 2, RW))).toBe(1);
      expect(count(() => domain.unmap(0n, 2))).toBe(0);
      // In scalable mode its context entry; and what the kernel attaches for itself.
      expect(count(() => rig.add(0x0320))).toBe(rig.vtd.isScalable ? 2 : 1);
    },
  );

  it.each([
    ['legacy', { ...legacy, ...RWBF }],
    ['scalable', RWBF],
  ])('and does not answer fails the attach and the map: %s', (_mode, options) => {
    const { rig, domain } = attached(options);
    const other = rig.add(0x0320);
    rig.vtd.isDead = true;
    expect(domain.map(0n, 0x1002, 2, RW)).toBe(-110);
    expect(domain.iovaToFrame(0n)).toBe(-1);
    expect(rig.attach(other, domain)).toBe(-110);
    expect(rig.driver.infoOf(other)?.attached).toBeUndefined();
  });

  it('takes no domain that was made for hardware that has not', () => {
    for (const flags of [0, DomainFlags.NEST_PARENT]) {
      const rig = new FakeRig();
      const other = rig.driver.addUnit('dmar1', new FakeRig(RWBF).vtd);
      if (typeof other === 'number') throw new Error('no unit');
      const [here, there] = [rig.add(0x0318), rig.add(0x0320)];
      rig.driver.removeDevice(there);
      rig.driver.addDevice(there, other, { sourceId: 0x0320 });
      expect(rig.paging(here, flags).attachDev(there, undefined)).toBe(-22);
      expect(rig.paging(there, flags).attachDev(there, undefined)).toBe(0);
    }
  });
});

describe('reading dirty bits', () => {
  it('asks for what was cleaned', () => {
    const { rig, domain } = attached({}, DomainFlags.DIRTY_TRACKING);
    domain.map(0n, 0x1002, 8, RW);
    const read = (): string[] => {
      const gather = new IotlbGather();
      domain.dirty?.readAndClear(0n, 8, 0, gather);
      return rig.vtd.during(() => domain.iotlbSync(gather));
    };
    expect(read()).toEqual([]);
    setDirty(domain.table, 2);
    expect(read()).toEqual(['iotlb 2 pages 0x1+2^0 leaves rw']);
    expect(read()).toEqual([]);
  });
});

describe('hardware that does not look into the cache of the processor', () => {
  it.each([
    ['legacy', { ecap: ECAP_LEGACY & ~1n }],
    ['scalable', { ecap: ECAP_SCALABLE & ~1n & ~(1n << 48n) }],
  ])('sees every table that the driver wrote: %s', (_mode, options) => {
    const { rig, domain } = attached(options);
    domain.map(0n, 0x1002, 700, RW);
    domain.unmap(0n, 100);
    const entries = rig.vtd.isScalable ? rig.pasidEntry(0x0318) : rig.context(0x0318);
    const pages = [Number(rig.vtd.rootTable / 2048n)];
    domain.table.forEachTable(domain.table.top, domain.table.topLevel, (table) =>
      pages.push(table),
    );
    expect(pages.length).toBeGreaterThan(4);
    for (const frame of pages.flatMap((page) => [page, page + 1])) {
      const lane = rig.ram.laneOf(frame);
      const held = rig.ram.lanesOf(frame).slice(lane, lane + 512);
      expect(rig.vtd.seen.get(frame)).toEqual(held);
    }
    const flushed = [...rig.vtd.seen.values()].some((seen) =>
      seen.join(' ').includes(entries.slice(0, 4).join(' ')),
    );
    expect(flushed).toBe(true);
    // And what it is asked.
    const queue = Number((rig.vtd.mmio.read64(0x90) & ~0xfffn) / 2048n);
    const lane = rig.ram.laneOf(queue);
    expect(rig.vtd.seen.get(queue)).toEqual(rig.ram.lanesOf(queue).slice(lane, lane + 512));
  });

  it('is not told where it does look', () => {
    const { rig, domain } = attached({});
    domain.map(0n, 0x1002, 700, RW);
    expect(rig.vtd.seen.size).toBe(0);
  });
});
