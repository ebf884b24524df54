// SPDX-License-Identifier: Apache-2.0
import type { AttachHandle } from './handle.ts';

/**
 * Who is told of the page faults of a domain. The record of a fault and its life cycle (requirements C) come with page
 * requests; what is fixed now is that a handler is part of a domain from its creation (A2) and that it is given the
 * handle of the attachment that the fault came through (C2).
 */
export interface FaultHandler {
  /** 0 where the group of faults was taken, else a negative errno. */
  handle(handle: AttachHandle, faults: readonly unknown[]): number;
}
