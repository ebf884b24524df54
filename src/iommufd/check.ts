// SPDX-License-Identifier: Apache-2.0
import { ErrnoError, errnoName, type ErrnoName } from '../base/errno.ts';

/** The error for a negative errno that core or a driver answered. */
export function checkErrno(result: number, what: string): ErrnoError {
  return new ErrnoError(errnoName(-result) as ErrnoName, what);
}

/** Throws for a negative errno. */
export function check(result: number, what: string): void {
  if (result < 0) throw checkErrno(result, what);
}
