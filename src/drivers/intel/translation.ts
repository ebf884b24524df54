// SPDX-License-Identifier: Apache-2.0
/**
 * What a requester is to be translated with, and the table entries that say so: context entries of legacy mode (four 32-bit words) and
 * PASID table entries of scalable mode (sixteen). Source: Linux drivers/iommu/intel/iommu.h (`context_set_*`), pasid.h
 * (`pasid_set_*`); the specification itself: unverified.
 */

/** A second stage: its top's frame, its address width as entries have it (levels less two). */
export interface SecondStage {
  readonly top: number;
  readonly aw: number;
  /** Accessed and dirty bits are written. */
  readonly isTracking: boolean;
  /** The walk looks into the processor's cache. */
  readonly snoopsWalk: boolean;
}

/** A first stage: its top as an address, physical or (nested) the guest's. */
export interface FirstStage {
  readonly topAddress: bigint;
  readonly hasFiveLevels: boolean;
  /** Supervisor requests are allowed, obey write protection; extended accessed flags. */
  readonly supervisor: boolean;
  readonly writeProtect: boolean;
  readonly extendedAccess: boolean;
}

interface Common {
  readonly did: number;
  /** All accesses snoop, whatever the device asks for. */
  readonly forcesSnoop: boolean;
}

export type Translation = Common &
  (
    | {
        readonly kind: 'first';
        readonly first: FirstStage;
        readonly snoopsWalk: boolean;
        readonly aw: number;
      }
    | { readonly kind: 'second'; readonly second: SecondStage }
    | { readonly kind: 'nested'; readonly first: FirstStage; readonly second: SecondStage }
    | { readonly kind: 'pass-through'; readonly aw: number; readonly snoopsWalk: boolean }
  );

export type TranslationKind = Translation['kind'];

/** Pass-through and what else has no table share one domain id. Source: Linux FLPT_DEFAULT_DID. */
export const PASS_THROUGH_DID = 1;

export const CONTEXT_WORDS = 4;
export const PASID_ENTRY_WORDS = 16;
/** What memory takes at once: 128 bits. */
export const QUANTUM_WORDS = 4;

const PRESENT = 1;
const TT_PASS_THROUGH = 2;

/** PGTT of a PASID entry. */
const PGTT: Readonly<Record<TranslationKind, number>> = {
  first: 1,
  second: 2,
  nested: 3,
  'pass-through': 4,
};

/** The words of an address of a frame of 2 KiB, which is a page's. */
const frameLo = (frame: number): number => ((frame % 2 ** 21) * 2048) >>> 0;
const frameHi = (frame: number): number => Math.floor(frame / 2 ** 21);

/** A context entry of legacy mode, which has no first stage. Throws for one: nobody may ask. */
export function contextEntry(translation: Translation, hasDeviceIotlb: boolean): Uint32Array {
  const words = new Uint32Array(CONTEXT_WORDS);
  const { kind, did } = translation;
  if (kind === 'pass-through') {
    words[0] = PRESENT | (TT_PASS_THROUGH << 2);
    words[2] = translation.aw | (did << 8);
  } else if (kind === 'second') {
    const { top, aw } = translation.second;
    words[0] = (frameLo(top) | PRESENT | ((hasDeviceIotlb ? 1 : 0) << 2)) >>> 0;
    words[1] = frameHi(top);
    words[2] = aw | (did << 8);
  } else {
    throw new Error(`legacy mode has no translation of kind ${kind}`);
  }
  return words;
}

/** A PASID table entry. */
export function pasidEntry(translation: Translation): Uint32Array {
  const words = new Uint32Array(PASID_ENTRY_WORDS);
  const { kind, did, forcesSnoop } = translation;
  let [lo, hi, aw, snoopsWalk, isTracking] = [0, 0, 0, false, false];
  if (kind === 'second' || kind === 'nested') {
    const { second } = translation;
    [lo, hi] = [frameLo(second.top), frameHi(second.top)];
    ({ aw, snoopsWalk, isTracking } = second);
  } else {
    ({ aw, snoopsWalk } = translation);
  }
  words[0] = (lo | PRESENT | (aw << 2) | (PGTT[kind] << 6) | ((isTracking ? 1 : 0) << 9)) >>> 0;
  words[1] = hi;
  words[2] = did | ((snoopsWalk ? 1 : 0) << 23) | ((forcesSnoop ? 1 : 0) << 24);
  if (kind === 'first' || kind === 'nested') {
    const { first } = translation;
    const bits =
      (first.supervisor ? 1 : 0) |
      ((first.hasFiveLevels ? 1 : 0) << 2) |
      ((first.supervisor && first.writeProtect ? 1 : 0) << 4) |
      ((first.extendedAccess ? 1 : 0) << 7);
    words[4] = Number(first.topAddress & 0xffff_f000n) + bits;
    words[5] = Number(first.topAddress >> 32n);
  }
  return words;
}

export const isPresent = (words: Uint32Array): boolean => ((words[0] ?? 0) & PRESENT) !== 0;

/** The domain id in a PASID entry, and the same entry with another. */
export const didOf = (words: Uint32Array): number => (words[2] ?? 0) & 0xffff;

export function withDid(words: Uint32Array, did: number): Uint32Array {
  const changed = words.slice();
  changed[2] = (((words[2] ?? 0) & ~0xffff) | did) >>> 0;
  return changed;
}

/** The first stage's part of the entry, the second quantum, matters. */
const usesFirst = (words: Uint32Array): boolean => {
  const pgtt = ((words[0] ?? 0) >>> 6) & 7;
  return pgtt === PGTT.first || pgtt === PGTT.nested;
};

const same = (a: Uint32Array, b: Uint32Array, from: number, to: number): boolean => {
  for (let i = from; i < to; i++) if (a[i] !== b[i]) return false;
  return true;
};

/**
 * How a PASID entry gets from one content to another. Memory takes 128 bits at once, and the hardware may read the entry between any two
 * writes, so each content on the way must be one that translates as the old or as the new one:
 *
 * - 'at once': one quantum tells them apart in what matters; the other is written while it does not matter;
 * - 'new id': the first stage changes, and with it the domain id, in another quantum. On the way the entry has a third domain id, which
 *   nobody else uses, so that what is cached then is nobody's;
 * - 'blocked': both stages change. There is no way but to block it in between.
 */
export type Way = 'at once' | 'new id' | 'blocked';

export function wayBetween(from: Uint32Array, to: Uint32Array): Way {
  if (!isPresent(from) || !isPresent(to)) return 'at once';
  const firstDiffers = usesFirst(from) && usesFirst(to) && !same(from, to, 4, PASID_ENTRY_WORDS);
  if (!firstDiffers) return 'at once';
  return same(withDid(from, 0), withDid(to, 0), 0, QUANTUM_WORDS) ? 'new id' : 'blocked';
}
