// SPDX-License-Identifier: Apache-2.0
import type { IopfGroup } from './io_pgfault.ts';

/**
 * Of a {@link PageRequest}. The first two are also the UAPI's IOMMU_PGFAULT_FLAGS_*; the third, that the answer names the PASID, has no name
 * there, and programs see it all the same (Linux include/linux/iommu.h, `iommufd_compose_fault_message()`).
 */
export const PageRequestFlags = {
  PASID_VALID: 1,
  LAST_PAGE: 2,
  NEEDS_PASID: 4,
  PRIVATE_DATA: 8,
} as const;

/** What a device wants to do with a page; the numbers are the UAPI's IOMMU_PGFAULT_PERM_*. */
export const PagePerm = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;

/** A device asks for a page (PRI), or waits for one (stall): Linux's `struct iommu_fault_page_request`. */
export interface PageRequest {
  /** Bits of {@link PageRequestFlags}. */
  readonly flags: number;
  readonly pasid: number;
  /** Groups the requests that are answered together; the device chooses it, and uses it again after the answer. */
  readonly grpid: number;
  /** The access: bits of {@link PagePerm}. */
  readonly perm: number;
  /** In bytes. */
  readonly addr: bigint;
  /** 128 bits that hardware wants back with the answer; they never reach a user. */
  readonly privateData?: bigint;
}

/** How a group of requests is answered (C7). The numbers are Linux's enum iommu_page_response_code. */
export const PageResponseCode = {
  /** The page is there: the device tries again. */
  SUCCESS: 0,
  /** This access ends. */
  INVALID: 1,
  /** This access ends, and page requests of the device stop where the hardware can stop them. */
  FAILURE: 2,
} as const;
export type PageResponseCode = (typeof PageResponseCode)[keyof typeof PageResponseCode];

/** The answer to a group, as it goes to the driver. */
export interface PageResponse {
  readonly pasid: number;
  readonly grpid: number;
  readonly code: PageResponseCode;
  /** What the request had, where it had any. */
  readonly privateData?: bigint;
}

/** Who is told of the page faults of a domain: part of the domain from its creation, for good (A2). */
export interface FaultHandler {
  /**
   * Takes a group of page requests, whose `handle` leads to the attachment that they came through (C2). 0 where it was taken: exactly
   * one `group.respond` must follow (C13). Else a negative errno, and core answers.
   */
  handle(group: IopfGroup): number;
  /** Core has answered a group in its place (time-out, end of the attachment or of the device's faults): it is forgotten. */
  answered?(group: IopfGroup): void;
}
