// SPDX-License-Identifier: Apache-2.0
import { type AccessRefusal, walkAccess } from '../generic_pt/access.ts';
import { frameOfIova } from '../generic_pt/iova.ts';
import type { Domain } from '../iommu/domain.ts';
import { PtDomain } from '../iommu/pt_domain.ts';
import { FRAME_SIZE } from '../memory/frame.ts';
import {
  type DmaAccess,
  TranslationCause,
  type TranslatedRun,
  type TranslationFault,
} from './translator.ts';

const CAUSES: Readonly<Record<AccessRefusal, TranslationCause>> = {
  'out of range': TranslationCause.BEYOND_APERTURE,
  'not mapped': TranslationCause.NOT_MAPPED,
  'not readable': TranslationCause.NOT_READABLE,
  'not writable': TranslationCause.NOT_WRITABLE,
};

const LOW_BITS = BigInt(FRAME_SIZE - 1);

/**
 * Translates one address through the domain that a driver has put in force for a device: a walk of its table, without a cache. What
 * is not a table of `generic_pt` (the blocked domain, or none at all) blocks. For IOMMUs that have no model of their hardware.
 */
export function translateInDomain(
  domain: Domain | undefined,
  iova: bigint,
  access: DmaAccess,
): TranslatedRun | TranslationFault {
  if (!(domain instanceof PtDomain)) return { cause: TranslationCause.BLOCKED, at: iova };
  if (iova < domain.apertureStart || iova > domain.apertureLast) {
    return { cause: TranslationCause.BEYOND_APERTURE, at: iova };
  }
  const offset = Number(iova & LOW_BITS);
  const start = Math.floor(frameOfIova(iova));
  const found = walkAccess(domain.table, start, access === 'write', domain.isTracking);
  if (typeof found === 'string') return { cause: CAUSES[found], at: iova };
  return { frame: found.frame, offset, bytes: found.frames * FRAME_SIZE - offset };
}
