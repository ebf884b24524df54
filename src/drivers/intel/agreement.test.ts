// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { CachingVtd } from './caching_vtd.ts';
import { FakeRig } from './fake_rig.ts';
import { CAP_ALL, ECAP_LEGACY, ECAP_PASID } from './fake_vtd.ts';
import { World } from './random_world.ts';

/*
 * The driver and the hardware's reading of its tables, on random sequences of map, unmap, attach, replace and guests' own changes. What
 * each access must find is worked out from plain Maps; the hardware forgets nothing that it was not told to forget.
 */

/** As many as `VTD_SEQUENCES` says (100,000 take 20 minutes); a cut of them in CI. */
const SEQUENCES = Number(
  (globalThis as { process?: { env: Record<string, string> } }).process?.env['VTD_SEQUENCES'] ??
    120,
);
const STEPS = 60;
const RW = 3;

/** As the function has it, not as the driver thinks. */
const isAtsOn = (rig: FakeRig, sourceId: number): boolean => {
  const ats = rig.unit.devices.get(sourceId)?.fn.ats;
  return ats !== undefined && 'isOn' in ats && ats.isOn === true;
};

/** Hardware that forgets nothing of tables; of requesters, with every second seed, as it likes. Most devices keep translations too. */
function plainWorld(seed: number, options: { cap?: bigint; ecap?: bigint }): World {
  const rig = new FakeRig(options, CachingVtd);
  const vtd = rig.vtd as CachingVtd;
  const prng = new Prng(seed);
  const dropping = prng.fork('cache');
  if (seed % 2 === 0) vtd.dropsRequesters = () => dropping.below(2) === 0;
  const byCache = seed % 3 !== 0;
  return new World(prng, rig, (sourceId, page, isWrite, pasid) => {
    const address = BigInt(page) << 12n;
    const found =
      byCache && isAtsOn(rig, sourceId)
        ? vtd.accessByCache(sourceId, address, isWrite, pasid)
        : vtd.access(sourceId, address, isWrite, pasid);
    return typeof found === 'string' ? undefined : Number(found.frame >> 12n);
  });
}

describe('what is cached on the way from one first stage to another', () => {
  it.each([0, 1])('is seen by no other device on either of them: device %i', (other) => {
    for (let evictions = 1; evictions < 64; evictions++) {
      const rig = new FakeRig({}, CachingVtd);
      const vtd = rig.vtd as CachingVtd;
      const [moving, staying] = [rig.add(0x0310), rig.add(0x0318)];
      const domains = [rig.paging(moving), rig.paging(moving)] as const;
      const pages = Array.from({ length: 40 }, (_, i) => BigInt(i) << 12n);
      for (const [i, domain] of domains.entries()) domain.map(0n, 2 ** 20 * (i + 1), 80, RW);
      rig.attach(moving, domains[0]);
      rig.attach(staying, domains[other] ?? domains[0]);
      // The hardware forgets requesters now and then, in every pattern of six accesses.
      let count = 0;
      vtd.dropsRequesters = () => ((evictions >> (count++ % 6)) & 1) === 1;
      let next = 0;
      rig.sim.spawn(
        'the moving device',
        function* accesses() {
          for (;;) {
            const found = vtd.access(0x0310, pages[next++ % pages.length] ?? 0n, false);
            if (typeof found === 'string') throw new Error(found);
            yield 'an access';
          }
        },
        { daemon: true },
      );
      expect(rig.replace(moving, domains[1])).toBe(0);
      const seen = (sourceId: number): unknown[] =>
        pages.map((page) => {
          const found = vtd.access(sourceId, page, false);
          return typeof found === 'string' ? found : (found.frame >> 31n) - 1n;
        });
      expect(seen(0x0310)).toEqual(pages.map(() => 1n));
      expect(seen(0x0318)).toEqual(pages.map(() => BigInt(other)));
    }
  });
});

describe.each([
  ['legacy', { ecap: ECAP_LEGACY }],
  ['legacy, device TLBs', { ecap: ECAP_LEGACY | 4n }],
  ['scalable', {}],
  ['scalable, PASIDs and device TLBs', { ecap: ECAP_PASID }],
  [
    'scalable, no invalidation beyond 2^3 pages',
    { cap: (CAP_ALL & ~(0x3fn << 48n)) | (3n << 48n) },
  ],
])('%s', (_mode, options) => {
  it(
    'every access finds what was mapped, and nothing that was unmapped',
    { timeout: 3_600_000 },
    () => {
      for (let seed = 1; seed <= SEQUENCES / 5; seed++) {
        const world = plainWorld(seed, options);
        for (let step = 0; step < STEPS; step++) world.step();
        expect(world.rig.core.warnings).toEqual([]);
      }
    },
  );
});
