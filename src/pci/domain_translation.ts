// SPDX-License-Identifier: Apache-2.0
import { type AccessRefusal, walkAccess } from '../generic_pt/access.ts';
import { frameOfIova } from '../generic_pt/iova.ts';
import type { Domain } from '../iommu/domain.ts';
import { PtDomain } from '../iommu/pt_domain.ts';
import { SvaTableDomain } from '../iommu/sva_domain.ts';
import { FRAME_SIZE } from '../memory/frame.ts';
import { encodeEntry } from './ats_entry.ts';
import type { TranslationRequest } from './ats_messages.ts';
import {
  isFault,
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
  const isWalked = domain instanceof PtDomain || domain instanceof SvaTableDomain;
  if (!isWalked || (domain instanceof SvaTableDomain && domain.isReleased))
    return { cause: TranslationCause.BLOCKED, at: iova };
  if (iova < domain.apertureStart || iova > domain.apertureLast) {
    return { cause: TranslationCause.BEYOND_APERTURE, at: iova };
  }
  const offset = Number(iova & LOW_BITS);
  const start = Math.floor(frameOfIova(iova));
  const found = walkAccess(domain.table, start, access === 'write', domain.isTracking);
  if (typeof found === 'string') return { cause: CAUSES[found], at: iova };
  return { frame: found.frame, offset, bytes: found.frames * FRAME_SIZE - offset };
}

const NOTHING = {
  ...{ sizeLg2: 12, read: false, write: false, execute: false, privileged: false },
  ...{ global: false, nonSnooped: false, untranslatedOnly: false },
};

/**
 * Answers a translation request of ATS from the domain in force: 64 bits as ats_entry.ts has them, without any access where there is
 * none. A page that may be written is written to as far as dirty tracking knows, unless the request says otherwise (NW).
 */
export function translationInDomain(
  domain: Domain | undefined,
  { iova, noWrite, pasid }: TranslationRequest,
): bigint {
  const readable = translateInDomain(domain, iova, 'read');
  const writable = noWrite ? undefined : translateInDomain(domain, iova, 'write');
  const read = !isFault(readable);
  const write = writable !== undefined && !isFault(writable);
  const run = read ? readable : write ? writable : undefined;
  if (!run) return encodeEntry({ ...NOTHING, start: 0n });
  const start = BigInt(run.frame) * BigInt(FRAME_SIZE) + BigInt(run.offset);
  // The largest page whose beginning the address is, on both sides.
  let sizeLg2 = 12;
  while (sizeLg2 < 52 && run.bytes >= 2 ** (sizeLg2 + 1)) {
    const low = (1n << BigInt(sizeLg2 + 1)) - 1n;
    if ((iova & low) !== 0n || (start & low) !== 0n) break;
    sizeLg2++;
  }
  // Tables of ours have no bits for execution or privilege: who may read may both. Those of a process say what may be executed.
  const mayExecute = !(domain instanceof SvaTableDomain) || domain.allowsExecution(iova);
  const execute = read && pasid?.execute === true && mayExecute;
  const privileged = pasid?.privileged === true;
  return encodeEntry({ ...NOTHING, start, sizeLg2, read, write, execute, privileged });
}
