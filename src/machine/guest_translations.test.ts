// SPDX-License-Identifier: Apache-2.0
/** What hardware may use of a guest's table: by hand, without hardware. */
import { beforeEach, describe, expect, it } from 'vitest';
import { attachDevice } from '../iommufd/change_pt.ts';
import { NO_PASID } from '../iommu/device.ts';
import { isNestedDomain } from '../iommu/domain.ts';
import { PtDomain } from '../iommu/pt_domain.ts';
import type { Translated } from '../pci/dma.ts';
import { ADDRESS, GUEST, GuestRig, NEST_PARENT, OTHER_PT, PAGE, PD, PT } from './guest_rig.ts';
import { type GuestRequest, GuestTranslations } from './guest_translations.ts';
import { EntryReads } from './watched_memory.ts';

const [A, B, C, ELSEWHERE] = [16, 17, 18, 19];
const FIRST = Number(ADDRESS / PAGE);
const ONE: GuestRequest = { first: FIRST, last: FIRST, leavesOnly: false };
const ALL: GuestRequest = { first: 0, last: Infinity, leavesOnly: false };

let rig: GuestRig;
let parent: PtDomain;
let guest: GuestTranslations;

function make(most?: { kept: number; requests: number }): GuestTranslations {
  const { domain } = rig.bound.device.group ?? {};
  if (!domain || !isNestedDomain(domain) || !domain.guestTable) throw new Error('no guest');
  if (!(domain.guestTable.parent instanceof PtDomain)) throw new Error('no parent');
  parent = domain.guestTable.parent;
  return new GuestTranslations(domain.guestTable, parent, rig.machine.memory, most);
}

beforeEach(() => {
  rig = new GuestRig('vtd', () => undefined);
  attachDevice(rig.bound, NO_PASID, rig.nested(rig.hwpt(rig.ioas, { flags: NEST_PARENT })));
  rig.set(PT, 0, A);
  guest = make();
});

const frameOf = (page: number): number => parent.iovaToFrame(GUEST + BigInt(page) * PAGE);

/** The pages of those asked about that an access may reach; `none` where it may be refused; undefined: nobody knows. */
function allowed(
  { iova = ADDRESS, access = 'read' }: Partial<Pick<Translated, 'iova' | 'access'>> = {},
  reads = new EntryReads(),
): (number | 'none')[] | undefined {
  const { device } = rig.bound;
  const found = guest.expectationOf(
    { device, pasid: NO_PASID, iova, access, mode: 0, frame: undefined, byDevice: false },
    reads,
  );
  if (!found) return undefined;
  const pages = [A, B, C, ELSEWHERE].filter((page) => found.agrees(frameOf(page)));
  return found.agrees(undefined) ? [...pages, 'none'] : pages;
}

const invalidate = (...requests: readonly GuestRequest[]): void => guest.invalidating()(requests);

describe('an address of a guest', () => {
  it('leads where the table says, to the byte', () => {
    expect(allowed()).toEqual([A]);
    const { device } = rig.bound;
    const at = {
      device,
      pasid: NO_PASID,
      iova: ADDRESS + 0x900n,
      access: 'read',
      mode: 0,
    } as const;
    const seen = { ...at, frame: undefined, byDevice: false };
    const found = guest.expectationOf(seen, new EntryReads());
    expect(found?.agrees(frameOf(A) + 1)).toBe(true);
    expect(found?.agrees(frameOf(A))).toBe(false);
    expect(found?.text).toBe(`the guest's tables have frame 0x${(frameOf(A) + 1).toString(16)}`);
  });

  it('leads nowhere where nothing is present, beyond the table, and where it is not canonical', () => {
    for (const iova of [ADDRESS + PAGE, 2n ** 47n, 2n ** 48n, 2n ** 63n])
      expect(allowed({ iova })).toEqual(['none']);
  });

  it('is written to where every entry on the way allows it', () => {
    rig.set(PT, 0, A, 0n);
    expect([allowed(), allowed({ access: 'write' })]).toEqual([[A], ['none']]);
    invalidate(ALL);
    rig.set(PT, 0, A);
    rig.set(PD, 1, PT, 0n);
    expect(allowed({ access: 'write' })).toEqual(['none']);
  });
});

