// SPDX-License-Identifier: Apache-2.0
import type { Bench } from '../bench.ts';
import { EACH_MODE, type Scenario, SECOND_STAGE } from '../scenario.ts';
import { forgetAll } from './forget.ts';
import type { UnitName } from '../machine.ts';

const PAGE = 2;
const IOVA = 0x1000n;
const [GCMD, GSTS, RTADDR] = [0x18, 0x1c, 0x20];
const [SRTP, STATES] = [0x4000_0000, 0x8780_0000];
const SCALABLE_MODE = 0x400n;

type Where = 'root' | 'context' | 'directory' | 'pasid' | 'page';

/** One field of one entry on the way to IOVA is made wrong. */
interface Wrong {
  readonly what: string;
  readonly units: readonly UnitName[];
  readonly where: Where;
  /** Of page tables: 0 is the leaf. */
  readonly level?: number;
  /** Of an entry's words of 64 bits. */
  readonly word?: number;
  readonly clear?: bigint;
  readonly set?: bigint;
  /** What is tried; a load unless told. */
  readonly access?: 'load' | 'store';
}

const LEGACY: readonly UnitName[] = ['legacy'];
const SCALABLE: readonly UnitName[] = ['scalable, second stage', 'scalable, first stage'];
const SECOND: readonly UnitName[] = ['scalable, second stage'];
const FIRST: readonly UnitName[] = ['scalable, first stage'];

/** Where no memory is. */
const NOWHERE = 0x10_0000_0000n;
const ADDRESS = 0x000f_ffff_ffff_f000n;
const nowhere = { clear: ADDRESS, set: NOWHERE };

