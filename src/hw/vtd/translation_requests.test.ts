// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { decodeEntry } from '../../pci/ats_entry.ts';
import type { PasidPrefix, TranslationCompletion } from '../../pci/ats_messages.ts';
import { Access } from './access.ts';
import { LEGACY, SHARING, type VtdDescription } from './capabilities.ts';
import { FS_ALL, Rig, SID, SS_RW } from './test_rig.ts';

const ADDRESS = 0x1234_5000n;
const TARGET = 0x10_2345;
const [FIRST, SECOND, NESTED, PASS] = [1, 2, 3, 4];
const [FS_A, FS_D] = [0x20n, 0x40n];
const [SRE, ERE, WPE] = [1n, 2n, 0x10n];
const XD = 1n << 63n;
const at = (page: number): bigint => BigInt(page) * 4096n;
const LEGACY_ATS: VtdDescription = { ...LEGACY, ecap: { ...LEGACY.ecap, DT: 1 } };

const prefix = (value: number, more: Partial<PasidPrefix> = {}): PasidPrefix => ({
  ...{ value, execute: false, privileged: false },
  ...more,
});

function ask(
  rig: Rig,
  pasid?: PasidPrefix,
  { address = ADDRESS, noWrite = false, sid = SID } = {},
): string {
  return inWords(rig.unit.requestTranslation(sid, { pasid, iova: address, noWrite }));
}

/** `0x102345000 4K rw`; with x and p where those are granted. */
function inWords(answer: TranslationCompletion): string {
  if (answer.status !== 'SUCCESS') return answer.status;
  const { start, sizeLg2, read, write, execute, privileged, untranslatedOnly } = decodeEntry(
    answer.entry,
  );
  if (!read && !write) return 'nothing';
  if (untranslatedOnly) return `untranslated ${read ? 'r' : ''}${write ? 'w' : ''}`;
  const rights = `${read ? 'r' : ''}${write ? 'w' : ''}${execute ? 'x' : ''}${privileged ? 'p' : ''}`;
  return `0x${start.toString(16)} 2^${sizeLg2} ${rights}`;
}

/** The top table of PASID 5's first stage. */
const topOf = (rig: Rig): number => Number(rig.get(rig.pasids, 42) >> 12n);

/** A first stage at PASID 5 and for plain requests, with one entry at ADDRESS; the entry's place. */
function first(entry: bigint, { level = 0, bits2 = 0n, pgtt = FIRST } = {}) {
  const rig = new Rig({ ...SHARING, haw: 46 }, true);
  const fs = rig.page();
  const ss = rig.page();
  const place = rig.map(fs, 4, ADDRESS, entry, { level, table: FS_ALL });
  rig.map(ss, 4, 1n << 32n, (1n << 32n) + SS_RW + 0x80n, { level: 2 });
  for (const pasid of [0, 5]) rig.pasid(pasid, pgtt, { fs, ss, bits2 });
  rig.on();
  return { rig, held: () => rig.get(...place), clear: () => rig.put(...place, 0n) };
}

