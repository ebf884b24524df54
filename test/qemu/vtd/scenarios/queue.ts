// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../../../../src/base/errno.ts';
import { allContexts, allIotlb, waitAndWrite } from '../../../../src/drivers/intel/descriptors.ts';
import { FRAME_SIZE } from '../../../../src/memory/frame.ts';
import { type Bench, hex } from '../bench.ts';
import { EACH_MODE, type Scenario, SECOND_STAGE } from '../scenario.ts';

const [FSTS, FECTL, IECTL, IEDATA, IEADDR, IEUADDR, ICS] = [
  0x34, 0x38, 0xa0, 0xa4, 0xa8, 0xac, 0x9c,
];
const [CAP, ECAP, GCMD, GSTS, RTADDR, CCMD, FEDATA] = [0x08, 0x10, 0x18, 0x1c, 0x20, 0x28, 0x3c];
const [IQH, IQT, IQA] = [0x80, 0x88, 0x90];
const MASKED = 0x8000_0000;
const PAGE = 2;

/** Descriptors that no hardware takes, or that QEMU's does not: words 0 to 3. */
const wrongDescriptors: readonly (readonly [what: string, words: readonly number[]])[] = [
  ['of type 0', [0]],
  ['of type 15', [0xf]],
  ['context, no granularity', [1]],
  ['context, reserved bits', [1 | (1 << 4), 0, 1]],
  ['IOTLB, no granularity', [2]],
  ['IOTLB, reserved bits', [2 | (1 << 4) | (1 << 8)]],
  ['IOTLB, more pages than there can be', [2 | (3 << 4) | (2 << 16), 0, 0x3f]],
  ['wait, reserved bits', [5 | (1 << 5), 0, 1]],
];

function refuse(bench: Bench, what: string, words: readonly number[]): void {
  const rc = bench.invalidate((at) => {
    at.fill(0);
    at.set(words);
  });
  bench.say(`${what}: ${rc}`);
  bench.shows('it is refused', rc === -Errno.EINVAL);
  bench.sayRegisters();
  const next = bench.invalidate((at) => allIotlb(at, bench.unit.drains));
  bench.shows('the queue goes on', next === 0);
  bench.sayRegisters();
}

