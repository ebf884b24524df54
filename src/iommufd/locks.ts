// SPDX-License-Identifier: Apache-2.0
/**
 * The locks of iommufd, in the order in which they are taken (Linux's iommufd_private.h and device.c). The group's own
 * mutex (iommu/group.ts) comes between those of iommufd's group and of the page table.
 */
import { type Lock, lockClass, type RwSem } from '../sim/lock.ts';

export const ACCESS_LOCK = lockClass('iommufd_access.ioas_lock', 100);
export const IOAS_LOCK = lockClass('iommufd_ioas.mutex', 200);
export const IGROUP_LOCK = lockClass('iommufd_group.lock', 300);
export const FAULT_LOCK = lockClass('iommufd_fault.mutex', 400);
export const VEVENTQS_LOCK = lockClass('iommufd_viommu.veventqs_rwsem', 560);
export const DOMAINS_LOCK = lockClass('io_pagetable.domains_rwsem', 600);
/** Several at once only in CHANGE_PROCESS, in order of the ids of their address spaces. */
export const IOVA_LOCK = lockClass('io_pagetable.iova_rwsem', 700, { nestable: true });
export const PAGES_LOCK = lockClass('iopt_pages.mutex', 800);

/** Runs `body` with a mutex held. */
export function locked<R>(lock: Lock & { lock(): void; unlock(): void }, body: () => R): R {
  lock.lock();
  try {
    return body();
  } finally {
    lock.unlock();
  }
}

/** Runs `body` with a read-write lock held for reading. */
export function reading<R>(lock: RwSem, body: () => R): R {
  lock.downRead();
  try {
    return body();
  } finally {
    lock.upRead();
  }
}

/** Runs `body` with a read-write lock held for writing. */
export function writing<R>(lock: RwSem, body: () => R): R {
  lock.downWrite();
  try {
    return body();
  } finally {
    lock.upWrite();
  }
}