describe('A translation request', () => {
  it('gets the page with what it allows, of the table of its PASID or of plain requests', () => {
    const { rig } = first(at(TARGET) + FS_ALL);
    rig.pasid(6, SECOND, { ss: rig.page() });
    expect(ask(rig)).toBe('0x102345000 2^12 rw');
    expect(ask(rig, prefix(5))).toBe('0x102345000 2^12 rw');
    expect(ask(rig, prefix(6))).toBe('nothing');
    expect(rig.faults()).toEqual([]);
  });

  it.each([
    ['a first stage', FIRST, 1, 0x87n, '0x102200000 2^21 rw'],
    ['a first stage', FIRST, 2, 0x87n, '0x100000000 2^30 rw'],
    ['both stages', NESTED, 1, 0x87n, '0x102200000 2^21 rw'],
  ])('gets a large page whole: %s', (_, pgtt, level, bits, expected) => {
    const size = 512 ** level;
    const { rig } = first(at(TARGET - (TARGET % size)) + bits, { level, pgtt });
    expect(ask(rig)).toBe(expected);
    expect(ask(rig)).toBe(expected); // out of the IOTLB
  });

  it('gets no more of both stages than the smaller page', () => {
    const { rig } = first(at(TARGET - (TARGET % 512)) + 0x87n, { level: 1, pgtt: NESTED });
    const ss = rig.page();
    const base = rig.page() - (rig.page() % 512);
    for (let i = 0; i < 512; i++) rig.map(ss, 4, at(base + i), at(base + i) + SS_RW);
    const page = TARGET - (TARGET % 512) + Number((ADDRESS >> 12n) & 511n);
    rig.map(ss, 4, at(page), at(0x10_7777) + SS_RW);
    const fs = rig.page();
    rig.map(fs, 4, ADDRESS, at(TARGET - (TARGET % 512)) + 0x87n, { level: 1, table: FS_ALL });
    rig.pasid(7, NESTED, { fs, ss });
    expect(ask(rig, prefix(7))).toBe('0x107777000 2^12 rw');
  });

  it('of a second stage, and of pages that are passed through', () => {
    const rig = new Rig(SHARING, true);
    const ss = rig.page();
    rig.map(ss, 4, ADDRESS, at(TARGET) + 1n);
    rig.map(ss, 4, ADDRESS + 4096n, at(TARGET) + 2n);
    rig.pasid(5, SECOND, { ss });
    rig.pasid(6, PASS);
    rig.on();
    expect(ask(rig, prefix(5))).toBe('0x102345000 2^12 r');
    expect(ask(rig, prefix(5), { address: ADDRESS + 4096n })).toBe('0x102345000 2^12 w');
    expect(ask(rig, prefix(6))).toBe('0x12345000 2^12 rw');
    expect(ask(rig, prefix(6), { address: 2n ** 52n })).toBe('nothing');
  });

  it('of legacy mode, where the context entry says so (TT 1)', () => {
    const rig = new Rig(LEGACY_ATS);
    const ss = rig.page();
    rig.map(ss, 4, ADDRESS, at(TARGET) + SS_RW);
    rig.legacy(ss, { tt: 1 });
    rig.legacy(ss, { tt: 0, sid: 0x11 });
    rig.legacy(ss, { tt: 2, sid: 0x12 });
    rig.on();
    expect(ask(rig)).toBe('0x102345000 2^12 rw');
    for (const sid of [0x11, 0x13])
      expect(ask(rig, undefined, { sid })).toBe('UNSUPPORTED_REQUEST');
    expect(ask(rig, prefix(5))).toBe('UNSUPPORTED_REQUEST');
    expect(rig.faults().map(({ reason, sid }) => [sid, reason])).toEqual([
      [0x11, 0xd],
      [0x13, 2],
      [SID, 0x31],
    ]);
  });

  it('marks the page as accesses would: dirty, unless it does not mean to write', () => {
    const { rig, held } = first(at(TARGET) + 7n);
    expect(ask(rig, undefined, { noWrite: true })).toBe('0x102345000 2^12 r');
    expect(held() & (FS_A | FS_D)).toBe(FS_A);
    expect(ask(rig)).toBe('0x102345000 2^12 rw');
    expect(held() & (FS_A | FS_D)).toBe(FS_A | FS_D);
  });

  it.each([
    ['what is not there', 0n, {}, 'nothing'],
    ['a write to what can only be read', at(TARGET) + 5n, {}, '0x102345000 2^12 r'],
    ["a supervisor's page", at(TARGET) + 3n, {}, 'nothing'],
    ['execution', at(TARGET) + 7n, { execute: true }, '0x102345000 2^12 rwx'],
    [
      'execution where the page forbids it',
      at(TARGET) + 7n + XD,
      { execute: true },
      '0x102345000 2^12 rw',
    ],
    ['nothing beyond', at(TARGET) + 7n + XD, {}, '0x102345000 2^12 rw'],
    [
      "a supervisor's page for supervisors",
      at(TARGET) + 3n,
      { privileged: true },
      '0x102345000 2^12 rwp',
    ],
    [
      'one that only reads for supervisors',
      at(TARGET) + 1n,
      { privileged: true },
      '0x102345000 2^12 rp',
    ],
  ])('allows what the first stage does: %s', (_, entry, more, expected) => {
    const { rig } = first(entry, { bits2: SRE + ERE + WPE });
    expect(ask(rig, prefix(5, more))).toBe(expected);
    expect(rig.faults()).toEqual([]);
  });

  it('of a supervisor, or to execute, gets nothing more where the PASID has neither', () => {
    const { rig } = first(at(TARGET) + 7n);
    expect(ask(rig, prefix(5, { execute: true }))).toBe('0x102345000 2^12 rw');
    expect(ask(rig, prefix(5, { privileged: true }))).toBe('nothing');
    expect(rig.faults()).toEqual([]);
  });

  it('is unsupported while translation is off', () => {
    const { rig } = first(at(TARGET) + 7n);
    rig.mmio.write32(0x18, 0);
    expect(ask(rig)).toBe('UNSUPPORTED_REQUEST');
    expect(rig.faults()).toEqual([]);
  });

  const entry = (rig: Rig, bits: bigint): void =>
    rig.put(rig.context, SID * 4, at(rig.directory) + bits);
  it.each([
    ['the context entry is absent', 0x41, 'UNSUPPORTED_REQUEST', (rig: Rig) => entry(rig, 0n)],
    ['it does not allow it (DTE)', 0x44, 'UNSUPPORTED_REQUEST', (rig: Rig) => entry(rig, 9n)],
    ['it has no PASIDs', 0x45, 'UNSUPPORTED_REQUEST', (rig: Rig) => entry(rig, 5n)],
    ['it is wrong', 0x42, 'COMPLETER_ABORT', (rig: Rig) => entry(rig, 0x2dn)],
    ['its entry is wrong', 0x5b, 'COMPLETER_ABORT', (rig: Rig) => rig.pasid(5, 6)],
  ] as const)('is refused and recorded where %s', (_, reason, status, arrange) => {
    const { rig } = first(at(TARGET) + 7n);
    arrange(rig);
    expect(ask(rig, prefix(5))).toBe(status);
    // AT of the record: a translation request.
    expect((rig.mmio.read64(0x408) >> 60n) & 3n).toBe(1n);
    expect(rig.faults()).toEqual([{ reason, sid: SID, address: ADDRESS, isRead: true, pasid: 5 }]);
    entry(rig, 0b1111n);
    rig.unit.invalidation.all();
    ask(rig, prefix(5));
    expect(rig.faults()).toEqual([]); // FPD
  });

  it.each([
    ['the directory lacks it', (rig: Rig) => rig.put(rig.directory, 0, 0n)],
    ['its entry is absent', (rig: Rig) => rig.put(rig.pasids, 40, 0n)],
    ['its table is where no memory is', (rig: Rig) => rig.pasid(5, FIRST, { fs: 1 })],
    [
      'a table has reserved bits',
      (rig: Rig) => void rig.map(topOf(rig), 4, ADDRESS, 2n ** 51n + 7n),
    ],
  ])('gets nothing, and nothing is recorded, where %s', (_, arrange) => {
    const { rig } = first(at(TARGET) + 7n);
    arrange(rig);
    expect(ask(rig, prefix(5))).toBe('nothing');
    expect(rig.faults()).toEqual([]);
  });

  it('of a second stage is refused and recorded where that is wrong', () => {
    const rig = new Rig({ ...SHARING, haw: 46 }, true);
    const ss = rig.page();
    rig.map(ss, 4, ADDRESS, (1n << 47n) + SS_RW);
    rig.pasid(5, SECOND, { ss });
    rig.pasid(6, SECOND, { ss: 1, did: 8 });
    rig.on();
    expect([ask(rig, prefix(5)), ask(rig, prefix(6))]).toEqual([
      'COMPLETER_ABORT',
      'COMPLETER_ABORT',
    ]);
    expect(rig.faults().map(({ reason }) => reason)).toEqual([0x7a, 0x7b]);
  });

  it('of the addresses of interrupts may write there, untranslated, and is no fault', () => {
    const { rig } = first(at(TARGET) + 7n);
    const address = 0xfee0_1000n;
    expect(ask(rig, undefined, { address })).toBe('untranslated w');
    expect(ask(rig, undefined, { address, noWrite: true })).toBe('nothing');
    expect(ask(rig, prefix(5), { address })).toBe('nothing'); // an address like others
    expect(rig.faults()).toEqual([]);
  });

  it('is refused and recorded where its page leads to the addresses of interrupts', () => {
    const { rig } = first(0xfee0_1007n);
    expect(ask(rig)).toBe('COMPLETER_ABORT');
    expect(rig.faults().map(({ reason }) => reason)).toEqual([0x87]);
  });

  it('leaves in the IOTLB what accesses find there', () => {
    const { rig, held, clear } = first(at(TARGET) + 7n);
    ask(rig);
    expect(held()).toBe(at(TARGET) + 0x67n);
    clear();
    expect(rig.dma(ADDRESS, Access.WRITE)).toBe(TARGET);
  });
});

