// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Errno } from '../../base/errno.ts';
import { allocUserDomain } from '../../iommu/alloc.ts';
import { Device } from '../../iommu/device.ts';
import type { Domain } from '../../iommu/domain.ts';
import { DomainFlags } from '../../iommu/ops.ts';
import { FakeRig, guestTable, fakeAts } from './fake_rig.ts';
import { bits, CAP_ALL, ECAP_LEGACY, ECAP_SCALABLE } from './fake_vtd.ts';

const SID = 0x0318;
const legacy = { ecap: ECAP_LEGACY };

/** Every domain that a device can be attached to, by name; `far` ones lie on another second stage. */
function domains(rig: FakeRig, device: Device): Record<string, Domain> {
  const { identityDomain, blockedDomain } = rig.driver.ops;
  if (!identityDomain || !blockedDomain) throw new Error('no fixed domains');
  if (!rig.vtd.isScalable) {
    return {
      second: rig.paging(device),
      'another second': rig.paging(device),
      identity: identityDomain,
    };
  }
  const parent = rig.paging(device, DomainFlags.NEST_PARENT);
  const far = rig.paging(device, DomainFlags.NEST_PARENT);
  return {
    first: rig.paging(device),
    'another first': rig.paging(device),
    second: parent,
    'another second': far,
    nested: rig.nested(device, parent, guestTable(0x10_0000n)),
    'another nested': rig.nested(device, parent, guestTable(0x20_0000n)),
    'far nested': rig.nested(device, far, guestTable(0x30_0000n)),
    identity: identityDomain,
  };
}

function named(all: Record<string, Domain>, name: string): Domain {
  const found = Object.entries(all).find(([key]) => key === name)?.[1];
  if (!found) throw new Error(`no domain ${name}`);
  return found;
}

const entryOf = (rig: FakeRig): number[] =>
  rig.vtd.isScalable ? rig.pasidEntry(SID) : rig.context(SID);

/** What the hardware makes of an entry, without its domain id and what it does not look at. */
function meaning(words: number[], isScalable: boolean): string {
  const [w0 = 0, w1 = 0, w2 = 0, , w4 = 0, w5 = 0] = words;
  if ((w0 & 1) === 0) return 'blocked';
  const stage = `second stage ${w1}:${(w0 & ~0xfff) >>> 0}`;
  if (!isScalable) return (w0 & 0xc) === 8 ? 'pass-through' : `${stage} aw ${w2 & 7}`;
  const pgtt = (w0 >>> 6) & 7;
  const first = `first stage ${w5}:${w4}`;
  if (pgtt === 4) return 'pass-through';
  if (pgtt === 1) return first;
  return pgtt === 2 ? stage : `${first} on ${stage}`;
}

/** What the entry meant after each of the driver's writes, told once where it repeats. */
function meaningsDuring(rig: FakeRig, body: () => void): string[] {
  const seen: string[] = [];
  const task = rig.sim.spawn(
    'hardware reads the entry',
    function* hardware() {
      for (;;) {
        const now = meaning(entryOf(rig), rig.vtd.isScalable);
        if (seen.at(-1) !== now) seen.push(now);
        yield 'a look';
      }
    },
    { daemon: true },
  );
  body();
  expect(task.isDone).toBe(false);
  return seen;
}

