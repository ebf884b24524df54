// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';

/** Pages charged to an address space. Linux shows both in /proc/PID/status. */
export interface LockedMemory {
  /** `VmLck`: pages charged in the accounting mode of VFIO (to the address space). */
  lockedPages: number;
  /** `VmPin`: every page pinned for long, whatever the accounting mode. */
  pinnedPages: number;
}

/** A user by real uid: `lockedPages` is Linux's `user_struct.locked_vm`, shared by all processes of the user. */
export interface User {
  readonly uid: number;
  lockedPages: number;
}

/** Who pays for pinned pages. Source: `IOPT_PAGES_ACCOUNT_*` of iommufd. */
export const AccountMode = {
  /** Nobody: the process had CAP_IPC_LOCK when it mapped. */
  NONE: 0,
  /** The user, as io_uring does: the default. */
  USER: 1,
  /** The address space, as VFIO did. */
  MM: 2,
} as const;
export type AccountMode = (typeof AccountMode)[keyof typeof AccountMode];

/** The three parties of a charge: who mapped, for which address space, on whose account. */
export interface Payer {
  readonly mm: { readonly locked: LockedMemory; readonly alive: boolean };
  readonly user: User;
  readonly process: { memlockPages(): number };
}

/**
 * Charges `pages` in a mode; every mode counts them as pinned.
 * @returns 0, or, with nothing charged, -ENOMEM where the limit of the process that mapped (RLIMIT_MEMLOCK) does not
 * allow it and -EINVAL where the address space to charge is gone.
 */
export function charge(payer: Payer, mode: AccountMode, pages: number): number {
  if (mode === AccountMode.MM && !payer.mm.alive) return -Errno.EINVAL;
  if (mode !== AccountMode.NONE) {
    const account = mode === AccountMode.USER ? payer.user : payer.mm.locked;
    if (account.lockedPages + pages > payer.process.memlockPages()) return -Errno.ENOMEM;
    account.lockedPages += pages;
  }
  payer.mm.locked.pinnedPages += pages;
  return 0;
}

/** Takes back a charge. */
export function uncharge(payer: Payer, mode: AccountMode, pages: number): void {
  if (mode === AccountMode.USER) payer.user.lockedPages -= pages;
  if (mode === AccountMode.MM) payer.mm.locked.lockedPages -= pages;
  payer.mm.locked.pinnedPages -= pages;
}
