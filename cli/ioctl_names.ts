// SPDX-License-Identifier: Apache-2.0
import { ioctlOps, vfioOps } from '../src/iommufd/ioctls.ts';
import type { DeviceFile } from '../src/kernel/file.ts';
import { VfioDeviceFile } from '../src/vfio/device_file.ts';
import { VfioGroupFile } from '../src/vfio/group_file.ts';
import { groupOps } from '../src/vfio/group_ioctls.ts';
import { deviceOps } from '../src/vfio/ioctls.ts';
import { ioctlNumberText } from './strace/ioctl_number.ts';

const namesOf = (ops: readonly { readonly number: number; readonly name: string }[]) =>
  new Map(ops.map(({ number, name }) => [number, name]));

// Containers and devices have the same numbers for different things.
const names = namesOf([...ioctlOps, ...vfioOps]);
const deviceNames = namesOf(deviceOps);
const groupNames = namesOf(groupOps);

/** The kernel's name of an ioctl number on a file, or the number taken apart where no table of ours has it. */
export const ioctlName = (cmd: number, file: DeviceFile): string =>
  namesFor(file).get(cmd) ?? ioctlNumberText(cmd);

function namesFor(file: DeviceFile): ReadonlyMap<number, string> {
  if (file instanceof VfioDeviceFile) return deviceNames;
  return file instanceof VfioGroupFile ? groupNames : names;
}