describe('entries', () => {
  // Widths of 48 and 57 bits: for 48 bits Linux takes 5 levels of both, which entries call 3.
  it('of legacy mode: table, width and id of a second stage', () => {
    const rig = new FakeRig(legacy);
    const device = rig.add(SID);
    const domain = rig.paging(device);
    rig.attach(device, domain);
    const top = domain.table.top * 2048;
    expect(rig.context(SID)).toEqual([
      (top % 2 ** 32) + 1,
      Math.floor(top / 2 ** 32),
      3 | (2 << 8),
      0,
    ]);
  });

  it('of legacy mode: pass-through, with the widest width', () => {
    const rig = new FakeRig(legacy);
    const device = rig.add(SID);
    rig.attach(device, named(domains(rig, device), 'identity'));
    // 57 bits are 3; id 1.
    expect(rig.context(SID)).toEqual([0b1001, 0, 3 | (1 << 8), 0]);
  });

  it('of scalable mode: a second stage, with snooping of walks', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const domain = rig.paging(device, DomainFlags.NEST_PARENT);
    rig.attach(device, domain);
    const top = domain.table.top * 2048;
    const lo = (top % 2 ** 32) + (1 | (3 << 2) | (2 << 6));
    const expected = [lo, Math.floor(top / 2 ** 32), 2 | (1 << 23), ...Array(13).fill(0)];
    expect(rig.pasidEntry(SID)).toEqual(expected);
  });

  it('of scalable mode: a first stage of 4 and of 5 levels', () => {
    const modeOf = (cap: bigint): number => {
      const rig = new FakeRig({ cap });
      const device = rig.add(SID);
      const domain = rig.paging(device);
      rig.attach(device, domain);
      const words = rig.pasidEntry(SID);
      const top = domain.table.top * 2048;
      expect((words[0] ?? 0) & 0xfff).toBe(1 | (3 << 2) | (1 << 6));
      expect([((words[4] ?? 0) & ~0xfff) >>> 0, words[5]]).toEqual([
        top % 2 ** 32,
        Math.floor(top / 2 ** 32),
      ]);
      return (words[4] ?? 0) & 0xfff;
    };
    expect(modeOf(CAP_ALL)).toBe(0);
    expect(modeOf((CAP_ALL & ~(0x3fn << 16n)) | bits([56, 16], [1, 60]))).toBe(0b100);
  });

  it('of scalable mode: nested, with what the client wants', () => {
    const rig = new FakeRig({
      cap: CAP_ALL | bits([1, 60]),
      ecap: ECAP_SCALABLE | bits([1, 34]),
    });
    const device = rig.add(SID);
    const parent = rig.paging(device, DomainFlags.NEST_PARENT);
    const guest = guestTable(0x1_2345_6000n, { flags: 7n, addr_width: 57 });
    rig.attach(device, rig.nested(device, parent, guest));
    const words = rig.pasidEntry(SID);
    expect((words[0] ?? 0) & 0xfff).toBe(1 | (3 << 2) | (3 << 6));
    expect(words.slice(4, 6)).toEqual([0x2345_6000 | 1 | 4 | 0x10 | 0x80, 1]);
  });

  it('say nothing of write protection without supervisor requests, as Linux', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const parent = rig.paging(device, DomainFlags.NEST_PARENT);
    rig.attach(device, rig.nested(device, parent, guestTable(0x1000n, { flags: 4n })));
    expect(rig.pasidEntry(SID)[4]).toBe(0x1000);
  });
});

