// SPDX-License-Identifier: Apache-2.0
import { toBigint } from '../../base/u64.ts';

/** A page request as the hardware writes it: 256 bits (VTD-5.10 §7.4.1.1). */
export interface PageRequestDescriptor {
  readonly sourceId: number;
  /** Undefined where the request had none. */
  readonly pasid: number | undefined;
  readonly execute: boolean;
  readonly privileged: boolean;
  readonly read: boolean;
  readonly write: boolean;
  readonly isLast: boolean;
  /** 9 bits. */
  readonly group: number;
  /** In bytes, of a page of 4 KiB. */
  readonly address: bigint;
  /** 128 bits of the hardware, which go back with the answer. Source: Linux drivers/iommu/intel/iommu.h (unverified), since VTD-5.10 has them no more. */
  readonly privateData: bigint | undefined;
}

/** From words at `lane`. */
export function readPageRequest(lanes: Uint32Array, lane: number): PageRequestDescriptor {
  const [w0 = 0, w1 = 0, w2 = 0, w3 = 0] = lanes.subarray(lane, lane + 4);
  const data = (at: number): bigint => toBigint(lanes[lane + at] ?? 0, lanes[lane + at + 1] ?? 0);
  const bit = (word: number, place: number): boolean => ((word >>> place) & 1) === 1;
  return {
    sourceId: w0 >>> 16,
    pasid: bit(w0, 8) ? w1 & 0xf_ffff : undefined,
    execute: bit(w1, 20),
    privileged: bit(w1, 21),
    read: bit(w2, 0),
    write: bit(w2, 1),
    isLast: bit(w2, 2),
    group: (w2 >>> 3) & 0x1ff,
    address: (BigInt(w3) << 32n) | BigInt((w2 & ~0xfff) >>> 0),
    privateData: bit(w0, 9) ? data(4) | (data(6) << 64n) : undefined,
  };
}
