// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Prng } from '../../base/prng.ts';
import type { GroupResponseMessage, PageRequestMessage } from '../../pci/ats_messages.ts';
import { SHARING } from './capabilities.ts';
import { FS_ALL, Rig, SID, SS_RW } from './test_rig.ts';

const [PQH, PQT, PQA, PRS, PECTL, PEDATA, PEADDR] = [0xc0, 0xc8, 0xd0, 0xdc, 0xe0, 0xe4, 0xe8];
const [FSTS, PPR, PRO] = [0x34, 1, 2];
const [SUCCESS, INVALID, FAILURE] = [0, 1, 0xf];
const [FIRST, SECOND, NESTED, PASS] = [1, 2, 3, 4];
const ADDRESS = 0x7654_3210_9000n;
/** Present, DTE, PASIDE, PRE. */
const ALL_ON = 0b11101n;

const prefix = (value: number, execute = false, privileged = false) => ({
  ...{ value, execute, privileged },
});
const ask = (more: Partial<PageRequestMessage> = {}): PageRequestMessage => ({
  ...{ pasid: prefix(5), address: ADDRESS, read: true, write: false, last: true, group: 3 },
  ...more,
});

/** A unit with a queue of 4 KiB for page requests, and a function that may ask. */
function start(isScalable = true, more: Partial<typeof SHARING> = {}) {
  const rig = new Rig({ ...SHARING, ...more }, isScalable);
  const queue = rig.page();
  rig.mmio.write64(PQA, BigInt(queue) * 4096n);
  if (isScalable) {
    rig.put(rig.context, SID * 4, BigInt(rig.directory) * 4096n + ALL_ON);
    for (const pasid of [0, 5, 0x3f]) rig.pasid(pasid, PASS);
  }
  let events = 0;
  const message = rig.unit.hardware.irq.request(() => events++);
  rig.mmio.write32(PEDATA, message.data);
  rig.mmio.write32(PEADDR, Number(message.address));
  rig.mmio.write32(PECTL, 0);
  rig.on();
  rig.queueOn();
  const answers: [number, GroupResponseMessage][] = [];
  rig.unit.pageRequests.respond = (sid, answer) => void answers.push([sid, answer]);
  const send = (more: Partial<PageRequestMessage> = {}, sid = SID): void => {
    rig.unit.pageRequests.receive(sid, ask(more));
    rig.sim.settle();
  };
  const words = (index: number): bigint[] =>
    [0, 1, 2, 3].map((word) => rig.get(queue, index * 4 + word));
  const pointers = (): bigint[] => [rig.mmio.read64(PQH), rig.mmio.read64(PQT)];
  const status = (): number => rig.mmio.read32(PRS);
  const respond = (...descriptors: readonly (readonly bigint[])[]): void =>
    rig.submit(...descriptors);
  return { rig, queue, answers, send, words, pointers, status, respond, events: () => events };
}

