// SPDX-License-Identifier: Apache-2.0
import type { Device } from '../iommu/device.ts';
import type { AtsTranslator } from './ats_messages.ts';

export type DmaAccess = 'read' | 'write';

/** What a request's PASID prefix says beside the PASID. A PASID other than 0 has a prefix in any case. */
export const RequestMode = {
  /** There is a prefix: a request with PASID 0 is another than one without. */
  PASID: 1,
  /** A read that fetches instructions. */
  EXECUTE: 2,
  /** On behalf of a privileged entity. */
  PRIVILEGED: 4,
} as const;

/** Why an IOMMU refuses an access; the words are those that people are shown. */
export const TranslationCause = {
  /** Nothing is attached to the device that could translate. */
  BLOCKED: 'no table is attached',
  NOT_MAPPED: 'not mapped',
  NOT_READABLE: 'not readable',
  NOT_WRITABLE: 'not writable',
  BEYOND_APERTURE: 'beyond the addresses that the table has',
} as const;
export type TranslationCause = (typeof TranslationCause)[keyof typeof TranslationCause];

/** An access that an IOMMU refuses: a value, never thrown. */
export interface TranslationFault {
  readonly cause: TranslationCause;
  /** The first byte that it refuses. */
  readonly at: bigint;
}

/** Where an address leads to: a byte in a frame, and how many bytes follow on contiguously, at least to its page's end. */
export interface TranslatedRun {
  /** Frame of 2 KiB (memory/frame.ts). */
  readonly frame: number;
  /** Byte in that frame. */
  readonly offset: number;
  readonly bytes: number;
}

/**
 * The IOMMU as a device meets it: translates one address of a request. In one answer nothing changes; between two, tables can.
 * `pasid` is 0 (`NO_PASID`) for a request without one; `mode` are bits of {@link RequestMode}, 0 unless told.
 */
export interface Translator {
  translate(
    device: Device,
    pasid: number,
    iova: bigint,
    access: DmaAccess,
    mode?: number,
  ): TranslatedRun | TranslationFault;
  /** The way of an address through the tables, for people. */
  explain?(device: Device, pasid: number, iova: bigint): ExplainedWay;
  /** What it keeps of the tables, in the order in which a checker empties it: what lies nearest to the device first. */
  readonly caches?: readonly TranslationCache[];
  /** Told what software asks it to forget. */
  onInvalidation?: ((notice: InvalidationNotice) => void) | undefined;
  /** Absent: it has neither ATS nor PRI; translation requests are unsupported, and nobody takes page requests. */
  readonly ats?: AtsTranslator | undefined;
}

/** Software asks an IOMMU to forget something. */
export interface InvalidationNotice {
  /** The name of a {@link TranslationCache}, or `device TLB`. */
  readonly cache: string;
  readonly text: string;
  /** The addresses that it names, in bytes, `last` inclusive; all where absent. */
  readonly range?: { readonly first: bigint; readonly last: bigint };
  /** Of requests with this PASID, 0 for those without one; absent where it is for all. */
  readonly pasid?: number;
  /** Of one device, by its requester id; absent where it is for all. */
  readonly requester?: number;
}

/** A cache that can be emptied by itself, which no software could. */
export interface TranslationCache {
  readonly name: string;
  clear(): void;
}

/** Entries of tables in words, and where they end. */
export interface ExplainedWay {
  readonly lines: readonly string[];
  /** What the address is to the tables of iommufd: another one where a guest's table comes first. */
  readonly address: bigint;
}

export const isFault = (found: TranslatedRun | TranslationFault): found is TranslationFault =>
  'cause' in found;
