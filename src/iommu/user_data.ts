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
  const bytes = new Uint8Array(size);
  return fillStructFromUser(data, type, bytes, minSize) || bytes;
}

/** The same into bytes that the caller keeps, all of them: 0 or the negative errno. For structures that come in great numbers. */
export function fillStructFromUser(
  data: UserData,
  type: number,
  into: Uint8Array,
  minSize: number,
): number {
  const { length } = data;
  if (data.type !== type) return -Errno.EINVAL;
  if (length < minSize || length > into.length) return -Errno.EINVAL;
  if (length === into.length) return data.copyIn(0, into) ? 0 : -Errno.EFAULT;
  into.fill(0, length);
  return data.copyIn(0, into.subarray(0, length)) ? 0 : -Errno.EFAULT;
}

/** Entries of a driver's own structure in client memory, `entryLength` bytes each: the requests of one invalidation. */
export interface UserDataArray {
  readonly type: number;
  /** Bytes of one entry as the client has it. */
  readonly entryLength: number;
  readonly entryCount: number;
  /** One entry, good until the next is asked for; `index` is less than `entryCount`. */
  entry(index: number): UserData;
}

/** What became of an array of requests. */
export interface Invalidation {
  /** 0, or the negative errno of the entry that stopped it. */
  readonly result: number;
  /** Entries that were carried out: those before that one. */
  readonly handled: number;
}

/**
 * All entries, one after another, `size` bytes each. A shorter entry of the client's is filled with zeroes, the rest of a longer one
 * must be zeroes. Or a negative errno: EINVAL (another type, no entries), E2BIG, EFAULT. Counterpart of
 * `iommu_copy_struct_from_full_user_array()`.
 */
export function copyFullUserArray(
  array: UserDataArray,
  type: number,
  size: number,
): Uint8Array | number {
  const { entryCount, entryLength } = array;
  if (array.type !== type || entryCount === 0) return -Errno.EINVAL;
  const bytes = new Uint8Array(entryCount * size);
  if (entryLength === size) return array.entry(0).copyIn(0, bytes) ? bytes : -Errno.EFAULT;
  const known = Math.min(entryLength, size);
  const tail = new Uint8Array(entryLength - known);
  for (let index = 0; index < entryCount; index++) {
    const entry = array.entry(index);
    if (tail.length > 0) {
      if (!entry.copyIn(known, tail)) return -Errno.EFAULT;
      if (tail.some((byte) => byte !== 0)) return -Errno.E2BIG;
    }
    const at = index * size;
    if (!entry.copyIn(0, bytes.subarray(at, at + known))) return -Errno.EFAULT;
  }
  return bytes;
}
