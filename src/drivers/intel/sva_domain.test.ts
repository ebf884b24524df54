// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Errno } from '../../base/errno.ts';
import { allocSvaDomain } from '../../iommu/alloc.ts';
import { ProcessMm } from '../../iommu/process_mm.ts';
import type { SvaBond } from '../../iommu/sva.ts';
import type { Mm } from '../../memory/mm.ts';
import { CachingVtd } from './caching_vtd.ts';
import { fakeAts, fakePri, FakeRig } from './fake_rig.ts';
import { bits, CAP_ALL, ECAP_PASID, ECAP_PRI } from './fake_vtd.ts';
import { IntelSvaDomain } from './sva_domain.ts';

const SID = 0x0318;
const AT = 0x5000_0000n;
const PAGE = 0x1000;
const RW = { readable: true, writable: true };
const CAP_5 = CAP_ALL | bits([1, 60]);

function setUp(more: { cap?: bigint; ecap?: bigint; levels?: 4 | 5 } = {}) {
  const { levels = 4, ...options } = more;
  const rig = new FakeRig({ ecap: ECAP_PRI, ...options }, CachingVtd);
  const add = (sourceId: number) =>
    rig.add(sourceId, { pasidBits: 20, ats: fakeAts(1), pri: fakePri() });
  const device = add(SID);
  const mm = ProcessMm.create(rig.ram, { levels });
  if (typeof mm === 'number') throw new Error('no mm');
  mm.mmap(AT, 4 * PAGE, RW);
  const bind = (of = device): SvaBond => {
    const bond = rig.core.sva.bind(of, mm);
    if (typeof bond === 'number') throw new Error(`refused: ${bond}`);
    return bond;
  };
  const vtd = rig.vtd as CachingVtd;
  /** What the device finds in the process's memory, with what it keeps. */
  const access = (pasid: number, address: bigint, sourceId = SID): unknown => {
    const found = vtd.accessByCache(sourceId, address, false, pasid);
    return typeof found === 'string' ? found : 'found';
  };
  return { rig, vtd, device, add, mm, bind, access };
}

