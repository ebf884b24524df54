// SPDX-License-Identifier: Apache-2.0
/**
 * Structures that lead somewhere, with a few bits flipped: root, context, directory, PASID and page-table entries, the register that
 * points to them, descriptors of the queue. Random words (`random.test.ts`) seldom get past the first check; these get to each of them.
 */
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import { NO_PASID } from './access.ts';
import { LEGACY, SCALABLE } from './capabilities.ts';
import { Fault, type FaultName } from './fault_reasons.ts';
import { FS_ALL, Rig, SID, SS_RW } from './test_rig.ts';

/** How many rounds: a cut here, a million at night (`VTD_RANDOM=1000000`, and `VTD_SEED` for others). */
const COUNT = Number(process.env['VTD_RANDOM'] ?? 20_000);
const SEED = Number(process.env['VTD_SEED'] ?? 0);
const LIMIT_MS = 600_000;
const ADDRESS = 0x1234_5000n;
const GUEST = 0x2_3456_7000n;
const [FIRST, SECOND, NESTED] = [1, 2, 3];
const PASID = 5;
const [RTADDR, GCMD, FSTS, IQH, IQT] = [0x20, 0x18, 0x34, 0x80, 0x88];
const NAMES = Object.keys(Fault) as FaultName[];
const at = (page: number): bigint => BigInt(page) * 4096n;

/** A word of memory, by page and index, and what it is without flips. Page -1: RTADDR. */
interface Word {
  readonly page: number;
  readonly index: number;
  readonly value: bigint;
}

const wordsAt = (page: number, index: number, values: readonly bigint[]): Word[] =>
  values.map((value, i) => ({ page, index: index + i, value }));

/** The entries that lead an address to a leaf of 4 KiB, by a table of each of 4 levels. */
function chain(pages: readonly number[], address: bigint, table: bigint, leaf: bigint): Word[] {
  return pages.map((page, i) => ({
    page,
    index: Number((address >> BigInt(39 - 9 * i)) & 511n),
    value: i === 3 ? leaf : at(pages[i + 1] ?? 0) + table,
  }));
}

interface Structures {
  readonly words: readonly Word[];
  /** The page that ADDRESS leads to; undefined where only a device that has done so before can read it. */
  readonly leadsTo: number | undefined;
}

function world(isScalable: boolean) {
  const { cap, ecap } = isScalable ? SCALABLE : LEGACY;
  const description = isScalable
    ? { cap: { ...cap, MGAW: 44 }, ecap: { ...ecap, DT: 1, PRS: 1 }, haw: 46 }
    : { cap, ecap: { ...ecap, DT: 1 }, haw: 46 };
  const rig = new Rig(description, isScalable);
  const tables = (): number[] => [rig.page(), rig.page(), rig.page(), rig.page()];
  const [second, first] = [tables(), tables()];
  const [target, directory, leaves] = [rig.page(), rig.page(), rig.page()];
  const root: Word[] = [
    { page: -1, index: 0, value: at(rig.root) + (isScalable ? 0x400n : 0n) },
    { page: rig.root, index: 0, value: at(rig.context) + 1n },
  ];
  const legacy = (random: Prng): Structures => {
    const type = random.below(3);
    const context = [at(second[0] ?? 0) + BigInt(type << 2) + 1n, 0x702n];
    return {
      words: [
        ...root,
        { page: rig.root, index: 1, value: 0n },
        ...wordsAt(rig.context, SID * 2, context),
        ...chain(second, ADDRESS, SS_RW, at(target) + SS_RW),
      ],
      leadsTo: type === 2 ? Number(ADDRESS >> 12n) : target,
    };
  };
  // A second stage below a first one has that one's tables where they are, each by a leaf of its own.
  const ownTables: Word[] = [
    { page: second[1] ?? 0, index: 4, value: at(directory) + SS_RW },
    { page: directory, index: 0, value: at(leaves) + SS_RW },
    ...first.map((page) => ({ page: leaves, index: page % 512, value: at(page) + SS_RW })),
  ];
  const scalable = (random: Prng): Structures => {
    const type = 1 + random.below(4);
    const maybe = (value: bigint): bigint => (random.below(4) === 0 ? value : 0n);
    const snoops = random.below(8) > 0;
    const entry = [
      at(second[0] ?? 0) + 9n + BigInt(type << 6) + maybe(0x200n),
      (snoops ? 1n << 23n : 0n) + 7n,
      at(first[0] ?? 0) + maybe(1n) + maybe(2n) + maybe(0x10n) + maybe(0x80n),
      ...[0n, 0n, 0n, 0n, 0n],
    ];
    const words = [
      ...root,
      ...wordsAt(rig.context, SID * 4, [at(rig.directory) + 0xdn + maybe(0x10n), 0n, 0n, 0n]),
      { page: rig.directory, index: 0, value: at(rig.pasids) + 1n },
      ...wordsAt(rig.pasids, 0, entry),
      ...wordsAt(rig.pasids, PASID * 8, entry),
    ];
    const bits = FS_ALL & ~0x20n;
    const guest = type === NESTED ? GUEST : at(target);
    if (type === FIRST || type === NESTED)
      words.push(...chain(first, ADDRESS, bits, guest + bits + maybe(1n << 63n)));
    if (type === SECOND || type === NESTED)
      words.push(...chain(second, type === NESTED ? GUEST : ADDRESS, SS_RW, at(target) + SS_RW));
    if (type === NESTED) words.push(...ownTables);
    const leadsTo = type === 4 ? Number(ADDRESS >> 12n) : snoops ? target : undefined;
    return { words, leadsTo };
  };
  rig.on();
  return { rig, build: isScalable ? scalable : legacy };
}

