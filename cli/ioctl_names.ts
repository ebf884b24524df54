// SPDX-License-Identifier: Apache-2.0
import { ioctlOps, vfioOps } from '../src/iommufd/ioctls.ts';
import { ioctlNumberText } from './strace/ioctl_number.ts';

const names = new Map([...ioctlOps, ...vfioOps].map(({ number, name }) => [number, name]));

/** The kernel's name of an ioctl number, or the number taken apart where no table of ours has it. */
export const ioctlName = (cmd: number): string => names.get(cmd) ?? ioctlNumberText(cmd);
