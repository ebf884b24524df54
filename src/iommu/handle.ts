// SPDX-License-Identifier: Apache-2.0
import type { Domain } from './domain.ts';
import type { IopfGroup } from './io_pgfault.ts';

/**
 * One attachment: made anew by the caller for each attach and replace, and held by the group until the detach or the next
 * replace. Users derive their own, to find the way from a fault back to their object. Core sets `domain`.
 */
export class AttachHandle {
  domain: Domain | undefined = undefined;
  /** Page faults that came through it and have no answer yet. */
  readonly faults = new Set<IopfGroup>();
}