describe('a process that is bound to a device', () => {
  it.each([
    [4, CAP_ALL],
    [4, CAP_5],
    [5, CAP_5],
  ] as const)('is a first stage of its own tables at its PASID: %i levels', (levels, cap) => {
    const { rig, mm, bind } = setUp({ levels, cap });
    const { pasid } = bind();
    const words = rig.pasidEntry(SID, pasid);
    expect([words[0], words[1]]).toEqual([0x4d, 0]);
    // Domain id 1; walks look into the processor's cache.
    expect(words[2]).toBe(1 | (1 << 23));
    expect(words[4]).toBe(Number(mm.root & 0xffff_f000n) + (levels === 5 ? 4 : 0));
    expect(words[5]).toBe(Number(mm.root >> 32n));
    expect(rig.unit.dids.taken).toBe(0);
  });

  it('is read by the device, which forgets what the process gives up', () => {
    const { mm, bind, access, vtd } = setUp();
    const { pasid } = bind();
    expect(access(pasid, AT)).toMatch(/nothing/);
    mm.copyOut(AT, new Uint8Array(2 * PAGE));
    expect([access(pasid, AT), access(pasid, AT + 0x1000n)]).toEqual(['found', 'found']);
    const asked = vtd.during(() => mm.munmap(AT, PAGE));
    expect(asked).toEqual([`piotlb 1/${pasid} pages 0x50000+2^0`, `device 0x318/${pasid} 0x50000`]);
    expect([access(pasid, AT), access(pasid, AT + 0x1000n)]).toEqual([
      expect.stringMatching(/nothing/),
      'found',
    ]);
  });

  it('is forgotten once on each unit, and by each device', () => {
    const { mm, bind, add, access, vtd } = setUp();
    const bonds = [bind(), bind(add(SID + 8))];
    const pasid = bonds[0]?.pasid ?? 0;
    expect(bonds[1]?.pasid).toBe(pasid);
    mm.copyOut(AT, new Uint8Array(4 * PAGE));
    for (const sourceId of [SID, SID + 8]) expect(access(pasid, AT, sourceId)).toBe('found');
    expect(vtd.during(() => mm.munmap(AT, 4 * PAGE))).toEqual([
      `piotlb 1/${pasid} pages 0x50000+2^2`,
      `device 0x318/${pasid} 0x50001 S`,
      `device 0x320/${pasid} 0x50001 S`,
    ]);
    for (const sourceId of [SID, SID + 8]) expect(access(pasid, AT, sourceId)).toMatch(/nothing/);
  });

  it('all at once where everything is meant', () => {
    const { rig, bind, vtd, mm } = setUp();
    const observers: { invalidate(start: bigint, last: bigint): void }[] = [];
    const { subscribe } = mm;
    mm.subscribe = (observer) => {
      observers.push(observer);
      return subscribe.call(mm, observer);
    };
    const { pasid } = bind();
    const asked = vtd.during(() =>
      observers.forEach((observer) => observer.invalidate(0n, 2n ** 64n - 1n)),
    );
    expect(asked).toEqual([`piotlb 1/${pasid}`, `device 0x318/${pasid} all`]);
    expect(rig.core.warnings).toEqual([]);
  });

  it('is blocked when it exits, before its memory goes, and attached until it is unbound (B11)', () => {
    const { rig, device, mm, bind, access, vtd } = setUp();
    const bond = bind();
    const { pasid } = bond;
    mm.copyOut(AT, new Uint8Array(PAGE));
    expect(access(pasid, AT)).toBe('found');
    const seen: unknown[] = [];
    vtd.onAsked = (words) => seen.push([words, rig.ram.liveFrames]);
    const live = rig.ram.liveFrames;
    mm.exit();
    expect(seen).toEqual([
      [`pasid 1/${pasid}`, live],
      [`piotlb 1/${pasid}`, live],
      [`device 0x318/${pasid} all`, live],
    ]);
    expect(rig.ram.liveFrames).toBeLessThan(live);
    expect(access(pasid, AT)).toMatch(/no PASID entry/);
    // Not present, and what is refused is not reported.
    expect(rig.pasidEntry(SID, pasid)).toEqual([2, ...Array<number>(15).fill(0)]);
    const at = rig.driver.infoOf(device)?.pasids.get(pasid);
    expect(at?.attached).toBeInstanceOf(IntelSvaDomain);
    expect(device.faultParam).toBeDefined();
    rig.core.sva.unbind(bond);
    expect(rig.pasidEntry(SID, pasid)).toEqual(Array(16).fill(0));
    expect([rig.driver.infoOf(device)?.pasids.size, device.faultParam]).toEqual([0, undefined]);
    expect(rig.core.warnings).toEqual([]);
  });

  it('is not told any more when it is unbound', () => {
    const { rig, mm, bind, vtd } = setUp();
    rig.core.sva.unbind(bind());
    mm.copyOut(AT, new Uint8Array(PAGE));
    expect(vtd.during(() => mm.munmap(AT, PAGE))).toEqual([]);
    expect(vtd.during(() => mm.exit())).toEqual([]);
  });

  it('gets the pages that the device asks for, and the device its answer', () => {
    const { rig, mm, bind, access, vtd } = setUp();
    const { pasid } = bind();
    const ask = (group: number, address: bigint): string[] =>
      vtd.during(() => {
        vtd.requestPage({ sourceId: SID, pasid, address, group, access: 'rw' });
        rig.sim.settle();
      });
    expect(access(pasid, AT)).toMatch(/nothing/);
    expect(ask(1, AT)).toEqual([`answer 0x318/${pasid} group 1: 0`]);
    expect(access(pasid, AT)).toBe('found');
    expect(ask(2, 0x1000n)).toEqual([`answer 0x318/${pasid} group 2: 1`]);
    mm.exit();
    expect(ask(3, AT)).toEqual([`answer 0x318/${pasid} group 3: 1`]);
  });

  it('that fails anywhere leaves nothing', () => {
    for (let nth = 1; ; nth++) {
      const { rig, device, mm } = setUp({ cap: CAP_ALL | 0x80n });
      rig.faults.plan({ nth });
      const bond = rig.core.sva.bind(device, mm);
      rig.faults.clear();
      if (!rig.faults.injected) break;
      expect(bond).toBe(rig.faults.injected === 'alloc' ? -Errno.ENOMEM : -Errno.EIO);
      expect([rig.driver.infoOf(device)?.pasids.size, device.faultParam]).toEqual([0, undefined]);
      expect(typeof rig.core.sva.bind(device, mm)).toBe('object');
    }
  });
});

