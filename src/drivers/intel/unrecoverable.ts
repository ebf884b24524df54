// SPDX-License-Identifier: Apache-2.0
/** What the hardware recorded, as handlers that are registered on a device are told it (C12, C14). */
import { PagePerm } from '../../iommu/fault.ts';
import { FaultReason, type UnrecoverableFault } from '../../iommu/fault_record.ts';
import type { FaultEvent } from './fault_events.ts';

/** By the reason of the hardware; what is not here is not known. A table's entry that is not there is one that can not be fetched. */
const REASONS: Readonly<Record<number, FaultReason>> = {
  0x04: FaultReason.OUT_OF_RANGE,
  0x05: FaultReason.PERMISSION,
  0x06: FaultReason.PERMISSION,
  0x07: FaultReason.ENTRY_FETCH,
  0x46: FaultReason.PASID_INVALID,
  0x50: FaultReason.PASID_FETCH,
  0x51: FaultReason.PASID_INVALID,
  0x52: FaultReason.BAD_PASID_ENTRY,
  0x58: FaultReason.PASID_FETCH,
  0x59: FaultReason.PASID_INVALID,
  0x5a: FaultReason.BAD_PASID_ENTRY,
  0x5b: FaultReason.BAD_PASID_ENTRY,
  0x70: FaultReason.WALK_ABORTED,
  0x71: FaultReason.ENTRY_FETCH,
  0x73: FaultReason.WALK_ABORTED,
  0x78: FaultReason.WALK_ABORTED,
  0x79: FaultReason.ENTRY_FETCH,
  0x7b: FaultReason.WALK_ABORTED,
  0x80: FaultReason.OUT_OF_RANGE,
  0x81: FaultReason.PERMISSION,
  0x82: FaultReason.PERMISSION,
  0x83: FaultReason.OUT_OF_RANGE,
  0x84: FaultReason.OUT_OF_RANGE,
  0x85: FaultReason.PERMISSION,
  0x86: FaultReason.PERMISSION,
  0x89: FaultReason.PASID_INVALID,
};

const PERMS: Readonly<Record<FaultEvent['access'], number>> = {
  read: PagePerm.READ,
  write: PagePerm.WRITE,
  execute: PagePerm.READ | PagePerm.EXEC,
  atomic: PagePerm.READ | PagePerm.WRITE,
};

export function unrecoverableFault(event: FaultEvent): UnrecoverableFault {
  const { reason, access, address, pasid } = event;
  return {
    reason: REASONS[reason] ?? FaultReason.UNKNOWN,
    perm: PERMS[access],
    addr: address,
    ...(pasid !== undefined && { pasid }),
  };
}
