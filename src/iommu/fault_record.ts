// SPDX-License-Identifier: Apache-2.0
import {
  IOMMU_FAULT_BYTES,
  IOMMU_FAULT_DMA_UNRECOV,
  IOMMU_FAULT_PAGE_REQ,
  IOMMU_FAULT_PART,
  iommu_fault_header,
  iommu_fault_page_request,
  iommu_fault_page_request_flags,
  iommu_fault_reason,
  iommu_fault_unrecoverable,
  iommu_fault_unrecoverable_flags,
} from '../abi/iommu_fault.ts';
import { Errno } from '../base/errno.ts';
import { type PageRequest, PageRequestFlags } from './fault.ts';

const { IOMMU_FAULT_UNRECOV_PASID_VALID: PASID, IOMMU_FAULT_UNRECOV_ADDR_VALID: ADDR } =
  iommu_fault_unrecoverable_flags;
const { IOMMU_FAULT_UNRECOV_FETCH_ADDR_VALID: FETCH } = iommu_fault_unrecoverable_flags;
const { IOMMU_FAULT_PAGE_REQUEST_PRIV_DATA: PRIV_DATA } = iommu_fault_page_request_flags;
const LOW = 2n ** 64n - 1n;

/** Why hardware refused an access for good; the numbers are those of the records. */
export const FaultReason = {
  UNKNOWN: iommu_fault_reason.IOMMU_FAULT_REASON_UNKNOWN,
  PASID_FETCH: iommu_fault_reason.IOMMU_FAULT_REASON_PASID_FETCH,
  BAD_PASID_ENTRY: iommu_fault_reason.IOMMU_FAULT_REASON_BAD_PASID_ENTRY,
  PASID_INVALID: iommu_fault_reason.IOMMU_FAULT_REASON_PASID_INVALID,
  WALK_ABORTED: iommu_fault_reason.IOMMU_FAULT_REASON_WALK_EABT,
  ENTRY_FETCH: iommu_fault_reason.IOMMU_FAULT_REASON_PTE_FETCH,
  PERMISSION: iommu_fault_reason.IOMMU_FAULT_REASON_PERMISSION,
  ACCESS_FLAG: iommu_fault_reason.IOMMU_FAULT_REASON_ACCESS,
  OUT_OF_RANGE: iommu_fault_reason.IOMMU_FAULT_REASON_OOR_ADDRESS,
} as const;
export type FaultReason = (typeof FaultReason)[keyof typeof FaultReason];

/** An access that hardware refused for good. What is absent is not known. */
export interface UnrecoverableFault {
  readonly reason: FaultReason;
  /** Bits of `PagePerm`. */
  readonly perm: number;
  readonly pasid?: number;
  /** Of the access, in bytes. */
  readonly addr?: bigint;
  /** Of the entry that could not be fetched, in bytes. */
  readonly fetchAddr?: bigint;
}

/** What a registered handler is told (C14). */
export type FaultRecord =
  | { readonly type: 'unrecoverable'; readonly fault: UnrecoverableFault }
  | { readonly type: 'page request'; readonly request: PageRequest };

/** A record in 64 bytes, whose flags say which fields hold something; what is not used is 0. */
export function encodeFault(record: FaultRecord): Uint8Array {
  const bytes = new Uint8Array(IOMMU_FAULT_BYTES);
  const view = new DataView(bytes.buffer);
  const header = iommu_fault_header.on(view);
  if (record.type === 'unrecoverable') {
    header.type = IOMMU_FAULT_DMA_UNRECOV;
    const { reason, perm, pasid, addr, fetchAddr } = record.fault;
    const part = iommu_fault_unrecoverable.on(view, IOMMU_FAULT_PART);
    part.reason = reason;
    part.perm = perm;
    part.pasid = pasid ?? 0;
    part.addr = addr ?? 0n;
    part.fetch_addr = fetchAddr ?? 0n;
    part.flags =
      (pasid === undefined ? 0 : PASID) |
      (addr === undefined ? 0 : ADDR) |
      (fetchAddr === undefined ? 0 : FETCH);
    return bytes;
  }
  header.type = IOMMU_FAULT_PAGE_REQ;
  const { flags, pasid, grpid, perm, addr, privateData = 0n } = record.request;
  const part = iommu_fault_page_request.on(view, IOMMU_FAULT_PART);
  part.flags = (flags & SAME_FLAGS) | (flags & PageRequestFlags.PRIVATE_DATA ? PRIV_DATA : 0);
  part.pasid = pasid;
  part.grpid = grpid;
  part.perm = perm;
  part.addr = addr;
  part.private_data_low = privateData & LOW;
  part.private_data_high = privateData >> 64n;
  return bytes;
}

/** These bits are the record's too. */
const SAME_FLAGS = PageRequestFlags.PASID_VALID | PageRequestFlags.LAST_PAGE;

/** The other way; a longer record is a later one that begins alike. Or -EINVAL: too short, or of an unknown type. */
export function decodeFault(bytes: Uint8Array): FaultRecord | number {
  if (bytes.length < IOMMU_FAULT_BYTES) return -Errno.EINVAL;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const { type } = iommu_fault_header.on(view);
  if (type === IOMMU_FAULT_PAGE_REQ) return { type: 'page request', request: decodeRequest(view) };
  if (type !== IOMMU_FAULT_DMA_UNRECOV) return -Errno.EINVAL;
  const part = iommu_fault_unrecoverable.on(view, IOMMU_FAULT_PART);
  const reason = Object.values(FaultReason).find((each) => each === part.reason);
  const fault = {
    reason: reason ?? FaultReason.UNKNOWN,
    perm: part.perm,
    ...(part.flags & PASID ? { pasid: part.pasid } : {}),
    ...(part.flags & ADDR ? { addr: part.addr } : {}),
    ...(part.flags & FETCH ? { fetchAddr: part.fetch_addr } : {}),
  };
  return { type: 'unrecoverable', fault };
}

function decodeRequest(view: DataView): PageRequest {
  const part = iommu_fault_page_request.on(view, IOMMU_FAULT_PART);
  const { flags, pasid, grpid, perm, addr } = part;
  const privateData = (part.private_data_high << 64n) | part.private_data_low;
  return {
    flags: (flags & SAME_FLAGS) | (flags & PRIV_DATA ? PageRequestFlags.PRIVATE_DATA : 0),
    ...{ pasid, grpid, perm, addr },
    ...(flags & PRIV_DATA ? { privateData } : {}),
  };
}