describe('a domain of a process', () => {
  const refusal = (
    options: { cap?: bigint; ecap?: bigint; levels?: 4 | 5 },
    functions: object = { pasidBits: 20, ats: fakeAts(1), pri: fakePri() },
    change: (mm: ProcessMm) => Mm = (mm) => mm,
  ): unknown => {
    const { rig, mm } = setUp(options);
    const made = allocSvaDomain(rig.add(SID + 8, functions), change(mm));
    return typeof made === 'number' ? made : 'made';
  };

  it('is -ENODEV where the unit can not walk the tables of processes', () => {
    expect(refusal({ ecap: ECAP_PRI & ~(1n << 40n) })).toBe(-Errno.ENODEV);
    expect(refusal({ ecap: ECAP_PRI & ~(1n << 48n) })).toBe(-Errno.ENODEV);
    expect(refusal({ cap: CAP_ALL & ~(1n << 56n) })).toBe(-Errno.ENODEV);
    expect(refusal({ levels: 5 })).toBe(-Errno.ENODEV);
    expect(refusal({ levels: 5, cap: CAP_5 })).toBe('made');
  });

  it('is -EINVAL where the device lacks PASIDs or ATS, or has page requests that are off', () => {
    expect(refusal({}, { ats: fakeAts(1), pri: fakePri() })).toBe(-Errno.EINVAL);
    expect(refusal({}, { pasidBits: 20 })).toBe(-Errno.EINVAL);
    const off = fakePri({ enable: () => false });
    expect(refusal({}, { pasidBits: 20, ats: fakeAts(1), pri: off })).toBe(-Errno.EINVAL);
    // One without page requests sees to its faults itself.
    expect(refusal({}, { pasidBits: 20, ats: fakeAts(1) })).toBe('made');
  });

  it('is -ENOMEM where there is no memory for it, and nobody is told of the process', () => {
    const { rig, device, mm, vtd } = setUp();
    rig.faults.plan({ nth: 1 });
    expect(allocSvaDomain(device, mm)).toBe(-Errno.ENOMEM);
    rig.faults.clear();
    expect(vtd.during(() => mm.exit())).toEqual([]);
  });

  it('is -EOPNOTSUPP where its tables are out of reach', () => {
    const hidden = (mm: ProcessMm): Mm => Object.create(mm, { tables: { value: undefined } }) as Mm;
    expect(refusal({}, undefined, hidden)).toBe(-Errno.EOPNOTSUPP);
  });

  it('is for PASIDs alone, on devices that fit, while the process is alive', () => {
    const { rig, device, mm } = setUp();
    const domain = allocSvaDomain(device, mm);
    if (typeof domain === 'number') throw new Error('refused');
    expect(rig.attach(device, domain)).toBe(-Errno.ENODEV);
    const other = rig.add(SID + 8, { pasidBits: 20 });
    expect(domain.setDevPasid?.(other, 1, undefined)).toBe(-Errno.EINVAL);
    expect(rig.attach(device, domain, 1)).toBe(0);
    expect(() => domain.free()).toThrow(/still use/);
    rig.detach(device, domain, 1);
    mm.exit();
    expect(rig.attach(device, domain, 1)).toBe(-Errno.ESRCH);
    domain.free();
  });

  it('is -EINVAL on a unit without a first stage', () => {
    const { device, mm } = setUp({ ecap: ECAP_PRI & ~(1n << 47n) });
    const domain = allocSvaDomain(device, mm);
    if (typeof domain === 'number') throw new Error('refused');
    expect(domain.setDevPasid?.(device, 1, undefined)).toBe(-Errno.EINVAL);
  });

  it('needs no page requests of a device that has none', () => {
    const rig = new FakeRig({ ecap: ECAP_PASID });
    const device = rig.add(SID, { pasidBits: 20, ats: fakeAts(1), pri: fakePri() });
    const mm = ProcessMm.create(rig.ram);
    if (typeof mm === 'number') throw new Error('no mm');
    const domain = allocSvaDomain(device, mm);
    if (typeof domain === 'number') throw new Error('refused');
    expect(domain.setDevPasid?.(device, 1, undefined)).toBe(0);
    expect(device.faultParam).toBeUndefined();
  });
});
