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

export const PASID_ENTRY_WORDS = 16;
/** What memory takes at once: 128 bits. */
export const QUANTUM_WORDS = 4;

/** Four words, never changed once they are made. */
export type Quantum = Uint32Array;

/** A PASID table entry as far as it is used: its first quantum, and the second, which is the first stage's. The other two are 0. */
export interface PasidEntry {
  readonly head: Quantum;
  readonly first: Quantum;
}

const ZEROES: Quantum = new Uint32Array(QUANTUM_WORDS);
/** Entries that block. */
export const NO_CONTEXT: Quantum = ZEROES;
export const NO_PASID_ENTRY: PasidEntry = { head: ZEROES, first: ZEROES };

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
export function contextEntry(translation: Translation, hasDeviceIotlb: boolean): Quantum {
  const words = new Uint32Array(QUANTUM_WORDS);
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
export function pasidEntry(translation: Translation): PasidEntry {
  const hasSecond = translation.kind === 'second' || translation.kind === 'nested';
  const hasFirst = translation.kind === 'first' || translation.kind === 'nested';
  const { aw, snoopsWalk } = hasSecond ? translation.second : translation;
  const head = new Uint32Array(QUANTUM_WORDS);
  head[0] = PRESENT | (aw << 2) | (PGTT[translation.kind] << 6);
  head[2] =
    translation.did | ((snoopsWalk ? 1 : 0) << 23) | ((translation.forcesSnoop ? 1 : 0) << 24);
  if (hasSecond) {
    const { top, isTracking } = translation.second;
    head[0] |= frameLo(top) | ((isTracking ? 1 : 0) << 9);
    head[1] = frameHi(top);
  }
  return { head, first: hasFirst ? firstQuantum(translation.first) : ZEROES };
}

function firstQuantum(first: FirstStage): Quantum {
  const words = new Uint32Array(QUANTUM_WORDS);
  const bits =
    (first.supervisor ? 1 : 0) |
    ((first.hasFiveLevels ? 1 : 0) << 2) |
    ((first.supervisor && first.writeProtect ? 1 : 0) << 4) |
    ((first.extendedAccess ? 1 : 0) << 7);
  words[0] = Number(first.topAddress & 0xffff_f000n) + bits;
  words[1] = Number(first.topAddress >> 32n);
  return words;
}

/** Of an entry's first quantum. */
export const isPresent = (head: Quantum): boolean => ((head[0] ?? 0) & PRESENT) !== 0;

/** The same, and not present. */
export function absent(head: Quantum): Quantum {
  const words = head.slice();
  words[0] = ((head[0] ?? 0) & ~PRESENT) >>> 0;
  return words;
}

/** The domain id in a PASID entry's first quantum, and the same quantum with another. */
export const didOf = (head: Quantum): number => (head[2] ?? 0) & 0xffff;

export function withDid(head: Quantum, did: number): Quantum {
  const words = head.slice();
  words[2] = (((head[2] ?? 0) & ~0xffff) | did) >>> 0;
  return words;
}

/** What kind of translation a PASID entry is of, by its first quantum. */
const pgttOf = (head: Quantum): number => ((head[0] ?? 0) >>> 6) & 7;

/** What is cached through it goes by PASID: no second stage takes part, or there is no table at all. */
export const isByPasid = (head: Quantum): boolean =>
  pgttOf(head) === PGTT.first || pgttOf(head) === PGTT['pass-through'];

/** The first stage's part of the entry matters. */
export const usesFirst = (head: Quantum): boolean =>
  pgttOf(head) === PGTT.first || pgttOf(head) === PGTT.nested;

const same = (a: Quantum, b: Quantum): boolean => a.every((word, i) => word === b[i]);

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

export function wayBetween(from: PasidEntry, to: PasidEntry): Way {
  if (!isPresent(from.head) || !isPresent(to.head)) return 'at once';
  if (!usesFirst(from.head) || !usesFirst(to.head) || same(from.first, to.first)) return 'at once';
  return same(withDid(from.head, 0), withDid(to.head, 0)) ? 'new id' : 'blocked';
}
