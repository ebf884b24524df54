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
  /** Versions of QEMU, as they begin: `11.1`. */
  readonly versions: readonly string[];
  readonly units?: readonly UnitName[];
  /** Of scenarios' names; of all unless told. */
  readonly scenarios?: RegExp;
  readonly lines?: readonly LineDifference[];
  readonly memory?: readonly MemoryDifference[];
}

const SCALABLE: readonly UnitName[] = ['scalable, second stage', 'scalable, first stage'];

/** One that no longer occurs is reported, and fails the run: it is to be taken out, or its versions narrowed. */
export const knownDifferences: readonly KnownDifference[] = [
  {
    why: 'PASID entries are not cached: each walk of a table reads them from memory',
    versions: ['11.1'],
    units: SCALABLE,
    scenarios: /^stale: a PASID entry/,
    lines: [
      {
        qemu: /load 0x9000: done, page 1$/,
        model:
          'load 0x9000: refused; fault {reason 0x79, source 0x18, pasid none, read, address 0x9000}',
      },
      { qemu: /^NOT SO: the stale entry/, model: 'so it is: the stale entry' },
    ],
  },
  {
    why: 'reserved bits of PASID directory entries are not looked at',
    versions: ['11.1'],
    units: SCALABLE,
    scenarios: /^refused: reserved bits of the PASID directory entry/,
    lines: [
      {
        qemu: /load 0x1000: done$/,
        model:
          'load 0x1000: refused; fault {reason 0x52, source 0x18, pasid none, read, address 0x1000}',
      },
      { qemu: /^NOT SO: it is refused/, model: 'so it is: it is refused' },
    ],
  },
];