describe('The queue of page requests', () => {
  it('has a descriptor of 32 bytes for each, with all that was asked', () => {
    const { send, words, pointers, answers } = start();
    send({ last: false });
    send({ pasid: prefix(0x3f, true, true), write: true, group: 0x1ff }, 0xabcd);
    send({ pasid: undefined, read: false, write: true, group: 0 });
    const sid = BigInt(SID) << 16n;
    expect(words(0)).toEqual([0x5_0000_0101n + sid, ADDRESS + 0x19n, 0n, 0n]);
    expect(words(1)).toEqual([sid + 1n, ADDRESS + 6n, 0n, 0n]);
    // 0xabcd has no tables: it is answered instead.
    expect(answers).toEqual([[0xabcd, { group: 0x1ff, pasid: 0x3f, code: INVALID }]]);
    expect(pointers()).toEqual([0n, 64n]);
    send({ pasid: prefix(0x3f, true, true), write: true, group: 0x1ff });
    expect(words(2)).toEqual([0x30_003f_0000_0101n + sid, ADDRESS + 0xfffn, 0n, 0n]);
  });

  it('goes round at its end, and is where PQA says', () => {
    const { rig, send, words, pointers } = start();
    rig.mmio.write64(PQH, 0xfe0n);
    rig.mmio.write64(PQT, 0xfe0n);
    send();
    send({ group: 9 });
    expect(pointers()).toEqual([0xfe0n, 32n]);
    expect([words(127)[1], words(0)[1]]).toEqual([ADDRESS + 0x1dn, ADDRESS + 0x4dn]);
  });

  it('can have more than one page', () => {
    const { rig, send } = start();
    const two = rig.ram.alloc(2) / 2;
    rig.mmio.write64(PQA, BigInt(two) * 4096n + 1n);
    rig.mmio.write64(PQH, 0xfe0n);
    rig.mmio.write64(PQT, 0xfe0n);
    send();
    send();
    expect([rig.get(two, 508), rig.get(two + 1, 0)].map((word) => word & 0xffn)).toEqual([1n, 1n]);
    expect(rig.mmio.read64(PQT)).toBe(0x1020n);
  });

  it('interrupts at the first, and again once software has seen it', () => {
    const { rig, send, status, events } = start();
    send();
    send();
    expect([events(), status()]).toEqual([1, PPR]);
    rig.mmio.write32(PRS, PPR);
    expect(status()).toBe(0);
    send();
    expect(events()).toBe(2);
  });

  it('keeps a masked interrupt pending, and forgets it where software has seen what it was for', () => {
    const { rig, send, events } = start();
    rig.mmio.write32(PECTL, 0x8000_0000);
    send();
    expect([events(), rig.mmio.read32(PECTL)]).toEqual([0, 0xc000_0000]);
    rig.mmio.write32(PECTL, 0);
    rig.sim.settle();
    expect([events(), rig.mmio.read32(PECTL)]).toEqual([1, 0]);
    rig.mmio.write32(PRS, PPR);
    rig.mmio.write32(PECTL, 0x8000_0000);
    send();
    rig.mmio.write32(PRS, PPR);
    expect(rig.mmio.read32(PECTL)).toBe(0x8000_0000);
  });

  it('that is full overflows: what comes then is lost, and the last of a group is told to try again', () => {
    const { rig, send, status, answers, pointers, events } = start();
    for (let i = 0; i < 127; i++) send({ group: i });
    rig.mmio.write32(PRS, PPR);
    expect([answers, status(), pointers()]).toEqual([[], 0, [0n, 0xfe0n]]);
    send({ last: false, group: 200 });
    expect([status(), events(), answers]).toEqual([PRO, 2, []]);
    send({ group: 201 });
    send({ read: false, group: 202 }); // a stop marker: nothing answers it
    expect(answers).toEqual([[SID, { group: 201, pasid: 5, code: SUCCESS }]]);
    // Room alone does not help: software clears the overflow first.
    rig.mmio.write64(PQH, 0xfe0n);
    send({ group: 203 });
    expect([answers.length, pointers()]).toEqual([2, [0xfe0n, 0xfe0n]]);
    rig.mmio.write32(PRS, PRO);
    send({ group: 204 });
    expect([answers.length, pointers(), status()]).toEqual([2, [0xfe0n, 0n], PPR]);
  });

  it('where no memory is, loses them in the same way', () => {
    const { rig, send, status, answers } = start();
    rig.mmio.write64(PQA, 0n);
    send();
    expect([status(), answers]).toEqual([PRO, [[SID, { group: 3, pasid: 5, code: SUCCESS }]]]);
  });

  it('takes stop markers, which nobody answers', () => {
    const { send, words, answers } = start();
    send({ read: false });
    expect(words(0)[1]).toBe(ADDRESS + 0x1cn);
    send({ read: false }, 0x99);
    expect(answers).toEqual([]);
  });

  it.each([
    ['of a first stage: the page', FIRST, [true, false]],
    ['of a second stage: the page of the domain', SECOND, [true, false]],
    ['of both: all of the domain', NESTED, [true, true]],
  ])('makes the unit forget what it kept %s', (_, pgtt, gone) => {
    const { rig, send } = start();
    const [top, ss, target] = [rig.page(), rig.page(), rig.page()];
    rig.map(ss, 4, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
    const table = pgtt === SECOND ? ss : top;
    const entry = BigInt(target) * 4096n + (pgtt === SECOND ? SS_RW : FS_ALL);
    const more = pgtt === SECOND ? {} : { table: FS_ALL };
    const pages = [ADDRESS, ADDRESS + 4096n];
    for (const page of pages) rig.map(table, 4, page, entry, more);
    rig.pasid(5, pgtt, { fs: top, ss });
    rig.unit.invalidation.all();
    const isThere = (): boolean[] => pages.map((page) => rig.dma(page, 0, 5) === target);
    expect(isThere()).toEqual([true, true]);
    for (const page of pages) rig.map(table, 4, page, 0n);
    expect(isThere()).toEqual([true, true]);
    send();
    expect(isThere()).toEqual([!gone[0], !gone[1]]);
  });
});

describe('A page request is refused, answered and recorded', () => {
  /** What came of it: answers, pointers, T1 and T2 of the record, which say that it was a page request, and the record. */
  const outcome = ({ rig, answers, pointers }: ReturnType<typeof start>): unknown => {
    const high = rig.mmio.read64(0x408);
    const kind = [(high >> 62n) & 1n, (high >> 28n) & 1n];
    return { answers, pointers: pointers(), kind, faults: rig.faults() };
  };
  const refused = (reason: number, pasid: number | undefined): unknown => ({
    answers: [[SID, { group: 3, pasid, code: INVALID }]],
    pointers: [0n, 0n],
    kind: [0n, 1n],
    faults: [{ reason, sid: SID, address: ADDRESS, isRead: false, pasid }],
  });

  it.each([
    ['where there is no context entry', 0n, 0x41],
    ['where page requests are off (PRE)', 0b1101n, 0x47],
    ['with PASID where those are off', 0b10101n, 0x45],
  ])('%s', (_, bits, reason) => {
    const at = start();
    at.rig.put(at.rig.context, SID * 4, BigInt(at.rig.directory) * 4096n + bits);
    at.send();
    expect(outcome(at)).toEqual(refused(reason, 5));
  });

  it('without PASID just so', () => {
    const at = start();
    at.rig.put(at.rig.context, SID * 4, BigInt(at.rig.directory) * 4096n + 0b1101n);
    at.send({ pasid: undefined });
    expect(outcome(at)).toEqual(refused(0x47, undefined));
  });

  it('in legacy mode', () => {
    const at = start(false);
    at.rig.legacy(at.rig.page(), { tt: 1 });
    at.send();
    expect(outcome(at)).toEqual(refused(0x32, 5));
  });

  it.each([
    ['beyond the directory', 128 * 64, 0x46],
    ['that stands for requests without', 0, 0x48],
    ['without a table', 64, 0x51],
    ['without an entry', 6, 0x59],
    ['whose entry is wrong', 7, 0x5b],
  ])('with a PASID %s', (_, pasid, reason) => {
    const at = start();
    at.rig.pasid(7, 6);
    at.send({ pasid: prefix(pasid) });
    expect(outcome(at)).toEqual(refused(reason, pasid));
  });

  it('and with FPD not recorded', () => {
    const at = start();
    at.rig.put(at.rig.context, SID * 4, BigInt(at.rig.directory) * 4096n + 0b1111n);
    at.send();
    expect([at.answers.length, at.rig.faults()]).toEqual([1, []]);
  });

  it('while translation is off, without a record', () => {
    const at = start();
    at.rig.mmio.write32(0x18, 0);
    at.send();
    expect(at.answers).toEqual([[SID, { group: 3, pasid: 5, code: INVALID }]]);
    expect(at.rig.faults()).toEqual([]);
  });

  it('and not answered where it is not the last of its group', () => {
    const at = start();
    at.rig.put(at.rig.context, SID * 4, BigInt(at.rig.directory) * 4096n + 0b1101n);
    at.send({ last: false });
    expect([at.answers, at.rig.faults().length]).toEqual([[], 1]);
  });
});

describe('A page group response', () => {
  it.each([
    ['SUCCESS', 0n, SUCCESS],
    ['INVALID', 1n, INVALID],
    ['FAILURE', 15n, FAILURE],
    ['a code that is none, as FAILURE', 7n, FAILURE],
  ])('brings the function %s', (_, code, expected) => {
    const { respond, answers } = start();
    respond([0x5_0000_0019n + (BigInt(SID) << 16n) + (code << 12n), 0x1ffn << 3n]);
    expect(answers).toEqual([[SID, { group: 0x1ff, pasid: 5, code: expected }]]);
  });

  it('without PASID has none, whatever is in its field', () => {
    const { respond, answers } = start();
    respond([0x5_0000_0009n + (BigInt(SID) << 16n), 0n]);
    expect(answers).toEqual([[SID, { group: 0, pasid: undefined, code: SUCCESS }]]);
  });

  it.each([
    ['a reserved bit of word 0', [0x29n, 0n]],
    ['one above the PASID', [0x9n + (1n << 52n), 0n]],
    ['one below the group', [0x9n, 4n >> 1n]],
    ['one above the group', [0x9n, 0x1000n]],
    ['a stream response, which went', [0xan, 0n]],
  ] as const)('with %s is an error of the queue', (what, descriptor) => {
    const { rig, respond, answers } = start();
    respond(descriptor);
    expect([rig.mmio.read32(FSTS), answers]).toEqual([0x10, []]);
    expect(rig.mmio.read64(0xb0)).toBe(what.includes('stream') ? 3n : 4n);
  });

  it('ignores a bit that older software set', () => {
    const { respond, answers } = start();
    respond([0x9n, 4n]);
    expect(answers).toHaveLength(1);
  });

  it('is an unknown kind in legacy mode', () => {
    const { rig, respond } = start(false);
    respond([0x9n, 0n]);
    expect(rig.mmio.read64(0xb0)).toBe(3n);
  });

  it('is an unknown kind where the unit has no page requests', () => {
    const rig = new Rig({ ...SHARING, ecap: { ...SHARING.ecap, PRS: 0 } }, true);
    rig.on();
    rig.queueOn();
    rig.submit([9n, 0n]);
    expect(rig.mmio.read64(0xb0)).toBe(3n);
    rig.mmio.write64(PQA, 0x1000n);
    expect([rig.mmio.read64(PQA), rig.mmio.read32(PECTL)]).toEqual([0n, 0]);
  });

  it('with random bits is an answer or an error, and nothing else', () => {
    const { rig, answers } = start();
    const random = new Prng(3);
    const word = (): bigint => BigInt(random.below(2 ** 32));
    let stopped = 0;
    for (let i = 0; i < 3000; i++) {
      const rest = random.below(2) === 0 ? 0xf_ffff_ffff_f01fn : -1n;
      const descriptor = ((word() << 32n) | word()) & rest & ~0xe0fn;
      const second = random.below(2) === 0 ? word() & 0xff8n : (word() << 32n) | word();
      rig.submit([BigInt.asUintN(64, descriptor) | 9n, second]);
      if (rig.mmio.read32(FSTS) !== 0) {
        stopped++;
        const at = Number(rig.mmio.read64(0x80)) / 8;
        rig.put(rig.queue, at, 0x11n);
        rig.put(rig.queue, at + 1, 0n);
        rig.mmio.write32(FSTS, 0x70);
        rig.sim.settle();
      }
    }
    expect(answers.length).toBeGreaterThan(300);
    expect(stopped).toBe(3000 - answers.length);
  });
});

describe('Private data', () => {
  const DATA = 0xfedc_ba98_7654_3210_0123_4567_89ab_cdefn;
  const [LOW, HIGH] = [DATA % 2n ** 64n, DATA >> 64n];
  const old = { hasPrivateData: true };

  it('is in the descriptor, and back with the answer', () => {
    const { send, words, respond, answers, status } = start(true, old);
    send({ privateData: DATA });
    send({ privateData: 0n });
    send();
    const sid = BigInt(SID) << 16n;
    expect(words(0)).toEqual([0x5_0000_0301n + sid, ADDRESS + 0x1dn, LOW, HIGH]);
    expect(words(1)).toEqual([0x5_0000_0301n + sid, ADDRESS + 0x1dn, 0n, 0n]);
    expect(words(2)).toEqual([0x5_0000_0101n + sid, ADDRESS + 0x1dn, 0n, 0n]);
    respond([0x5_0000_0039n + sid, 3n << 3n, LOW, HIGH], [0x5_0000_0019n + sid, 3n << 3n]);
    expect(answers).toEqual([
      [SID, { group: 3, pasid: 5, code: SUCCESS, privateData: DATA }],
      [SID, { group: 3, pasid: 5, code: SUCCESS }],
    ]);
    expect(status()).toBe(PPR);
  });

  it('comes back where the unit answers itself', () => {
    const { rig, send, answers } = start(true, old);
    rig.mmio.write32(PRS, 0);
    send({ privateData: DATA }, 0xabcd);
    expect(answers).toEqual([[0xabcd, { group: 3, pasid: 5, code: INVALID, privateData: DATA }]]);
  });

  it('is lost, and reserved in answers, where the unit knows none', () => {
    const { rig, send, words, respond, answers } = start();
    send({ privateData: DATA });
    expect(words(0).slice(2)).toEqual([0n, 0n]);
    expect((words(0)[0] ?? 0n) & 0x200n).toBe(0n);
    respond([0x29n, 0n, LOW, HIGH]);
    expect([rig.mmio.read32(FSTS), answers]).toEqual([0x10, []]);
  });
});

describe('A wait', () => {
  const wait = (rig: Rig, bits: bigint): readonly [bigint, bigint] => [
    0x1_0000_0025n + bits,
    BigInt(rig.status) * 4096n,
  ];

  it('that drains page requests is complete when those on their way are in memory', () => {
    const { rig, pointers } = start();
    const { pageRequests } = rig.unit;
    const seen: bigint[] = [];
    for (let i = 0; i < 5; i++) pageRequests.receive(SID, ask({ group: i }));
    rig.sim.spawn('watcher', function* () {
      while (rig.get(rig.status, 0) === 0n) yield 'watching';
      seen.push(pointers()[1] ?? 0n);
    });
    rig.submit(wait(rig, 0x80n));
    expect(seen).toEqual([160n]);
  });

  it('that does not is complete before', () => {
    const { rig, pointers } = start();
    for (let i = 0; i < 5; i++) rig.unit.pageRequests.receive(SID, ask({ group: i }));
    const seen: bigint[] = [];
    rig.sim.spawn('watcher', function* () {
      while (rig.get(rig.status, 0) === 0n) yield 'watching';
      seen.push(pointers()[1] ?? 0n);
    });
    rig.submit(wait(rig, 0n));
    expect(seen[0]).toBeLessThan(160n);
  });

  it('that asks for it is an error where the unit can not', () => {
    const rig = new Rig({ ...SHARING, ecap: { ...SHARING.ecap, PDS: 0 } }, true);
    rig.on();
    rig.queueOn();
    rig.submit(wait(rig, 0x80n));
    expect([rig.mmio.read32(FSTS), rig.mmio.read64(0xb0)]).toEqual([0x10, 4n]);
  });
});
