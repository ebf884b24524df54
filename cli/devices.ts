// SPDX-License-Identifier: Apache-2.0
import type { Device, Served } from '../host/device.ts';
import { sysfsTree } from '../host/sysfs_tree.ts';
import type { Iommufd } from '../src/iommufd/iommufd.ts';
import type { Machine } from '../src/machine/machine.ts';
import { machineState } from '../src/machine/state.ts';
import { engineTimers } from './engine_timers.ts';

const MISC_MAJOR = 10;
/** Linux takes free ones, from 254 down: these are what a small machine shows. */
const VFIO_GROUP_MAJOR = 253;
const VFIO_MAJOR = 252;

/**
 * The device nodes that a program finds without devices of VFIO. Modes are those that the kernel gives before udev changes them.
 * The minor of /dev/iommu is handed out when its module is loaded; 125 is what a machine with few misc devices shows.
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

/** Everything that a program finds of a machine: nodes, VFIO devices, sysfs. vfio-pci is the driver of every PCI function. */
export function serve(machine: Machine): Served {
  const { cdevs, groups } = machine.vfio;
  const devices = [
    ...devicesOf(machine.iommufd),
    ...cdevs.map((cdev): Device => {
      return {
        path: cdev.path,
        mode: 0o600,
        rdev: { major: VFIO_MAJOR, minor: cdev.minor },
        open: (task) => cdev.openDevice(task),
      };
    }),
    ...groups.map((group): Device => {
      return {
        path: group.path,
        mode: 0o600,
        rdev: { major: VFIO_GROUP_MAJOR, minor: group.minor },
        open: () => group.open(),
      };
    }),
  ];
  const functions = cdevs.map(({ name, minor, device }) => {
    const { fn } = device.pci;
    const isIntel = machine.translationStructOf(fn) !== undefined;
    const translationStruct = isIntel ? () => machine.translationStructOf(fn) ?? '' : undefined;
    return { fn, cdev: name, major: VFIO_MAJOR, minor, translationStruct };
  });
  const tree = sysfsTree(
    functions,
    groups.map(({ name, minor }) => ({ name, major: VFIO_GROUP_MAJOR, minor })),
    devices.map(({ path }) => path),
  );
  const { sim, faults } = machine.iommufd;
  const timers = engineTimers(sim);
  return { devices, tree, faults, state: () => machineState(machine), timers };
}
