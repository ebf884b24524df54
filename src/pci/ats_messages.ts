// SPDX-License-Identifier: Apache-2.0
/** What functions and an IOMMU say to each other beside plain requests: ATS and PRI. */
import type { Device } from '../iommu/device.ts';
import type { DmaAccess } from './translator.ts';

/** The PASID prefix of a message. */
export interface PasidPrefix {
  /** 20 bits. */
  readonly value: number;
  readonly execute: boolean;
  readonly privileged: boolean;
}

/** A function asks where an address leads to. */
export interface TranslationRequest {
  readonly pasid: PasidPrefix | undefined;
  /** The page, a multiple of 4096. */
  readonly iova: bigint;
  /** NW: the function does not mean to write. Without it, hardware may mark the page dirty now. */
  readonly noWrite: boolean;
}

/** How a translation request ends: with an entry on success. */
export type TranslationCompletion =
  | {
      readonly status: 'SUCCESS';
      /** 64 bits as ats_entry.ts decodes them. */
      readonly entry: bigint;
    }
  /** UR: ATS is off for the function at its IOMMU. CA: the IOMMU met an error of its own. */
  | { readonly status: 'UNSUPPORTED_REQUEST' | 'COMPLETER_ABORT' };

/** The IOMMU tells a function to forget translations. */
export interface InvalidateRequest {
  /** 0 to 31: names it in its completions. */
  readonly itag: number;
  /** Only entries of this PASID; undefined: those without one, too those of all PASIDs where `global`. */
  readonly pasid: number | undefined;
  /** The range: the page, and its size, as ats_entry.ts encodes them. */
  readonly range: bigint;
  /** Entries of all PASIDs. */
  readonly global: boolean;
}

/** A function has forgotten, and nothing under way uses what it has forgotten. */
export interface InvalidateCompletion {
  /** Bit n: ITag n. */
  readonly itags: number;
  /** How many such completions each of these invalidations has in all, 1 to 8. */
  readonly count: number;
}

/** A function asks for a page to be made accessible (PRI). */
export interface PageRequestMessage {
  readonly pasid: PasidPrefix | undefined;
  /** A multiple of 4096. */
  readonly address: bigint;
  readonly read: boolean;
  readonly write: boolean;
  /** The last of its group. With neither read nor write, and a PASID: a stop marker, which is never answered. */
  readonly last: boolean;
  /** 9 bits: the page request group. */
  readonly group: number;
  /** Not of PCIe: 128 bits that an integrated function sends along and wants back with the answer. */
  readonly privateData?: bigint | undefined;
}

/** Codes of a page request group response. Source: Linux drivers/iommu/intel/iommu.h (QI_RESP_*). */
export const GroupResponse = { SUCCESS: 0, INVALID: 1, FAILURE: 0xf } as const;
export type GroupResponse = (typeof GroupResponse)[keyof typeof GroupResponse];

/** The answer to a group, from the IOMMU. */
export interface GroupResponseMessage {
  readonly group: number;
  readonly pasid: number | undefined;
  readonly code: GroupResponse;
  /** That of its request, as far as software has sent it back. */
  readonly privateData?: bigint | undefined;
}

/** A request with an address that was translated before. */
export interface TranslatedRequest {
  readonly access: DmaAccess;
  /** Where it goes: a frame of 2 KiB, and a byte of that. */
  readonly frame: number;
  readonly offset: number;
}

/** The IOMMU as functions with ATS and PRI meet it. */
export interface AtsTranslator {
  requestTranslation(device: Device, request: TranslationRequest): TranslationCompletion;
  /** Whether a request with a translated address is taken from the device. */
  takesTranslated(device: Device, request: TranslatedRequest): boolean;
  invalidateCompletion(device: Device, completion: InvalidateCompletion): void;
  pageRequest(device: Device, message: PageRequestMessage): void;
}

/** A function as an IOMMU with ATS and PRI meets it. */
export interface AtsFunction {
  /** False: unsupported request, ATS is off or absent. */
  invalidate(request: InvalidateRequest): boolean;
  groupResponse(message: GroupResponseMessage): void;
}

export const isStopMarker = ({ pasid, read, write, last }: PageRequestMessage): boolean =>
  pasid !== undefined && last && !read && !write;