/** The reasons of a mode but those of page requests, of memory that can not be written, and of PASIDs that are too wide. */
const reachable = (isScalable: boolean): FaultName[] =>
  NAMES.filter(
    (name) =>
      name.startsWith('SM_') === isScalable &&
      !/^SM_(PAGES_IN_LEGACY|PRE_CLEAR|.*UPDATE_FAILED|PASID_BEYOND_PSS)$/.test(name),
  );

describe('Bits that are flipped', () => {
  it.each([
    ['legacy', false],
    ['scalable', true],
  ] as const)(
    'in the tables of %s mode are refused, with every reason there is',
    (_, isScalable) => {
      const random = new Prng(SEED * 2 + (isScalable ? 12 : 11));
      const { rig, build } = world(isScalable);
      const put = ({ page, index }: Word, value: bigint): void => {
        if (page >= 0) return rig.put(page, index, value);
        rig.mmio.write64(RTADDR, value);
        rig.mmio.write32(GCMD, 0xc000_0000);
      };
      const pasids = [NO_PASID, NO_PASID, PASID, PASID, 0, 0xf_ffff];
      const other = (): bigint => ADDRESS ^ (1n << BigInt(12 + random.below(52)));
      const seen = new Set<number>();
      let found = 0;
      let before: readonly Word[] = [];
      for (let round = 0; round < COUNT; round++) {
        for (const word of before) put(word, word.page < 0 ? word.value : 0n);
        const { words, leadsTo } = build(random);
        const values = words.map(({ value }) => value);
        const flips = random.below(4);
        for (let i = 0; i < flips; i++) {
          const which = random.below(words.length);
          values[which] = (values[which] ?? 0n) ^ (1n << BigInt(random.below(64)));
        }
        for (const [i, word] of words.entries()) put(word, values[i] ?? 0n);
        before = words;
        rig.mmio.write32(FSTS, 1);
        rig.unit.invalidation.all();
        const plain = rig.dma(ADDRESS);
        if (flips === 0 && leadsTo !== undefined) expect([round, plain]).toEqual([round, leadsTo]);
        const answers = [plain];
        for (let i = 0; i < 2; i++) {
          const access = random.below(2) === 0 ? random.below(2) : random.below(64);
          const address = random.pick([ADDRESS, ADDRESS, ADDRESS, ADDRESS, 0xfee0_1000n, other()]);
          answers.push(rig.dma(address, access, random.pick(pasids)));
        }
        for (const answer of answers) {
          if (answer >= 0) found++;
          else seen.add(-answer);
        }
      }
      const known = new Set(Object.values(Fault));
      expect([...seen].filter((reason) => !known.has(reason))).toEqual([]);
      expect(reachable(isScalable).filter((name) => !seen.has(Fault[name]))).toEqual([]);
      expect(found).toBeGreaterThan(COUNT / 3);
    },
    LIMIT_MS,
  );

  it.each([
    ['legacy', false],
    ['scalable', true],
  ] as const)(
    'in descriptors of %s mode are carried out or stop the queue, with a reason',
    (_, isScalable) => {
      const random = new Prng(SEED * 2 + (isScalable ? 22 : 21));
      const { rig } = world(isScalable);
      const bytes = isScalable ? 32 : 16;
      const first = [
        [0x11n, 0x7_0021n, 0x7_0000_0031n],
        [0x12n, 0x7_0022n, 0x7_0032n],
        [0x10_0000_0003n],
        [4n],
        [0x1_0000_0025n],
        [0x5_0007_0026n, 0x5_0007_0036n],
        [0x7_0007n, 0x5_0007_0017n, 0x37n],
        [0x5_0010_0008n],
        [0x5_0010_0019n],
      ].flat();
      const infos = new Set<number>();
      let done = 0;
      const rounds = Math.ceil(COUNT / 4);
      for (let round = 0; round < rounds; round++) {
        const words = [random.pick(first), random.pick([0n, ADDRESS, at(rig.status)]), 0n, 0n];
        for (let flips = random.below(4); flips > 0; flips--) {
          const which = random.below(bytes / 8);
          words[which] = (words[which] ?? 0n) ^ (1n << BigInt(random.below(64)));
        }
        for (const [i, word] of words.entries()) rig.put(rig.queue, i, word);
        rig.unit.hardware.reset();
        rig.on();
        rig.queueOn();
        rig.mmio.write32(IQT, bytes);
        for (let step = 0; step < 4; step++) rig.sim.point('the queue runs');
        const isStopped = (rig.mmio.read32(FSTS) & 0x10) !== 0;
        expect([round, rig.mmio.read32(IQH)]).toEqual([round, isStopped ? 0 : bytes]);
        if (!isStopped) done++;
        else infos.add(rig.mmio.read32(0xb0) & 0xf);
      }
      // 3: a kind that there is not; 4: reserved bits.
      expect([infos.size, infos.has(3), infos.has(4)]).toEqual([2, true, true]);
      expect(done).toBeGreaterThan(rounds / 6);
    },
    LIMIT_MS,
  );
});
