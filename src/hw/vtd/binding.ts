// SPDX-License-Identifier: Apache-2.0
import { LEGACY_REASONS, type SecondStageReasons } from './fault_reasons.ts';
import { Pgtt } from './iotlb.ts';

/** How requests of one requester and PASID are translated, or why not. */
export class Binding {
  readonly sid: number;
  /** What a PASID cache invalidation calls it. */
  readonly pasid: number;
  did = 0;
  pgtt: number = Pgtt.SECOND;
  /** Tags of the IOTLB: did | pgtt << 16, and the PASID; -1 in legacy mode. */
  tag = 0;
  tlbPasid = -1;
  /** Not 0: refused. */
  fault = 0;
  /** Faults from here on are not recorded. */
  fpd = false;
  /** What its requests ask for in addition, as RID_PRIV says. */
  addedAccess = 0;
  reasons: SecondStageReasons = LEGACY_REASONS;
  snoopsWalk = true;
  /** Accesses snoop whatever they ask for. */
  forcesSnoop = false;
  ssTop = 0;
  ssLevels = 0;
  /** Pages below which an input address of the second stage is. */
  ssEnd = 0;
  ssade = false;
  fsTop = 0;
  fsLevels = 4;
  sre = false;
  ere = false;
  wpe = false;
  eafe = false;
  /** Requests that come translated, or ask for translations, are served. */
  allowsAts = false;

  constructor(sid: number, pasid: number) {
    this.sid = sid;
    this.pasid = pasid;
  }
}

/** What a context entry alone says of a requester. */
export interface RequesterContext {
  /** Not 0: why it has no entry. */
  readonly fault: number;
  readonly fpd: boolean;
  /** Translation requests and translated requests are served (DTE, or TT 1). */
  readonly ats: boolean;
  /** Requests with PASID are (PASIDE). */
  readonly pasids: boolean;
  /** Page requests are (PRE). */
  readonly pages: boolean;
}

/** A context entry, as the context cache has it. */
export class Context implements RequesterContext {
  readonly sid: number;
  did = 0;
  fault = 0;
  fpd = false;
  /** Of legacy mode. */
  binding: Binding | undefined = undefined;
  directory = 0;
  directoryEntries = 0;
  ridPasid = 0;
  ridPriv = false;
  pasids = false;
  ats = false;
  pages = false;

  constructor(sid: number) {
    this.sid = sid;
  }
}
