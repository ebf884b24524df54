// SPDX-License-Identifier: Apache-2.0
/**
 * The entries of the hardware's tables as fields by name, a word of 64 bits each, for people. The model itself reads bits by hand
 * (`bindings.ts`, `walker.ts`). VTD-5.10 §9.1 to VTD-5.10 §9.8; ERE, NXE and XD are of revisions before 4.1.
 */
import { field, register } from '../../base/register.ts';

export const ROOT = register('root entry', { P: field(0, 0), CTP: field(63, 12) }, { bits: 64 });

export const CONTEXT_LOW = register(
  'context entry',
  { P: field(0, 0), FPD: field(1, 1), TT: field(3, 2), SSPTPTR: field(63, 12) },
  { bits: 64 },
);
export const CONTEXT_HIGH = register(
  'context entry, high',
  { AW: field(2, 0), DID: field(23, 8) },
  { bits: 64 },
);

export const SCALABLE_CONTEXT_LOW = register(
  'context entry',
  {
    ...{
      P: field(0, 0),
      FPD: field(1, 1),
      DTE: field(2, 2),
      PASIDE: field(3, 3),
      PRE: field(4, 4),
    },
    ...{ PDTS: field(11, 9), PASIDDIRPTR: field(63, 12) },
  },
  { bits: 64 },
);
export const SCALABLE_CONTEXT_HIGH = register(
  'context entry, high',
  { RID_PASID: field(19, 0), RID_PRIV: field(20, 20) },
  { bits: 64 },
);

export const PASID_DIRECTORY = register(
  'PASID directory entry',
  { P: field(0, 0), FPD: field(1, 1), SMPTBLPTR: field(63, 12) },
  { bits: 64 },
);

/** Words 0 to 2 of a PASID table entry. */
export const PASID_WORDS = [
  register(
    'PASID entry',
    {
      ...{ P: field(0, 0), FPD: field(1, 1), AW: field(4, 2), PGTT: field(8, 6) },
      ...{ SSADE: field(9, 9), SSPTPTR: field(63, 12) },
    },
    { bits: 64 },
  ),
  register(
    'PASID entry, word 1',
    { DID: field(15, 0), PWSNP: field(23, 23), PGSNP: field(24, 24) },
    { bits: 64 },
  ),
  register(
    'PASID entry, word 2',
    {
      ...{ SRE: field(0, 0), ERE: field(1, 1), FSPM: field(3, 2), WPE: field(4, 4) },
      ...{ NXE: field(5, 5), EAFE: field(7, 7), FSPTPTR: field(63, 12) },
    },
    { bits: 64 },
  ),
] as const;

export const SECOND_STAGE = register(
  'second stage',
  {
    ...{
      R: field(0, 0),
      W: field(1, 1),
      X: field(2, 2),
      PS: field(7, 7),
      A: field(8, 8),
      D: field(9, 9),
    },
    ...{ SNP: field(11, 11), ADDR: field(51, 12) },
  },
  { bits: 64 },
);

export const FIRST_STAGE = register(
  'first stage',
  {
    ...{ P: field(0, 0), RW: field(1, 1), US: field(2, 2), A: field(5, 5), D: field(6, 6) },
    ...{ PS: field(7, 7), ADDR: field(51, 12), XD: field(63, 63) },
  },
  { bits: 64 },
);
