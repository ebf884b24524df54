// SPDX-License-Identifier: Apache-2.0
import type { UnitName } from './machine.ts';

/** A part of a line, as QEMU says it and as the model does. */
export interface LineDifference {
  readonly qemu: RegExp;
  /** In place of what was found; as a function, of the match and its groups. */
  readonly model: string | ((match: string, ...groups: string[]) => string);
}

/** Bits of 32-bit words of memory that may differ: of the first or the second half of entries of 64 bits. */
export interface MemoryDifference {
  readonly half: 0 | 1;
  readonly bits: number;
}

/** Where a QEMU does otherwise than the specification, and our model. */
export interface KnownDifference {
  readonly why: string;
  /** The first version of QEMU that does so; 11.1 unless told, the first that is driven here. */
  readonly since?: string;
  /** The first that does not any more. */
  readonly until?: string;
  readonly units?: readonly UnitName[];
  /** Of scenarios' names; of all unless told. */
  readonly scenarios?: RegExp;
  readonly lines?: readonly LineDifference[];
  readonly memory?: readonly MemoryDifference[];
}

const SCALABLE: readonly UnitName[] = ['scalable, second stage', 'scalable, first stage'];
const SECOND: readonly UnitName[] = ['scalable, second stage'];
const FIRST: readonly UnitName[] = ['scalable, first stage'];

/** A fault with another reason. */
const reason = (qemu: number, model: number): LineDifference => ({
  qemu: new RegExp(`\\{reason 0x${qemu.toString(16)},`),
  model: `{reason 0x${model.toString(16)},`,
});

/** A refusal by the device, its access and an address of 4 KiB, for where QEMU has none. */
const refusal = (who: string, what: string, iova: string, code: number): string =>
  `${who}: ${what} ${iova}: refused; fault {reason 0x${code.toString(16)}, source ${who === 'edu' ? '0x18' : '0x10'}, ` +
  `pasid none, ${what === 'load' ? 'read' : 'write'}, address 0x${(BigInt(iova) & ~0xfffn).toString(16)}}`;

/** What should be refused is done: a load of the page at 0x1000. */
const notLookedAt = (
  why: string,
  scenarios: RegExp,
  code: number,
  units: readonly UnitName[] = SCALABLE,
): KnownDifference => ({
  why,
  units,
  scenarios,
  lines: [
    {
      qemu: /^(edu): (load) (0x1000): done$/,
      model: (_, who = '', what = '', iova = '') => refusal(who, what, iova, code),
    },
    { qemu: /^NOT SO: it is refused$/, model: 'so it is: it is refused' },
  ],
});

