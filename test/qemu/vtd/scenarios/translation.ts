// SPDX-License-Identifier: Apache-2.0
import { contextOfDevice } from '../../../../src/drivers/intel/descriptors.ts';
import { FRAME_SIZE } from '../../../../src/memory/frame.ts';
import { Prot } from '../../../../src/iommu/domain.ts';
import { hex } from '../bench.ts';
import { ALL_UNITS, EACH_MODE, FIRST_STAGE, type Scenario, SECOND_STAGE } from '../scenario.ts';

const PAGE = 2;
const [PAGES_2M, PAGES_1G] = [2 ** 9, 2 ** 18];
const ACCESSED_FIRST = 0x20n;
const DIRTY_FIRST = 0x40n;

/** Where accesses arrive. */
export const translation: readonly Scenario[] = [
  {
    name: 'the driver starts, and the registers say so',
    units: ALL_UNITS,
    run(bench) {
      const { mmio } = bench.hardware;
      for (const [name, at] of [
        ['CAP', 0x08],
        ['ECAP', 0x10],
        ['RTADDR', 0x20],
        ['IQA', 0x90],
      ] as const) {
        bench.say(`${name} ${hex(mmio.read64(at))}`);
      }
      bench.say(`GSTS ${hex(mmio.read32(0x1c))}, FECTL ${hex(mmio.read32(0x38))}`);
      bench.sayRegisters();
    },
  },
  {
    name: 'a device that is attached to nothing reaches nothing',
    units: ALL_UNITS,
    run(bench) {
      const isDone = bench.probe(0x1000n);
      bench.shows('it is blocked', !isDone && bench.store(bench.test, 0x1000n) === undefined);
    },
  },
  {
    name: 'pages of 4 KiB',
    units: ALL_UNITS,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      bench.attach(bench.test, domain);
      const [one, two] = [bench.page(), bench.page()];
      bench.map(domain, 0x1000n, two, PAGE);
      bench.map(domain, 0x2000n, one, PAGE);
      bench.shows('a write arrives', bench.store(bench.test, 0x1ffcn) === two);
      bench.shows('and in the next page', bench.store(bench.test, 0x2000n) === one);
      bench.shows('a read comes from there', bench.load(0x1008n) === two);
      bench.shows('edu writes too', bench.store(bench.edu, 0x2010n) === one);
      bench.shows('not before', bench.load(0x0ffcn) === undefined);
      bench.shows('not after', bench.store(bench.test, 0x3000n) === undefined);
      bench.sayRegisters();
    },
  },
  {
    name: 'pages of 2 MiB',
    units: EACH_MODE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      bench.attach(bench.test, domain);
      const first = bench.page(9);
      bench.map(domain, 0x20_0000n, first, PAGES_2M * PAGE);
      bench.shows('its first byte', bench.store(bench.test, 0x20_0000n) === first);
      bench.shows('its last word', bench.store(bench.test, 0x3f_fffcn) === first + 511 * PAGE);
      bench.shows('in the middle', bench.load(0x30_1004n) === first + 257 * PAGE);
      bench.shows('not before', bench.load(0x1f_fffcn) === undefined);
      bench.shows('not after', bench.load(0x40_0000n) === undefined);
    },
  },
  {
    name: 'pages of 1 GiB',
    units: EACH_MODE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      bench.attach(bench.test, domain);
      const page = bench.page();
      const start = 2 ** 30 / FRAME_SIZE;
      const inside = BigInt((page - start) * FRAME_SIZE);
      bench.map(domain, 0x1_0000_0000n, start, PAGES_1G * PAGE);
      bench.shows('a write', bench.store(bench.test, 0x1_0000_0000n + inside) === page);
      bench.shows('a read', bench.load(0x1_0000_0010n + inside) === page);
      bench.shows('not before', bench.load(0xffff_fffcn) === undefined);
      bench.shows('not after', bench.load(0x1_4000_0000n) === undefined);
      bench.unmap(domain, 0x1_0000_0000n, PAGES_1G * PAGE);
      bench.shows('nor when it is gone', bench.load(0x1_0000_0010n + inside) === undefined);
    },
  },
  {
    name: 'the largest addresses',
    units: EACH_MODE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const page = bench.page();
      const iova = domain.apertureLast - 0xfffn;
      bench.say(`aperture to ${hex(domain.apertureLast)}`);
      bench.map(domain, iova, page, PAGE);
      bench.shows('it is reached', bench.load(iova) === page);
      bench.shows('not beyond', bench.load(domain.apertureLast + 1n) === undefined);
    },
  },
  {
    name: 'what may be read, and what written',
    units: ALL_UNITS,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      bench.attach(bench.test, domain);
      const page = bench.page();
      bench.map(domain, 0x1000n, page, PAGE, Prot.READ);
      bench.shows('it is read', bench.load(0x1000n) === page);
      bench.shows('it is not written', bench.store(bench.test, 0x1000n) === undefined);
      bench.map(domain, 0x2000n, page, PAGE, Prot.WRITE);
      bench.shows('another is written', bench.store(bench.test, 0x2000n) === page);
      bench.load(0x2000n);
    },
  },
  {
    name: 'a write, where what is cached may only be read',
    units: EACH_MODE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const page = bench.page();
      bench.map(domain, 0x1000n, page, PAGE, Prot.READ);
      bench.shows('it is read', bench.load(0x1000n) === page);
      bench.shows('it is not written', bench.store(bench.edu, 0x1004n) === undefined);
      bench.shows('it is read again', bench.load(0x1008n) === page);
    },
  },
  {
    name: 'pass-through',
    units: EACH_MODE,
    run(bench) {
      const page = bench.page();
      const address = BigInt(page * FRAME_SIZE);
      bench.attach(bench.test, bench.identity());
      bench.attach(bench.edu, bench.identity());
      bench.shows('a write', bench.store(bench.test, address + 8n) === page);
      bench.shows('a read', bench.load(address + 12n) === page);
    },
  },
  {
    name: 'pass-through ends',
    units: EACH_MODE,
    run(bench) {
      const address = BigInt(bench.page() * FRAME_SIZE);
      bench.attach(bench.edu, bench.identity());
      bench.load(address);
      bench.attach(bench.edu, undefined);
      bench.probe(address);
      bench.invalidate((at) => contextOfDevice(at, 0, bench.edu.requester.sourceId));
      bench.shows('it is over with the context entry forgotten', !bench.probe(address));
    },
  },
  {
    name: 'two devices, two address spaces',
    units: EACH_MODE,
    run(bench) {
      const [one, two] = [bench.paging(), bench.paging()];
      bench.attach(bench.edu, one);
      bench.attach(bench.test, two);
      const [a, b] = [bench.page(), bench.page()];
      bench.map(one, 0x1000n, a, PAGE);
      bench.map(two, 0x1000n, b, PAGE);
      bench.shows('each has its own', bench.load(0x1000n) === a);
      bench.shows('at the same address', bench.store(bench.test, 0x1000n) === b);
      bench.unmap(one, 0x1000n, PAGE);
      bench.shows('one goes', bench.load(0x1000n) === undefined);
      bench.shows('the other stays', bench.store(bench.test, 0x1000n) === b);
    },
  },
  {
    name: 'one address space for another',
    units: EACH_MODE,
    run(bench) {
      const [one, two] = [bench.paging(), bench.paging()];
      const [a, b] = [bench.page(), bench.page()];
      bench.map(one, 0x1000n, a, PAGE);
      bench.map(two, 0x1000n, b, PAGE);
      bench.attach(bench.edu, one);
      bench.shows('the first', bench.load(0x1000n) === a);
      bench.attach(bench.edu, two);
      bench.shows('the second', bench.load(0x1000n) === b);
      bench.attach(bench.edu, undefined);
      bench.shows('none', !bench.probe(0x1000n));
      bench.attach(bench.edu, one);
      bench.shows('the first again', bench.load(0x1000n) === a);
      bench.sayRegisters();
    },
  },
  {
    name: 'the addresses of interrupts',
    units: EACH_MODE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const page = bench.page();
      bench.map(domain, 0xfee0_0000n, page, PAGE);
      bench.map(domain, 0x1000n, Number(0xfee0_0000n / 2048n), PAGE);
      bench.probe(0xfee0_0010n);
      bench.probe(0x1000n);
    },
  },
  {
    name: 'translation is off',
    units: EACH_MODE,
    run(bench) {
      const { mmio } = bench.hardware;
      const page = bench.page();
      const state = mmio.read32(0x1c) & 0x0780_0000;
      mmio.write32(0x18, state);
      bench.say(`GSTS ${hex(mmio.read32(0x1c))}`);
      const address = BigInt(page * FRAME_SIZE);
      bench.shows('addresses are physical', bench.store(bench.test, address) === page);
      mmio.write32(0x18, (state | 0x8000_0000) >>> 0);
      bench.say(`GSTS ${hex(mmio.read32(0x1c))}`);
      bench.shows('not any more', bench.store(bench.test, address) === undefined);
    },
  },
  {
    name: 'accessed and dirty bits of a first stage',
    units: FIRST_STAGE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      bench.attach(bench.test, domain);
      const entry = (iova: bigint): bigint =>
        bench.tables.read(bench.tables.page(bench.edu.requester.sourceId, iova, 0));
      const bits = (iova: bigint): bigint => entry(iova) & (ACCESSED_FIRST | DIRTY_FIRST);
      for (const iova of [0x1000n, 0x2000n, 0x3000n]) {
        bench.map(domain, iova, bench.page(), PAGE);
        bench.say(`as mapped: ${hex(bits(iova))}`);
        const at = bench.tables.page(bench.edu.requester.sourceId, iova, 0);
        bench.tables.write(at, bench.tables.read(at) & ~(ACCESSED_FIRST | DIRTY_FIRST));
      }
      bench.load(0x1000n);
      bench.say(`after a read: ${hex(bits(0x1000n))}`);
      bench.store(bench.test, 0x2000n);
      bench.say(`after a write: ${hex(bits(0x2000n))}`);
      bench.load(0x3000n);
      bench.store(bench.edu, 0x3000n);
      bench.say(`after a read, and a write of what is cached: ${hex(bits(0x3000n))}`);
    },
  },
  {
    name: 'entries that force snooping',
    units: ['legacy, snoop control'],
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      bench.say(`enforceCacheCoherency = ${domain.enforceCacheCoherency?.() ?? 'absent'}`);
      const page = bench.page();
      bench.map(domain, 0x1000n, page, PAGE);
      const { tables } = bench;
      const entry = tables.read(tables.page(bench.edu.requester.sourceId, 0x1000n, 0));
      bench.shows('the bit is set', (entry & 0x800n) !== 0n);
      bench.shows('and it is read', bench.load(0x1000n) === page);
    },
  },
  {
    name: 'a table of many pages',
    units: SECOND_STAGE,
    run(bench) {
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const first = bench.page(10);
      bench.map(domain, 0x1000n, first, 1024 * PAGE);
      for (let i = 0; i < 1024; i += 93) {
        const iova = BigInt(0x1000 + i * 0x1000);
        bench.shows(`page ${i}`, bench.load(iova) === first + i * PAGE);
      }
      bench.unmap(domain, 0x1000n, 1024 * PAGE);
      bench.shows('nothing is left', bench.load(0x1000n) === undefined);
    },
  },
];