/** The invalidation queue, and interrupts. */
export const queue: readonly Scenario[] = [
  ...wrongDescriptors.map(([what, words]): Scenario => {
    const units = EACH_MODE;
    return {
      name: `queue: a descriptor ${what}`,
      units,
      run: (bench) => refuse(bench, what, words),
    };
  }),
  {
    name: 'queue: many times round',
    units: EACH_MODE,
    run(bench) {
      for (let i = 0; i < 300; i++) {
        const rc = bench.invalidate(i % 2 ? allContexts : (at) => allIotlb(at, bench.unit.drains));
        if (rc !== 0) bench.shows(`submission ${i} is carried out`, false);
        if (i % 50 === 0) bench.sayRegisters();
      }
      bench.sayRegisters();
    },
  },
  {
    name: 'queue: a wait writes its word where it is told',
    units: EACH_MODE,
    run(bench) {
      const page = bench.page();
      const address = page * FRAME_SIZE + 0x128;
      bench.invalidate((at) => waitAndWrite(at, 0xcafe_f00d, address, 0));
      const word = bench.tables.read(BigInt(address));
      bench.say(`there is ${hex(word)}`);
      bench.shows('the word is there', (word & 0xffff_ffffn) === 0xcafe_f00dn);
    },
  },
  {
    name: 'queue: a wait interrupts',
    units: EACH_MODE,
    run(bench) {
      const { mmio, irq } = bench.hardware;
      let interrupts = 0;
      const message = irq.request(() => interrupts++);
      mmio.write32(IEDATA, message.data);
      mmio.write32(IEADDR, Number(message.address & 0xffff_ffffn));
      mmio.write32(IEUADDR, 0);
      const wait = (): void => void bench.invalidate((at) => at.fill(0).set([5 | (1 << 4)]));
      const say = (): void =>
        bench.say(
          `${interrupts} interrupts; ICS ${hex(mmio.read32(ICS))}, IECTL ${hex(mmio.read32(IECTL))}`,
        );
      mmio.write32(IECTL, MASKED);
      wait();
      say();
      bench.shows('none comes while it is masked', interrupts === 0);
      mmio.write32(IECTL, 0);
      say();
      bench.shows('it comes when it is not', interrupts === 1);
      wait();
      say();
      bench.shows('none while the state is not cleared', interrupts === 1);
      mmio.write32(ICS, 1);
      wait();
      say();
      bench.shows('another when it is', interrupts === 2);
      irq.release(message);
    },
  },
  {
    name: 'a reset',
    units: EACH_MODE,
    run(bench) {
      const { mmio } = bench.hardware;
      bench.attach(bench.test, bench.paging());
      bench.store(bench.test, 0x1000n);
      bench.hardware.reset();
      for (const at of [GSTS, FSTS, FECTL, FEDATA, ICS, IECTL]) {
        bench.say(`register ${hex(at)}: ${hex(mmio.read32(at))}`);
      }
      for (const at of [CAP, ECAP, RTADDR, IQH, IQT, IQA]) {
        bench.say(`register ${hex(at)}: ${hex(mmio.read64(at))}`);
      }
      const page = bench.page();
      const address = BigInt(page * FRAME_SIZE);
      bench.shows('addresses are physical', bench.store(bench.test, address) === page);
    },
    leavesUnit: true,
  },
  {
    name: 'caches are invalidated by registers',
    units: ['legacy'],
    run(bench) {
      const { mmio } = bench.hardware;
      const domain = bench.paging();
      bench.attach(bench.edu, domain);
      const [old, next] = [bench.page(), bench.page()];
      bench.map(domain, 0x1000n, old, PAGE);
      bench.shows('it is reached', bench.load(0x1000n) === old);
      const { tables } = bench;
      const at = tables.page(bench.edu.requester.sourceId, 0x1000n, 0);
      tables.write(at, BigInt(next * FRAME_SIZE) | 3n);
      // Registers work while the queue is off.
      mmio.write32(GCMD, (mmio.read32(GSTS) & 0x8300_0000) >>> 0);
      bench.shows('the stale entry is used', bench.load(0x1000n) === old);
      mmio.write64(CCMD, (1n << 63n) | (1n << 61n));
      bench.say(`CCMD ${hex(mmio.read64(CCMD))}`);
      const iotlb = Number((mmio.read64(ECAP) >> 8n) & 0x3ffn) * 16 + 8;
      mmio.write64(iotlb, (1n << 63n) | (1n << 60n));
      bench.say(`IOTLB ${hex(mmio.read64(iotlb))}`);
      bench.shows('it is gone', bench.load(0x1000n) === next);
      mmio.write64(IQT, 0n);
      mmio.write32(GCMD, ((mmio.read32(GSTS) & 0x8300_0000) | 0x0400_0000) >>> 0);
    },
    leavesUnit: true,
  },
  {
    name: 'faults: masked, then not',
    units: EACH_MODE,
    run(bench) {
      const { mmio } = bench.hardware;
      mmio.write32(FECTL, MASKED);
      bench.probe(0x1000n);
      bench.say(`FSTS ${hex(mmio.read32(FSTS))}, FECTL ${hex(mmio.read32(FECTL))}`);
      mmio.write32(FECTL, 0);
      const faults = bench.takeFaults();
      bench.say(faults.join('; '));
      bench.shows('it is told when it is not masked', faults.length === 1);
      bench.say(`FSTS ${hex(mmio.read32(FSTS))}, FECTL ${hex(mmio.read32(FECTL))}`);
    },
  },
  {
    name: 'faults: more than there is room for',
    units: EACH_MODE,
    run(bench) {
      const { mmio } = bench.hardware;
      bench.attach(bench.edu, bench.paging());
      mmio.write32(FECTL, MASKED);
      bench.probe(0x1000n);
      bench.store(bench.test, 0x2000n);
      bench.probe(0x3000n);
      bench.say(`FSTS ${hex(mmio.read32(FSTS))}, FECTL ${hex(mmio.read32(FECTL))}`);
      mmio.write32(FECTL, 0);
      const faults = bench.takeFaults();
      bench.say(faults.join('; '));
      bench.shows('the first is told', (faults[0] ?? '').includes('address 0x1000'));
      bench.shows('and that there were more', faults.includes('some were lost'));
      bench.say(`FSTS ${hex(mmio.read32(FSTS))}`);
      bench.probe(0x4000n);
    },
  },
  {
    name: 'faults: of one device, while one is recorded',
    units: EACH_MODE,
    run(bench) {
      const { mmio } = bench.hardware;
      mmio.write32(FECTL, MASKED);
      bench.probe(0x1000n);
      bench.probe(0x2000n);
      bench.say(`FSTS ${hex(mmio.read32(FSTS))}`);
      mmio.write32(FECTL, 0);
      const faults = bench.takeFaults();
      bench.say(faults.join('; '));
      bench.shows('the first is told', (faults[0] ?? '').includes('address 0x1000'));
    },
  },
  {
    name: 'faults: two devices',
    units: SECOND_STAGE,
    run(bench) {
      bench.attach(bench.edu, bench.paging());
      bench.store(bench.test, 0x1000n);
      bench.probe(0x2000n);
      bench.map(bench.paging(), 0x1000n, bench.page(), PAGE);
      bench.store(bench.test, 0x3000n);
    },
  },
];
