// SPDX-License-Identifier: Apache-2.0
/** What a request asks for, as bits of one number; 0 is a plain read. */
export const Access = {
  READ: 0,
  WRITE: 1,
  /** Reads to execute; only with PASID. */
  EXECUTE: 2,
  /** Asks with the privilege of a supervisor; only with PASID. */
  PRIVILEGED: 4,
  /** Reads and writes at once. Together with WRITE. */
  ATOMIC: 8,
  /** Asks for a translation (ATS): address type 1. */
  TRANSLATION_REQUEST: 16,
  /** Has been translated already (ATS): address type 2. */
  TRANSLATED: 32,
  /** No access: asks for a page to be made accessible (PRI). In fault records. */
  PAGE_REQUEST: 64,
} as const;

/** A request without PASID. */
export const NO_PASID = -1;

/** What a translation allows, and how it was found: bits of one number, as caches keep it. */
export const Allows = {
  READ: 1,
  /** For requests of users. */
  WRITE: 2,
  /** For those of supervisors, whom write protection may not bind. */
  SUPERVISOR_WRITE: 4,
  USER: 8,
  EXECUTE: 16,
  SUPERVISOR_EXECUTE: 32,
  /** The dirty bits are set, or nobody wants them. */
  DIRTY: 64,
  /** The page says that accesses snoop (SNP). */
  SNOOP: 128,
} as const;