describe.each([
  ['legacy mode', legacy],
  ['scalable mode', {}],
])('a replace in %s', (_mode, options) => {
  const names = Object.keys(((rig: FakeRig) => domains(rig, rig.add(SID)))(new FakeRig(options)));
  const pairs = names.flatMap((from) => names.filter((to) => to !== from).map((to) => [from, to]));
  /** Both stages change: memory takes too little at once. */
  const mustBlock = (from: string, to: string): boolean =>
    [from, to].every((name) => name.includes('first') || name.includes('nested')) &&
    (from.includes('first') !== to.includes('first') ||
      (from.includes('nested') && from.includes('far') !== to.includes('far')));

  it.each(pairs)('of %s by %s shows the hardware the old and the new alone', (from, to) => {
    const rig = new FakeRig(options);
    const device = rig.add(SID);
    const all = domains(rig, device);
    expect(rig.attach(device, named(all, from))).toBe(0);
    const before = meaning(entryOf(rig), rig.vtd.isScalable);
    const seen = meaningsDuring(rig, () => {
      expect(rig.replace(device, named(all, to))).toBe(0);
    });
    const after = meaning(entryOf(rig), rig.vtd.isScalable);
    expect(after).not.toBe('blocked');
    const expected = mustBlock(from, to) ? [before, 'blocked', after] : [before, after];
    // The first look may come after the first write.
    expect([seen, [before, ...seen]]).toContainEqual(expected);
    expect(rig.core.warnings).toEqual([]);
  });

  it.each(pairs)('of %s by %s forgets the entry, then what it led to', (from, to) => {
    const rig = new FakeRig(options);
    const device = rig.add(SID);
    const all = domains(rig, device);
    rig.attach(device, named(all, from));
    const words = entryOf(rig);
    const did = rig.vtd.isScalable ? (words[2] ?? 0) & 0xffff : (words[2] ?? 0) >>> 8;
    const asked = rig.vtd.during(() => rig.replace(device, named(all, to)));
    const entry = rig.vtd.isScalable ? `pasid ${did}/0` : `context ${did} of 0x318`;
    const pgtt = ((words[0] ?? 0) >>> 6) & 7;
    const byPasid = rig.vtd.isScalable && (pgtt === 1 || pgtt === 4);
    expect(asked.slice(0, 2)).toEqual([entry, byPasid ? `piotlb ${did}/0` : `iotlb ${did} rw`]);
    // Each is done before the next.
    expect(rig.vtd.submissions.slice(0, 2)).toEqual([1, 1]);
  });

  it.each(pairs)('of %s by %s that fails anywhere leaves everything as it was', (from, to) => {
    const rig = new FakeRig(options);
    const device = rig.add(SID);
    const all = domains(rig, device);
    rig.attach(device, named(all, from));
    const state = () => ({
      words: entryOf(rig),
      ids: rig.unit.dids.taken,
      live: rig.ram.liveFrames,
      attached: rig.driver.infoOf(device)?.attached,
      tags: Object.values(all).map((domain) =>
        'attachments' in domain
          ? (domain as { attachments: { tags: { all: unknown } } }).attachments.tags.all
          : [],
      ),
    });
    const before = state();
    let failures = 0;
    for (let nth = 1; nth < 50; nth++) {
      rig.faults.plan({ nth });
      const rc = rig.replace(device, named(all, to));
      rig.faults.clear();
      if (!rig.faults.injected) {
        expect(rc).toBe(0);
        break;
      }
      expect(rc).toBe(rig.faults.injected === 'alloc' ? -Errno.ENOMEM : -Errno.EIO);
      expect(state()).toEqual(before);
      failures++;
    }
    expect(failures).toBeGreaterThanOrEqual(2);
    expect(rig.core.warnings).toEqual([]);
  });
});

describe('a detach', () => {
  it('in scalable mode leaves the entry as it is but for being present, until it is forgotten', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const domain = rig.paging(device);
    rig.attach(device, domain);
    const before = rig.pasidEntry(SID);
    const during: number[][] = [];
    rig.vtd.onAsked = () => during.push(rig.pasidEntry(SID));
    rig.detach(device, domain);
    const absent = before.with(0, (before[0] ?? 0) & ~1);
    expect(during).toEqual([absent, absent]);
    expect(rig.pasidEntry(SID)).toEqual(Array(16).fill(0));
  });

  it.each([
    ['legacy', { ...legacy, cap: CAP_ALL | 0x80n }],
    ['scalable', { cap: CAP_ALL | 0x80n }],
  ])('of a device that is blocked asks for nothing: %s', (_mode, options) => {
    const rig = new FakeRig(options);
    const device = rig.add(SID);
    const blocked = rig.driver.ops.blockedDomain;
    expect(rig.vtd.during(() => blocked?.attachDev(device, blocked))).toEqual([]);
  });

  it.each([
    [
      'legacy',
      { ecap: ECAP_LEGACY | 4n },
      ['context 2 of 0x318', 'iotlb 2 rw', 'device 0x318 all'],
    ],
    ['scalable', { ecap: ECAP_SCALABLE | 4n }, ['pasid 2/0', 'piotlb 2/0', 'device 0x318 all']],
  ])('empties the cache of the device too: %s', (_mode, options, expected) => {
    const rig = new FakeRig(options);
    const device = rig.add(SID, { ats: fakeAts(1) });
    const domain = rig.paging(device);
    rig.attach(device, domain);
    expect(rig.vtd.during(() => rig.detach(device, domain))).toEqual(expected);
  });
});

