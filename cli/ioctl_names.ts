// SPDX-License-Identifier: Apache-2.0
import { ioctlOps, vfioOps } from '../src/iommufd/ioctls.ts';
import type { DeviceFile } from '../src/kernel/file.ts';
import { VfioDeviceFile } from '../src/vfio/device_file.ts';
import { deviceOps } from '../src/vfio/ioctls.ts';
import { ioctlNumberText } from './strace/ioctl_number.ts';

const namesOf = (ops: readonly { readonly number: number; readonly name: string }[]) =>
  new Map(ops.map(({ number, name }) => [number, name]));

// Containers and devices have the same numbers for different things.
const names = namesOf([...ioctlOps, ...vfioOps]);
const deviceNames = namesOf(deviceOps);

/** The kernel's name of an ioctl number on a file, or the number taken apart where no table of ours has it. */
export const ioctlName = (cmd: number, file: DeviceFile): string =>
  (file instanceof VfioDeviceFile ? deviceNames : names).get(cmd) ?? ioctlNumberText(cmd);
