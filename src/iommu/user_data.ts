// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';

/** A driver's own structure in client memory that comes with a request (`data_type`, `data_len`, `data_uptr`). */
export interface UserData {
  readonly type: number;
  /** Bytes that the client says it has. */
  readonly length: number;
  /** Copies `into.length` bytes from `offset` on; false where they cannot be read (EFAULT). */
  copyIn(offset: number, into: Uint8Array): boolean;
  /** Copies bytes back; false where they cannot be written (EFAULT). */
  copyOut(offset: number, from: Uint8Array): boolean;
}

/**
 * The bytes of a driver's structure of `size` bytes, zeroes where the client's is shorter; or a negative errno: EINVAL for another
 * type, for less than `minSize` and for more than `size`, EFAULT where it cannot be read. Counterpart of
 * `iommu_copy_struct_from_user()`.
 */
export function copyStructFromUser(
  data: UserData,
  type: number,
  size: number,
  minSize: number,
): Uint8Array | number {
  if (data.type !== type) return -Errno.EINVAL;
  if (data.length < minSize || data.length > size) return -Errno.EINVAL;
  const bytes = new Uint8Array(size);
  return data.copyIn(0, bytes.subarray(0, data.length)) ? bytes : -Errno.EFAULT;
}