const wrongs: readonly Wrong[] = [
  { what: 'reserved bits of a scalable root entry', units: SCALABLE, where: 'root', set: 0x10n },
  { what: 'reserved bits of the PASID entry', units: SCALABLE, where: 'pasid', set: 0x20n },
  {
    what: 'more reserved bits of the PASID entry',
    units: SCALABLE,
    where: 'pasid',
    word: 1,
    set: 0x10_0000n,
  },
  { what: 'the last words of the PASID entry', units: SCALABLE, where: 'pasid', word: 7, set: 1n },
  {
    what: 'a PASID for requests without, where it is 0',
    units: SCALABLE,
    where: 'context',
    word: 1,
    set: 5n,
  },
  {
    what: 'walks that snoop, where none can',
    units: SCALABLE,
    where: 'pasid',
    word: 1,
    set: 0x80_0000n,
  },
  {
    what: 'forced snooping, where there is none',
    units: SCALABLE,
    where: 'pasid',
    word: 1,
    set: 0x100_0000n,
  },
  {
    what: 'supervisor requests, where there are none',
    units: FIRST,
    where: 'pasid',
    word: 2,
    set: 1n,
  },
  {
    what: 'dirty bits of a second stage, where there are none',
    units: SECOND,
    where: 'pasid',
    set: 0x200n,
  },
  { what: 'a device IOTLB, where there is none', units: SCALABLE, where: 'context', set: 4n },
  { what: 'PASIDs, where there are none', units: SCALABLE, where: 'context', set: 8n },
  { what: 'page requests, where there are none', units: SCALABLE, where: 'context', set: 0x10n },
  {
    what: 'nested translation, where there is none',
    units: SCALABLE,
    where: 'pasid',
    clear: 0x1c0n,
    set: 0xc0n,
  },
  {
    what: 'the other stage, which is not there',
    units: SECOND,
    where: 'pasid',
    clear: 0x1c0n,
    set: 0x40n,
  },
  {
    what: 'the other stage, which is not there',
    units: FIRST,
    where: 'pasid',
    clear: 0x1c0n,
    set: 0x80n,
  },
  {
    what: 'snooping of a page, where there is none',
    units: SECOND_STAGE,
    where: 'page',
    set: 0x800n,
  },
  {
    what: 'a transient mapping, where there is none',
    units: SECOND_STAGE,
    where: 'page',
    set: 1n << 62n,
  },
  { what: 'the context table is nowhere', units: EACH_MODE, where: 'root', ...nowhere },
  { what: 'the PASID directory is nowhere', units: SCALABLE, where: 'context', ...nowhere },
  { what: 'the PASID table is nowhere', units: SCALABLE, where: 'directory', ...nowhere },
  { what: 'the top table is nowhere', units: LEGACY, where: 'context', ...nowhere },
  { what: 'the top table is nowhere', units: SECOND, where: 'pasid', ...nowhere },
  { what: 'the top table is nowhere', units: FIRST, where: 'pasid', word: 2, ...nowhere },
  { what: 'a table is nowhere', units: EACH_MODE, where: 'page', level: 2, ...nowhere },
  { what: 'the page is nowhere', units: EACH_MODE, where: 'page', level: 0, ...nowhere },
  { what: 'the root entry is not present', units: EACH_MODE, where: 'root', clear: 1n },
  { what: 'reserved bits of the root entry', units: LEGACY, where: 'root', set: 0x10n },
  {
    what: 'the context table is beyond memory',
    units: LEGACY,
    where: 'root',
    set: 0x1_0000_0000_0000n,
  },
  { what: 'the context entry is not present', units: EACH_MODE, where: 'context', clear: 1n },
  { what: 'reserved bits of the context entry', units: LEGACY, where: 'context', set: 0x20n },
  { what: 'a reserved translation type', units: LEGACY, where: 'context', set: 0xcn },
  {
    what: 'translation type: device IOTLBs, without any',
    units: LEGACY,
    where: 'context',
    set: 0x4n,
  },
  {
    what: 'an address width that is not there',
    units: LEGACY,
    where: 'context',
    word: 1,
    set: 0x7n,
  },
  {
    what: 'a narrower address width',
    units: LEGACY,
    where: 'context',
    word: 1,
    clear: 0x7n,
    set: 0x1n,
  },
  {
    what: 'reserved bits of a scalable context entry',
    units: SCALABLE,
    where: 'context',
    word: 1,
    set: 0x8000_0000n,
  },
  {
    what: 'the PASID directory entry is not present',
    units: SCALABLE,
    where: 'directory',
    clear: 1n,
  },
  {
    what: 'reserved bits of the PASID directory entry',
    units: SCALABLE,
    where: 'directory',
    set: 0x10n,
  },
  { what: 'the PASID entry is not present', units: SCALABLE, where: 'pasid', clear: 1n },
  { what: 'a PASID entry of type 0', units: SCALABLE, where: 'pasid', clear: 0x1c0n },
  { what: 'a PASID entry of type 7', units: SCALABLE, where: 'pasid', set: 0x1c0n },
  {
    what: 'an address width of a PASID entry that is not there',
    units: SECOND,
    where: 'pasid',
    set: 0x1cn,
  },
  { what: 'five levels, without any', units: FIRST, where: 'pasid', word: 2, set: 0x4n },
  ...[3, 2, 1, 0].flatMap((level): Wrong[] => [
    { what: `nothing at level ${level}`, units: EACH_MODE, where: 'page', level, clear: 3n },
    {
      what: `no writing at level ${level}`,
      units: EACH_MODE,
      where: 'page',
      level,
      clear: 2n,
      access: 'store',
    },
    { what: `no reading at level ${level}`, units: SECOND_STAGE, where: 'page', level, clear: 1n },
    { what: `the supervisor's at level ${level}`, units: FIRST, where: 'page', level, clear: 4n },
  ]),
  { what: 'a large page at the top', units: EACH_MODE, where: 'page', level: 3, set: 0x80n },
  { what: 'a misaligned large page', units: EACH_MODE, where: 'page', level: 1, set: 0x80n },
  {
    what: 'a table beyond the width of addresses',
    units: EACH_MODE,
    where: 'page',
    level: 1,
    set: 0x8_0000_0000_0000n,
  },
  {
    what: 'a page beyond the width of addresses',
    units: EACH_MODE,
    where: 'page',
    level: 0,
    set: 0x8_0000_0000_0000n,
  },
];

