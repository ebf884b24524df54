// SPDX-License-Identifier: Apache-2.0
import type { Device } from '../host/device.ts';
import type { Iommufd } from '../src/iommufd/iommufd.ts';

const MISC_MAJOR = 10;

/**
 * The device nodes that a program finds. Modes are those that the kernel gives before udev changes them. The minor of
 * /dev/iommu is handed out when its module is loaded; 125 is what a machine with few misc devices shows.
 */
export const devicesOf = (iommufd: Iommufd): readonly Device[] => [
  {
    path: '/dev/iommu',
    mode: 0o660,
    rdev: { major: MISC_MAJOR, minor: 125 },
    open: () => iommufd.open('/dev/iommu'),
  },
  {
    // The VFIO container, as a kernel with IOMMUFD_VFIO_CONTAINER serves it.
    path: '/dev/vfio/vfio',
    mode: 0o666,
    rdev: { major: MISC_MAJOR, minor: 196 },
    open: () => iommufd.openContainer(),
  },
];
