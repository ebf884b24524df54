// SPDX-License-Identifier: Apache-2.0
import type { Rig, RigOptions } from './rig.ts';

/** The rules of the requirements that an IOMMU, its driver and core can keep or break: chapters A, B and C. */
export const RULES = [
  ...(['A1', 'A2', 'A3', 'A4'] as const),
  ...(['B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7', 'B8', 'B9', 'B10', 'B11'] as const),
  ...(['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'C7', 'C8', 'C9', 'C10', 'C11'] as const),
  ...(['C12', 'C13', 'C14'] as const),
] as const;
export type Rule = (typeof RULES)[number];

/**
 * What the rules are tested on: the test driver's IOMMU, which is Linux's selftest; one that only maps, with devices on PCI; and Intel VT-d,
 * model and driver, with the same devices.
 */
export const HARDWARES = ['mock', 'paging', 'vtd'] as const;
export type Hardware = (typeof HARDWARES)[number];

/** One thing that a rule says. */
export interface RuleTest {
  /** As a sentence, behind the rule and the hardware. */
  readonly says: string;
  /** Where it is tested; on all unless told. */
  readonly on?: readonly Hardware[];
  /** `make` makes a machine of the hardware under test, once or more often. */
  check(make: (options?: RigOptions) => Rig): void;
}

/** The tests of a chapter. */
export type Chapter<R extends Rule> = Readonly<Record<R, readonly RuleTest[]>>;

/** Rules that mean nothing on one hardware: in README.md with the same words. */
export const EXCEPTIONS: readonly {
  readonly rule: Rule;
  readonly hardware: Hardware;
  readonly why: string;
}[] = [
  { rule: 'A3', hardware: 'mock', why: 'every device of the test driver can fault' },
  {
    rule: 'B10',
    hardware: 'mock',
    why: 'the test driver keeps no tables of PASIDs, so there is nothing that devices could share',
  },
  { rule: 'B11', hardware: 'mock', why: 'the test driver has no SVA' },
];
