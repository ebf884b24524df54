// SPDX-License-Identifier: Apache-2.0
/** The locks of VFIO (vfio.h, vfio_pci_core.h), taken before those of iommufd. */
import { lockClass } from '../sim/lock.ts';

export const GROUP_LOCK = lockClass('vfio_group.group_lock', 10);
export const DEV_SET_LOCK = lockClass('vfio_device_set.lock', 20);
export const IGATE_LOCK = lockClass('vfio_pci_core_device.igate', 30);