describe('what was in the table before', () => {
  it('may be used until it was invalidated', () => {
    allowed();
    rig.set(PT, 0, B);
    expect(allowed()).toEqual([A, B]);
    rig.set(PT, 0, undefined);
    expect(allowed()).toEqual([A, B, 'none']);
    invalidate(ONE);
    expect(allowed()).toEqual(['none']);
  });

  it('and that nobody asked for meanwhile, may not', () => {
    allowed();
    rig.set(PT, 0, B);
    rig.set(PT, 0, C);
    expect(allowed()).toEqual([A, C]);
  });

  it('may be used while the invalidation goes on, and what came since then also after it', () => {
    allowed();
    rig.set(PT, 0, B);
    const done = guest.invalidating();
    expect(allowed()).toEqual([A, B]);
    rig.set(PT, 0, C);
    done([ONE]);
    expect(allowed()).toEqual([B, C]);
  });

  it('stays for pages that the invalidation did not name', () => {
    rig.set(PT, 1, A);
    for (const iova of [ADDRESS, ADDRESS + PAGE]) allowed({ iova });
    for (const index of [0, 1]) rig.set(PT, index, B);
    invalidate(ONE);
    expect(allowed()).toEqual([B]);
    expect(allowed({ iova: ADDRESS + PAGE })).toEqual([A, B]);
  });

  it('was another table: that leads to what is in it now, and leaves of it too', () => {
    allowed();
    rig.set(OTHER_PT, 0, B);
    rig.set(PD, 1, OTHER_PT);
    expect(allowed()).toEqual([A, B]);
    rig.set(PT, 0, C);
    invalidate({ ...ONE, leavesOnly: true });
    expect(allowed()).toEqual([B, C]);
    invalidate(ONE);
    expect(allowed()).toEqual([B]);
  });

  it('was what hardware read, where the guest has changed it since', () => {
    const reads = new EntryReads();
    const at = GUEST + BigInt(PT) * PAGE;
    reads.add(parent.iovaToFrame(at), 0, GUEST + BigInt(ELSEWHERE) * PAGE + 7n);
    expect(allowed({}, reads)).toEqual([A, ELSEWHERE]);
    expect(allowed()).toEqual([A, ELSEWHERE]);
    invalidate(ONE);
    expect(allowed()).toEqual([A]);
  });

  it('of the second stage is never right', () => {
    allowed();
    rig.unmapPage(A);
    rig.movePage(A);
    rig.mapPage(A);
    expect(allowed()).toEqual([A]);
    rig.unmapPage(A);
    expect(allowed()).toEqual(['none']);
  });
});

describe('what was read of a table', () => {
  const [TABLE, OTHER] = [PT, OTHER_PT].map((page) => Number(GUEST / PAGE) + page) as [
    number,
    number,
  ];

  it('that the second stage has lost is gone, whatever the guest has invalidated', () => {
    allowed();
    rig.set(OTHER_PT, 0, B);
    rig.set(PD, 1, OTHER_PT);
    expect(allowed()).toEqual([A, B]);
    rig.unmapPage(PT);
    guest.lostBelow(TABLE, TABLE);
    expect(allowed()).toEqual([B, 'none']);
  });

  it('that the second stage still has stays', () => {
    allowed();
    rig.set(PT, 0, B);
    guest.lostBelow(TABLE, TABLE);
    rig.unmapPage(OTHER_PT);
    guest.lostBelow(OTHER, OTHER);
    expect(allowed()).toEqual([A, B]);
  });
});

describe('what is remembered', () => {
  it('is not enough where requests were missed: nobody knows, until all of an address was forgotten', () => {
    guest.missed();
    expect(allowed()).toBeUndefined();
    invalidate({ ...ONE, leavesOnly: true });
    expect(allowed()).toBeUndefined();
    invalidate(ONE);
    expect(allowed()).toEqual([A]);
    expect(allowed({ iova: ADDRESS + PAGE })).toBeUndefined();
    invalidate(ALL);
    expect(allowed({ iova: ADDRESS + PAGE })).toEqual(['none']);
  });

  it('has its limit, beyond which nobody knows', () => {
    guest = make({ kept: 6, requests: 10 });
    for (let index = 0; index < 8; index++) {
      rig.set(PT, index, B);
      allowed({ iova: ADDRESS + BigInt(index) * PAGE });
    }
    expect(allowed()).toBeUndefined();
    invalidate(ALL);
    expect(allowed()).toEqual([B]);
  });

  it('is of a call with many requests the last ones, and what was for everything', () => {
    guest = make({ kept: 100, requests: 2 });
    const others = [8, 9, 10].map((page) => ({ ...ONE, first: FIRST + page, last: FIRST + page }));
    for (const whole of [ONE, ALL]) {
      rig.set(PT, 0, A);
      invalidate(ALL);
      allowed();
      rig.set(PT, 0, B);
      invalidate(whole, ...others);
      expect(allowed()).toEqual(whole === ALL ? [B] : [A, B]);
    }
  });

  it('has a limit for invalidations too: what they ended may be used again, for all that is known', () => {
    guest = make({ kept: 100, requests: 2 });
    allowed();
    rig.set(PT, 0, B);
    invalidate(ONE);
    expect(allowed()).toEqual([B]);
    for (const page of [FIRST + 8, FIRST + 9])
      invalidate({ first: page, last: page, leavesOnly: false });
    expect(allowed()).toEqual([A, B]);
  });
});