describe('A translated request', () => {
  const { TRANSLATED, WRITE } = Access;
  it('passes where device TLBs are allowed, whatever the tables say', () => {
    const { rig } = first(0n);
    expect(rig.dma(0x1_0234_5678n, TRANSLATED)).toBe(0x10_2345);
    rig.put(rig.pasids, 0, 0n);
    rig.unit.invalidation.all();
    expect(rig.dma(0x1_0234_5678n, TRANSLATED | WRITE)).toBe(0x10_2345);
    expect(rig.faults()).toEqual([]);
  });

  it.each([
    ['device TLBs are not allowed', 9n, 0x1_0000_0000n, 0x44],
    ['there is no context entry', 0n, 0x1_0000_0000n, 0x41],
    ['the address is beyond the hardware', 13n, 2n ** 52n, 0x83],
    ['the address is of interrupts', 13n, 0xfee0_1000n, 0x87],
  ])('is refused and recorded where %s', (_, bits, address, reason) => {
    const { rig } = first(0n);
    rig.put(rig.context, SID * 4, at(rig.directory) + bits);
    expect(rig.dma(address, TRANSLATED | WRITE)).toBe(-reason);
    expect((rig.mmio.read64(0x408) >> 60n) & 3n).toBe(2n);
    expect(rig.faults()).toEqual([{ reason, sid: SID, address, isRead: false, pasid: undefined }]);
  });

  it('is refused in legacy mode but for TT 1', () => {
    const rig = new Rig(LEGACY_ATS);
    rig.legacy(rig.page(), { tt: 1 });
    rig.legacy(rig.page(), { tt: 0, sid: 0x11 });
    rig.on();
    expect(rig.dma(0x1_0234_5000n, TRANSLATED)).toBe(0x10_2345);
    expect(rig.dma(0x1_0234_5000n, TRANSLATED, -1, 0x11)).toBe(-0xd);
  });
});
