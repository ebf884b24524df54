// SPDX-License-Identifier: Apache-2.0
import {
  allContexts,
  allIotlb,
  allPasidCaches,
  contextOfDevice,
  iotlbOfDomain,
  iotlbOfPages,
  iotlbOfPasid,
  iotlbOfPasidPages,
  pasidCacheOfPasid,
} from '../../../../src/drivers/intel/descriptors.ts';
import { FRAME_SIZE } from '../../../../src/memory/frame.ts';
import type { Bench } from '../bench.ts';
import { EACH_MODE, FIRST_STAGE, type Scenario, SECOND_STAGE } from '../scenario.ts';

const PAGE = 2;
const IOVA = 0x5000n;
const OTHER = 0x9000n;
const IOVA_PAGE = 5;
const ADDRESS = 0x000f_ffff_ffff_f000n;

type Fill = (at: Uint32Array) => void;

/** Two pages that are cached, and then changed in memory: what is cached is used until it is to be forgotten. */
function stale(bench: Bench, fills: (did: number) => Fill[], staysOther: boolean): void {
  const domain = bench.paging();
  bench.attach(bench.edu, domain);
  bench.attach(bench.test, domain);
  const [old, next] = [bench.page(), bench.page()];
  for (const iova of [IOVA, OTHER]) bench.map(domain, iova, old, PAGE);
  const { tables, edu, test } = bench;
  const reach = (iova: bigint): (number | undefined)[] => [
    bench.load(iova),
    bench.store(test, iova),
  ];
  const all = (pages: (number | undefined)[], page: number): boolean =>
    pages.every((reached) => reached === page);
  bench.shows('both are reached', all([...reach(IOVA), ...reach(OTHER)], old));
  for (const iova of [IOVA, OTHER]) {
    const at = tables.page(edu.requester.sourceId, iova, 0);
    tables.write(at, (tables.read(at) & ~ADDRESS) | BigInt(next * FRAME_SIZE));
  }
  bench.shows('the stale entry is used', all(reach(IOVA), old));
  bench.say(`forget = ${bench.invalidate(...fills(didOf(bench)))}`);
  bench.shows('it is gone', all(reach(IOVA), next));
  bench.shows(
    staysOther ? 'the one beside it is not' : 'and so is the one beside it',
    all(reach(OTHER), staysOther ? old : next),
  );
  bench.sayRegisters();
}

/** The domain id that the entry of `edu` has. */
function didOf({ tables, edu }: Bench): number {
  const { sourceId } = edu.requester;
  if (tables.isScalable) return Number(tables.read(tables.pasid(sourceId) + 8n) & 0xffffn);
  return Number((tables.read(tables.context(sourceId) + 8n) >> 8n) & 0xffffn);
}

/** The entry of a device is changed to another address space in memory. */
function staleEntry(bench: Bench, fills: (did: number, sourceId: number) => Fill[]): void {
  const [one, two] = [bench.paging(), bench.paging()];
  const [a, b] = [bench.page(), bench.page()];
  bench.map(one, IOVA, a, PAGE);
  bench.map(two, IOVA, b, PAGE);
  bench.map(two, OTHER, b, PAGE);
  bench.attach(bench.edu, one);
  bench.attach(bench.test, two);
  const { tables, edu, test } = bench;
  bench.shows('the first address space', bench.load(IOVA) === a);
  const entryOf = (sourceId: number): bigint =>
    tables.isScalable ? tables.pasid(sourceId) : tables.context(sourceId);
  const [from, to] = [entryOf(test.requester.sourceId), entryOf(edu.requester.sourceId)];
  const did = didOf(bench);
  for (let at = 0n; at < (tables.isScalable ? 64n : 16n); at += 8n) {
    tables.write(to + at, tables.read(from + at));
  }
  bench.shows('the stale entry is used', bench.load(OTHER) === undefined);
  bench.say(`forget = ${bench.invalidate(...fills(did, edu.requester.sourceId))}`);
  bench.shows('the second address space', bench.load(OTHER) === b);
  bench.shows('and what was in the first is gone', bench.load(IOVA) === b);
}

const noDrains = { reads: false, writes: false };
const one = { page: IOVA_PAGE, maskLg2: 0 };
/** Pages 0 to 15: both. */
const many = { page: 0, maskLg2: 4 };

