// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  IOMMU_FAULT_BYTES,
  IOMMU_FAULT_PART,
  iommu_fault_header,
  iommu_fault_page_request,
  iommu_fault_unrecoverable,
} from '../abi/iommu_fault.ts';
import { Errno } from '../base/errno.ts';
import { decodeFault, encodeFault, FaultReason, type FaultRecord } from './fault_record.ts';

/** A record as words of 32 bits. */
const words = (record: FaultRecord): number[] => [...new Uint32Array(encodeFault(record).buffer)];
const zeroes = (count: number): number[] => Array.from({ length: count }, () => 0);

describe('C14: a fault record', () => {
  it('has 64 bytes, of which its largest part leaves 16', () => {
    expect(iommu_fault_header.size).toBe(IOMMU_FAULT_PART);
    expect(iommu_fault_unrecoverable.size).toBe(32);
    expect(iommu_fault_page_request.size).toBe(40);
    expect(IOMMU_FAULT_PART + iommu_fault_page_request.size).toBe(IOMMU_FAULT_BYTES - 16);
  });

  it('of a page request has type 2, flags, PASID, group, access, address, private data', () => {
    const request = {
      ...{ flags: 1 + 2 + 8, pasid: 5, grpid: 9, perm: 3, addr: 0x1_0000_2000n },
      privateData: (4n << 96n) | (3n << 64n) | (2n << 32n) | 1n,
    };
    const record: FaultRecord = { type: 'page request', request };
    expect(words(record)).toEqual([2, 0, 7, 5, 9, 3, 0x2000, 1, 1, 2, 3, 4, ...zeroes(4)]);
    expect(decodeFault(encodeFault(record))).toEqual(record);
  });

  it('of an unrecoverable fault has type 1, reason, flags, PASID, access, address, fetch address', () => {
    const fault = {
      ...{ reason: FaultReason.ENTRY_FETCH, pasid: 3, perm: 1 },
      ...{ addr: 0x2_0000_1000n, fetchAddr: 0x3_0000_4000n },
    };
    const record: FaultRecord = { type: 'unrecoverable', fault };
    expect(words(record)).toEqual([1, 0, 5, 7, 3, 1, 0x1000, 2, 0x4000, 3, ...zeroes(6)]);
    expect(decodeFault(encodeFault(record))).toEqual(record);
  });

  it('says by flags which fields are known', () => {
    const flagsOf = (fault: object): number | undefined =>
      words({
        type: 'unrecoverable',
        fault: { reason: FaultReason.OUT_OF_RANGE, perm: 2, ...fault },
      })[3];
    expect(flagsOf({})).toBe(0);
    expect(flagsOf({ pasid: 0 })).toBe(1);
    expect(flagsOf({ addr: 0n })).toBe(2);
    expect(flagsOf({ fetchAddr: 0n })).toBe(4);
    const nothing: FaultRecord = {
      type: 'unrecoverable',
      fault: { reason: FaultReason.UNKNOWN, perm: 0 },
    };
    expect(decodeFault(encodeFault(nothing))).toEqual(nothing);
  });

  it('can be longer, never shorter, and has a type that is known', () => {
    const request = { flags: 2, pasid: 0, grpid: 1, perm: 1, addr: 0n };
    const bytes = encodeFault({ type: 'page request', request });
    const longer = new Uint8Array(80);
    longer.set(bytes);
    expect(decodeFault(longer)).toEqual({ type: 'page request', request });
    expect(decodeFault(bytes.subarray(0, 63))).toBe(-Errno.EINVAL);
    bytes[0] = 3;
    expect(decodeFault(bytes)).toBe(-Errno.EINVAL);
  });
});
