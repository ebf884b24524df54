// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { Access } from './access.ts';
import { LEGACY, SCALABLE } from './capabilities.ts';
import { FS_ALL, Rig, SID, SS_RW } from './test_rig.ts';

const at = (page: number): bigint => BigInt(page) * 4096n;
const PAGES = 32;
const [FIRST, SECOND, NESTED] = [1, 2, 3];
const PASID = 5;

/** 32 pages that tables of random rights lead to, or not. */
function world(seed: number, kind: number): Rig {
  const random = new Prng(seed);
  const rig = new Rig(kind === 0 ? LEGACY : SCALABLE, kind !== 0);
  const [first, second] = [rig.page(), rig.page()];
  const table = (all: bigint): bigint =>
    random.below(3) === 0 ? all & ~BigInt(random.below(3)) : all;
  rig.map(second, 4, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
  for (let page = 0; page < PAGES; page++) {
    // Spread over tables of their own, so that rights above differ too.
    const address = at(page) << 9n;
    const rights = BigInt(random.below(4));
    rig.map(second, 4, address, at(0x10_0000 + page) + rights, { table: table(SS_RW) });
    const bits = 0x61n + BigInt(random.below(4) << 1);
    const leaf = kind === NESTED ? at(random.below(PAGES)) << 9n : at(0x10_0000 + page);
    rig.map(first, 4, address, random.below(6) === 0 ? 0n : leaf + bits, {
      table: random.below(6) === 0 ? FS_ALL & ~4n : FS_ALL,
    });
  }
  if (kind === 0) rig.legacy(second);
  else rig.pasid(PASID, kind, { fs: first, ss: second });
  rig.on();
  return rig;
}

describe('What is explained', () => {
  it.each([
    ['legacy mode', 0],
    ['a first stage', FIRST],
    ['a second stage', SECOND],
    ['a first stage on a second', NESTED],
  ])('of %s is what is translated', (_, kind) => {
    const count = { led: 0, refused: 0, kept: 0 };
    for (let seed = 1; seed <= 20; seed++) {
      const rig = world(seed, kind);
      const pasid = kind === 0 ? undefined : PASID;
      for (let page = 0; page < PAGES; page++) {
        const address = at(page) << 9n;
        const { page: found, lines } = rig.unit.explain({ sourceId: SID, pasid, address });
        const can = (access: number): number => rig.dma(address, access, pasid ?? -1);
        const [read, write] = [can(Access.READ), can(Access.WRITE)];
        const where = [seed, page, ...lines];
        if (found === undefined) {
          expect([read < 0, write < 0, ...where]).toEqual([true, true, ...where]);
          count.refused++;
          continue;
        }
        // Where it ends, and the rights that it tells of each stage.
        const ends = lines.filter((line) => line.includes('ends at'));
        const isUsers = !ends.some((line) => line.includes("supervisors' only"));
        const reads = isUsers && ends.every((line) => !line.includes('for writing only'));
        const last = ends.at(-1) ?? '';
        const firstEnd = ends.find((line) => !line.startsWith(' ')) ?? last;
        const writes = isUsers && [firstEnd, last].every((line) => !line.includes('reading only'));
        expect([read >= 0, write >= 0, ...where]).toEqual([reads, writes, ...where]);
        for (const answer of [read, write]) {
          if (answer >= 0) expect([answer, ...where]).toEqual([found, ...where]);
          else count.kept++;
        }
        count.led++;
      }
    }
    expect(Math.min(count.led, count.refused, count.kept)).toBeGreaterThan(20);
  });

  it('of the PASID for requests without is that it is refused', () => {
    const rig = new Rig(SCALABLE, true);
    rig.on();
    const { lines, page } = rig.unit.explain({ sourceId: SID, pasid: 0, address: 0n });
    expect([page, lines.at(-1)]).toEqual([
      undefined,
      'refused: PASID 0 is the one for requests without',
    ]);
    expect(rig.dma(0n, 0, 0)).toBe(-0x48);
  });
});