/** What is cached, and what makes the hardware forget it. */
export const invalidation: readonly Scenario[] = [
  {
    name: 'stale: an IOTLB entry until all are invalidated',
    units: EACH_MODE,
    run: (bench) => stale(bench, () => [(at) => allIotlb(at, noDrains)], false),
  },
  {
    name: 'stale: an IOTLB entry until its domain is invalidated',
    units: SECOND_STAGE,
    run: (bench) => stale(bench, (did) => [(at) => iotlbOfDomain(at, did, noDrains)], false),
  },
  {
    name: 'stale: an IOTLB entry until its page is invalidated',
    units: SECOND_STAGE,
    run: (bench) =>
      stale(bench, (did) => [(at) => iotlbOfPages(at, did, one, true, noDrains)], true),
  },
  {
    name: 'stale: an IOTLB entry until its pages are invalidated',
    units: SECOND_STAGE,
    run: (bench) =>
      stale(bench, (did) => [(at) => iotlbOfPages(at, did, many, false, noDrains)], false),
  },
  {
    name: 'stale: an IOTLB entry until its PASID is invalidated',
    units: FIRST_STAGE,
    run: (bench) => stale(bench, (did) => [(at) => iotlbOfPasid(at, did, 0)], false),
  },
  {
    name: 'stale: an IOTLB entry until the page of its PASID is invalidated',
    units: FIRST_STAGE,
    run: (bench) => stale(bench, (did) => [(at) => iotlbOfPasidPages(at, did, 0, one, true)], true),
  },
  {
    name: 'stale: an IOTLB entry until the pages of its PASID are invalidated',
    units: FIRST_STAGE,
    run: (bench) =>
      stale(bench, (did) => [(at) => iotlbOfPasidPages(at, did, 0, many, false)], false),
  },
  {
    name: 'stale: an IOTLB entry of a domain while another is invalidated',
    units: SECOND_STAGE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const [old, next] = [bench.page(), bench.page()];
      bench.map(domain, IOVA, old, PAGE);
      bench.shows('it is reached', bench.load(IOVA) === old);
      const { tables } = bench;
      const at = tables.page(bench.edu.requester.sourceId, IOVA, 0);
      tables.write(at, (tables.read(at) & ~ADDRESS) | BigInt(next * FRAME_SIZE));
      const other = didOf(bench) + 1;
      bench.say(`forget = ${bench.invalidate((words) => iotlbOfDomain(words, other, noDrains))}`);
      bench.shows('the stale entry is used', bench.load(IOVA) === old);
    },
  },
  {
    name: 'stale: a context entry until all are invalidated',
    units: ['legacy'],
    run: (bench) => staleEntry(bench, () => [allContexts, (at) => allIotlb(at, noDrains)]),
  },
  {
    name: "stale: a context entry until the device's is invalidated",
    units: ['legacy'],
    run: (bench) =>
      staleEntry(bench, (did, sourceId) => [
        (at) => contextOfDevice(at, did, sourceId),
        (at) => iotlbOfDomain(at, did, noDrains),
      ]),
  },
  {
    name: 'stale: a PASID entry until all are invalidated',
    units: ['scalable, second stage', 'scalable, first stage'],
    run: (bench) => staleEntry(bench, () => [allPasidCaches, (at) => allIotlb(at, noDrains)]),
  },
  {
    name: 'stale: a PASID entry until it is invalidated',
    units: ['scalable, second stage', 'scalable, first stage'],
    run: (bench) =>
      staleEntry(bench, (did) => [
        (at) => pasidCacheOfPasid(at, did, 0),
        (at) => allIotlb(at, noDrains),
      ]),
  },
  {
    name: "the driver's unmap leaves nothing stale",
    units: [...EACH_MODE, 'legacy, caching mode'],
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const [a, b] = [bench.page(), bench.page()];
      for (const page of [a, b, a]) {
        bench.map(domain, IOVA, page, PAGE);
        bench.shows('it is reached', bench.load(IOVA) === page);
        bench.unmap(domain, IOVA, PAGE);
        bench.shows('it is not', bench.load(IOVA) === undefined);
      }
      bench.sayRegisters();
    },
  },
  {
    name: 'pages that become one large page, and the other way',
    units: EACH_MODE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const [small, large] = [bench.page(), bench.page(9)];
      for (let i = 0; i < 2; i++) {
        bench.map(domain, 0x20_0000n, small, PAGE);
        bench.shows('a page', bench.load(0x20_0000n) === small);
        bench.unmap(domain, 0x20_0000n, PAGE);
        bench.map(domain, 0x20_0000n, large, 512 * PAGE);
        bench.shows('a large page', bench.load(0x20_0000n) === large);
        bench.shows('its end', bench.load(0x3f_f000n) === large + 511 * PAGE);
        bench.unmap(domain, 0x20_0000n, 512 * PAGE);
        bench.shows('nothing', bench.load(0x20_0000n) === undefined);
      }
    },
  },
];
