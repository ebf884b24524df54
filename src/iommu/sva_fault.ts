// SPDX-License-Identifier: Apache-2.0
import type { Body } from '../sim/task.ts';
import { type Domain, isSvaDomain } from './domain.ts';
import {
  type FaultHandler,
  PagePerm,
  type PageRequest,
  PageRequestFlags,
  PageResponseCode,
} from './fault.ts';
import type { IopfGroup } from './io_pgfault.ts';

/**
 * Page faults of devices in the address space of a process: they are handled as the process's own, beside whatever reported them
 * (Linux's `iommu_sva_iopf_handler()`).
 */
export const svaFaultHandler: FaultHandler = {
  handle(group: IopfGroup): number {
    group.work('iommu_sva_handle_iopf', handleGroup(group));
    return 0;
  },
};

function* handleGroup(group: IopfGroup): Body {
  let code: PageResponseCode = PageResponseCode.SUCCESS;
  for (const request of group.requests) {
    // The first error is the group's answer.
    if (code !== PageResponseCode.SUCCESS) break;
    code = handleRequest(request, group.handle?.domain);
    yield 'page fault handled';
  }
  if (!group.isAnswered) group.respond(code);
}

function handleRequest(
  { flags, perm, addr }: PageRequest,
  domain: Domain | undefined,
): PageResponseCode {
  const { SUCCESS, INVALID } = PageResponseCode;
  if (!domain || !isSvaDomain(domain) || !domain.mm.alive) return INVALID;
  if ((flags & PageRequestFlags.PASID_VALID) === 0) return INVALID;
  const access = {
    read: (perm & PagePerm.READ) !== 0,
    write: (perm & PagePerm.WRITE) !== 0,
    execute: (perm & PagePerm.EXEC) !== 0,
  };
  return domain.mm.handleFault?.(addr, access) ? SUCCESS : INVALID;
}