/** One that no longer occurs is reported, and fails the run: it is to be taken out, or told until when it was so. */
export const knownDifferences: readonly KnownDifference[] = [
  {
    why: 'root and context entries are refused with the reasons of legacy mode, in scalable mode too',
    units: SCALABLE,
    lines: [
      reason(0x01, 0x39),
      reason(0x02, 0x41),
      reason(0x08, 0x38),
      reason(0x09, 0x40),
      reason(0x0a, 0x3a),
      reason(0x0b, 0x42),
    ],
  },
  {
    why: 'second stages are refused with the reasons of legacy mode, in scalable mode too',
    units: SECOND,
    lines: [
      // Not present, or present without the permission: one reason for both.
      reason(0x05, 0x79),
      reason(0x05, 0x85),
      reason(0x06, 0x79),
      reason(0x06, 0x86),
      reason(0x04, 0x84),
      reason(0x07, 0x78),
      reason(0x0c, 0x7a),
    ],
  },
  {
    why: 'a top table of a second stage that cannot be read has the reason of legacy mode (0x3), in scalable mode too',
    units: SECOND,
    scenarios: /^refused: the top table is nowhere/,
    lines: [reason(0x03, 0x7b)],
  },
  {
    why: 'fault records have bits of the address above the widest table, which the hardware has not',
    lines: [
      {
        qemu: /reason (0x[0-9a-f]+), (.*), address (0x[0-9a-f]{13,})\}/,
        model: (_, code = '', what = '', address = '') =>
          `reason ${code}, ${what}, address 0x${BigInt.asUintN(48, BigInt(address)).toString(16)}}`,
      },
    ],
  },
  {
    why: 'the addresses of interrupts, which only are written to, are read like any other',
    scenarios: /^the addresses of interrupts/,
    lines: [0x0e, 0x87].map((code) => ({
      qemu: /^(edu): (load) (0xfee00010): done$/,
      model: (_, who = '', what = '', iova = '') => refusal(who, what, iova, code),
    })),
  },
  {
    why: 'the type of a PASID entry is looked at before its present bit: one of zeroes is invalid (0x5b), not absent (0x59)',
    units: SCALABLE,
    lines: [reason(0x5b, 0x59)],
  },
  {
    why: 'an access that a cached entry does not allow is refused, but not recorded as a fault',
    lines: [
      {
        qemu: /^(edu|test): (load|store) (0x[0-9a-f]+): refused$/,
        model: (_, who = '', what = '', iova = '') => refusal(who, what, iova, 0x85),
      },
      {
        qemu: /^(edu|test): (load|store) (0x[0-9a-f]+): refused$/,
        model: (_, who = '', what = '', iova = '') => refusal(who, what, iova, 0x05),
      },
    ],
  },
  {
    why: 'a queue that stood still goes on when its tail is next written, not when the error is cleared',
    scenarios: /^queue: a descriptor/,
    lines: [
      {
        qemu: /queue head (0x[0-9a-f]+), tail (0x[0-9a-f]+); FSTS 0x0$/,
        model: (_, _head, tail = '') => `queue head ${tail}, tail ${tail}; FSTS 0x0`,
      },
    ],
  },
  {
    why: 'pass-through that ends by a PASID entry goes on until a context entry is invalidated',
    units: SCALABLE,
    scenarios: /^pass-through ends/,
    lines: [
      {
        qemu: /^(edu): (load) (0x[0-9a-f]+): done$/,
        model: (_, who = '', what = '', iova = '') => refusal(who, what, iova, 0x59),
      },
    ],
  },
  {
    why: 'PASID entries are not cached: each walk of a table reads them from memory',
    units: SCALABLE,
    scenarios: /^stale: a PASID entry/,
    lines: [
      {
        qemu: /^(edu): (load) (0x9000): done, page 1$/,
        model: (_, who = '', what = '', iova = '') => refusal(who, what, iova, 0x79),
      },
      {
        qemu: /^(edu): (load) (0x9000): done, page 1$/,
        model: (_, who = '', what = '', iova = '') => refusal(who, what, iova, 0x71),
      },
      { qemu: /^NOT SO: the stale entry/, model: 'so it is: the stale entry' },
    ],
  },
  notLookedAt(
    'reserved bits of PASID directory entries are not looked at',
    /^refused: reserved bits of the PASID directory entry/,
    0x52,
  ),
  notLookedAt(
    'reserved bits of PASID entries, and fields that need a feature which is not there, are not looked at',
    /^refused: (reserved bits of the PASID entry|more reserved bits|the last words|walks that snoop|forced snooping|supervisor req|dirty bits)/,
    0x5a,
  ),
  notLookedAt(
    'scalable context entries: RID_PASID without ECAP.RPS and PASIDs without ECAP.PASID are taken',
    /^refused: (a PASID for requests without|PASIDs, where)/,
    0x42,
  ),
  notLookedAt(
    'scalable context entries: device IOTLBs without ECAP.DT and page requests without ECAP.PRS are taken',
    /^refused: (a device IOTLB|page requests), where/,
    0x42,
  ),
  notLookedAt(
    'scalable mode: the snoop bit of second-stage entries is taken without ECAP.SC (in legacy mode it is refused)',
    /^refused: snooping of a page/,
    0x7a,
    SECOND,
  ),
  {
    why: 'accessed and dirty bits of a first stage are written although its walk does not snoop (0x90)',
    units: FIRST,
    scenarios: /^accessed and dirty bits/,
    lines: [
      {
        qemu: /^(edu|test): (load|store) (0x[0-9a-f]+): done, page \d$/,
        model: (_, who = '', what = '', iova = '') => refusal(who, what, iova, 0x90),
      },
      { qemu: /^after (.*): 0x[246]0$/, model: (_, what = '') => `after ${what}: 0x0` },
    ],
    memory: [{ half: 0, bits: 0x60 }],
  },
];