describe('an attach', () => {
  it.each([
    ['legacy', legacy],
    ['scalable', {}],
  ])('that fails anywhere leaves the device blocked: %s', (_mode, options) => {
    const cap = CAP_ALL | 0x80n; // so that the hardware is told
    const names = Object.keys(
      ((rig: FakeRig) => domains(rig, rig.add(SID)))(new FakeRig({ ...options, cap })),
    );
    for (const name of names) {
      const rig = new FakeRig({ ...options, cap });
      const device = rig.add(SID);
      const all = domains(rig, device);
      const state = () => [entryOf(rig), rig.unit.dids.taken, rig.ram.liveFrames];
      const before = state();
      let failures = 0;
      for (; ; failures++) {
        rig.faults.plan({ nth: failures + 1 });
        const rc = rig.attach(device, named(all, name));
        rig.faults.clear();
        if (!rig.faults.injected) break;
        expect(rc).toBe(rig.faults.injected === 'alloc' ? -Errno.ENOMEM : -Errno.EIO);
        expect(state()).toEqual(before);
        expect(rig.driver.infoOf(device)?.attached).toBeUndefined();
      }
      // Two submissions and core's own allocation, beside those of the domain.
      expect(failures).toBeGreaterThanOrEqual(3);
    }
  });

  it('of a device that another group was with before leaves that as it was where it fails', () => {
    const rig = new FakeRig();
    const [one, two] = [rig.add(SID, { group: 'shared' }), rig.add(SID + 8, { group: 'shared' })];
    expect(one.group).toBe(two.group);
    const [before, next] = [rig.paging(one), rig.paging(one)];
    rig.attach(one, before);
    const entries = () => [rig.pasidEntry(SID), rig.pasidEntry(SID + 8)];
    const held = entries();
    for (let nth = 1; ; nth++) {
      rig.faults.plan({ nth });
      const rc = rig.replace(one, next);
      rig.faults.clear();
      if (!rig.faults.injected) break;
      expect(rc).toBeLessThan(0);
      expect(entries()).toEqual(held);
      expect(next.attachments.tags.all).toEqual([]);
    }
    expect(entries()).not.toEqual(held);
    expect(before.attachments.tags.all).toEqual([]);
    expect(rig.core.warnings).toEqual([]);
  });

  it('that fails where its table is made takes no memory', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const live = rig.ram.liveFrames;
    for (const flags of [0, DomainFlags.NEST_PARENT]) {
      for (const nth of [1, 2]) {
        rig.faults.plan({ nth });
        expect(allocUserDomain(device, { flags })).toBe(-Errno.ENOMEM);
        rig.faults.clear();
        expect(rig.ram.liveFrames).toBe(live);
      }
    }
  });

  it('where nothing was asks for nothing, unless what is not present is cached', () => {
    const asked = (options: ConstructorParameters<typeof FakeRig>[0]) => {
      const rig = new FakeRig(options);
      const device = rig.add(SID);
      const domain = rig.paging(device);
      return rig.vtd.during(() => rig.attach(device, domain));
    };
    const cap = CAP_ALL | 0x80n;
    expect(asked(legacy)).toEqual([]);
    expect(asked({})).toEqual([]);
    expect(asked({ ...legacy, cap })).toEqual(['context 0 of 0x318', 'iotlb 2 rw']);
    expect(asked({ cap })).toEqual(['pasid 0/0', 'pasid 2/0', 'piotlb 2/0']);
  });

  it('asks for memory for itself, for the id on the unit and for each cache tag', () => {
    const rig = new FakeRig();
    const device = rig.add(SID);
    const all = domains(rig, device);
    const asked = (body: () => unknown): number => {
      rig.faults.plan({ nth: 1e6, kinds: ['alloc'] });
      body();
      rig.faults.clear();
      return rig.faults.passed;
    };
    for (const [name, count] of [
      ['first', 3],
      ['second', 3],
      ['nested', 4],
      ['identity', 1],
    ] as const) {
      expect([name, asked(() => rig.attach(device, named(all, name)))]).toEqual([name, count]);
      rig.detach(device, named(all, name));
    }
    // The device, its directory and table; what the kernel has for it: a domain, its table, its id and its tag.
    expect(
      asked(() => rig.driver.addDevice(new Device('x'), rig.unit, { sourceId: SID + 1 })),
    ).toBe(7);
    expect(asked(() => rig.driver.ops.hwInfo?.(device, 0))).toBe(1);
  });

  it('uses one domain id for all devices of a domain on a unit, and gives it back', () => {
    const rig = new FakeRig();
    const [one, two] = [rig.add(SID), rig.add(SID + 8)];
    const domain = rig.paging(one);
    const before = rig.unit.dids.taken;
    rig.attach(one, domain);
    rig.attach(two, domain);
    expect(rig.unit.dids.taken).toBe(before + 1);
    expect(domain.attachments.tags.all).toHaveLength(1);
    rig.detach(one, domain);
    expect(rig.unit.dids.taken).toBe(before + 1);
    rig.detach(two, domain);
    expect(rig.unit.dids.taken).toBe(before);
  });

  it('is -ENOSPC where no domain id is left, and nothing has changed', () => {
    const rig = new FakeRig({ cap: CAP_ALL & ~7n }); // 16 ids, 2 of them reserved
    const device = rig.add(SID);
    const others = Array.from({ length: 14 }, (_, i) => rig.add(0x400 + i));
    for (const other of others) {
      rig.attach(other, rig.paging(other));
    }
    const before = rig.pasidEntry(SID);
    expect(rig.attach(device, rig.paging(device))).toBe(-Errno.ENOSPC);
    expect(rig.pasidEntry(SID)).toEqual(before);
  });

  it.each([
    ['a width that no table has', { addr_width: 39 }],
    ['5 levels that the unit has not', { addr_width: 57 }],
    ['extended accessed flags that it has not', { flags: 2n }],
    ['supervisor requests that it has not', { flags: 1n }],
  ])('of a guests table with %s is -EINVAL, and nothing has changed', (_what, more) => {
    const rig = new FakeRig({ ecap: ECAP_SCALABLE & ~(1n << 31n) });
    const device = rig.add(SID);
    const parent = rig.paging(device, DomainFlags.NEST_PARENT);
    rig.attach(device, parent);
    const [before, ids] = [rig.pasidEntry(SID), rig.unit.dids.taken];
    const nested = rig.nested(device, parent, guestTable(0x1000n, more));
    expect(rig.replace(device, nested)).toBe(-Errno.EINVAL);
    expect([rig.pasidEntry(SID), rig.unit.dids.taken]).toEqual([before, ids]);
    expect(parent.attachments.tags.all).toHaveLength(1);
  });

  it('to a domain that was made for a wider unit is -EINVAL', () => {
    const rig = new FakeRig();
    const second = rig.driver.addUnit('dmar1', new FakeRig({ cap: narrow() }).vtd);
    expect(typeof second).toBe('object');
    if (typeof second === 'number') return;
    const [here, there] = [rig.add(SID), rig.add(SID + 8)];
    rig.driver.removeDevice(there);
    expect(rig.driver.addDevice(there, second, { sourceId: SID + 8 })).toBe(0);
    const wide = rig.paging(here, DomainFlags.NEST_PARENT);
    expect(wide.attachDev(there, undefined)).toBe(-Errno.EINVAL);
    expect(wide.attachDev(here, undefined)).toBe(0);
  });
});

/** 39 bits and 3 levels. */
const narrow = (): bigint => (CAP_ALL & ~(0x3fn << 16n) & ~(0x1fn << 8n)) | bits([38, 16], [2, 8]);