function provoke(bench: Bench, wrong: Wrong): void {
  const domain = bench.paging();
  bench.attach(bench.edu, domain);
  bench.attach(bench.test, domain);
  const page = bench.page();
  bench.map(domain, IOVA, page, PAGE);
  const behind = wrong.access === 'store' ? bench.test : bench.edu;
  const { sourceId } = behind.requester;
  const { tables } = bench;
  const level = wrong.level ?? 0;
  const entry =
    wrong.where === 'page' ? tables.page(sourceId, IOVA, level) : tables[wrong.where](sourceId);
  const at = entry + BigInt((wrong.word ?? 0) * 8);
  const before = tables.read(at);
  const access = (): number | undefined =>
    wrong.access === 'store' ? bench.store(bench.test, IOVA) : bench.probe(IOVA) ? page : undefined;
  bench.shows('it is reached before', access() === page);
  tables.write(at, (before & ~(wrong.clear ?? 0n)) | (wrong.set ?? 0n));
  bench.say(`forget = ${forgetAll(bench)}`);
  bench.shows('it is refused', access() === undefined);
  tables.write(at, before);
  bench.say(`forget = ${forgetAll(bench)}`);
  bench.shows('and reached after', access() === page);
  bench.sayRegisters();
}

/** Bits that nobody looks at, of leaves and of tables. */
const ignored: readonly (readonly [units: readonly UnitName[], bits: bigint])[] = [
  // Execute, memory type, available to software; and the high ones.
  [SECOND_STAGE, 0x27cn | (0x3ffn << 52n)],
  // Cache attributes, global, available to software; and the high ones, without execute disable.
  [FIRST, 0xb18n | (0x7ffn << 52n)],
];

/** Each field that QEMU looks at, wrong in turn. */
export const refusals: readonly Scenario[] = [
  ...wrongs.map((wrong): Scenario => ({
    name: `refused: ${wrong.what}`,
    units: wrong.units,
    run: (bench) => provoke(bench, wrong),
  })),
  ...ignored.flatMap(([units, bits]) =>
    [3, 0].map((level): Scenario => ({
      name: `not refused: ignored bits at level ${level}`,
      units,
      run(bench) {
        const domain = bench.paging();
        bench.attach(bench.edu, domain);
        const page = bench.page();
        bench.map(domain, IOVA, page, PAGE);
        const { tables } = bench;
        const at = tables.page(bench.edu.requester.sourceId, IOVA, level);
        tables.write(at, tables.read(at) | bits);
        bench.shows('it is reached all the same', bench.load(IOVA) === page);
        bench.shows('and written', bench.store(bench.edu, IOVA) === page);
      },
    })),
  ),
  {
    name: 'refused: an address that is not canonical',
    units: ['scalable, first stage'],
    run(bench) {
      bench.attach(bench.edu, bench.paging());
      bench.shows('refused', !bench.probe(0x8000_0000_0000n));
      bench.shows('refused', !bench.probe(0x0001_0000_0000_0000n));
    },
  },
  {
    name: 'refused: an address beyond the width',
    units: SECOND_STAGE,
    run(bench) {
      bench.attach(bench.edu, bench.paging());
      bench.shows('refused', !bench.probe(0x1_0000_0000_0000n));
      bench.shows('refused', !bench.probe(0x8000_0000_0000_0000n));
    },
  },
  {
    name: 'refused: the root table is nowhere',
    units: EACH_MODE,
    run(bench) {
      const { mmio } = bench.hardware;
      bench.attach(bench.edu, bench.paging());
      mmio.write64(RTADDR, NOWHERE | (bench.tables.isScalable ? SCALABLE_MODE : 0n));
      mmio.write32(GCMD, ((mmio.read32(GSTS) & STATES) | SRTP) >>> 0);
      bench.say(`forget = ${forgetAll(bench)}`);
      bench.shows('refused', !bench.probe(IOVA));
    },
  },
  {
    name: 'a fault that is not to be recorded',
    units: EACH_MODE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const { tables } = bench;
      const { sourceId } = bench.edu.requester;
      // Fault processing disable: bit 1 of both kinds of entries.
      const at = tables.isScalable ? tables.pasid(sourceId) : tables.context(sourceId);
      tables.write(at, tables.read(at) | 2n);
      bench.say(`forget = ${forgetAll(bench)}`);
      bench.shows('refused', !bench.probe(IOVA));
      bench.sayRegisters();
    },
  },
];
