// SPDX-License-Identifier: Apache-2.0
/**
 * How an ioctl number is made of direction, size, type and number. Source: Linux asm-generic/ioctl.h, which x86-64
 * and arm64 use as it is. iommufd and VFIO carry neither direction nor size in their numbers: the size is the first
 * field of the structure, so that a structure can grow without a new number.
 */

export const _IOC_NONE = 0;
export const _IOC_WRITE = 1;
export const _IOC_READ = 2;

const NR_SHIFT = 0;
const TYPE_SHIFT = 8;
const SIZE_SHIFT = 16;
const DIR_SHIFT = 30;

/** The unsigned 32-bit number of an ioctl; `size` is in bytes, at most 16383. */
export function _IOC(dir: number, type: number, nr: number, size: number): number {
  return (
    ((dir << DIR_SHIFT) | (size << SIZE_SHIFT) | (type << TYPE_SHIFT) | (nr << NR_SHIFT)) >>> 0
  );
}

export const _IO = (type: number, nr: number): number => _IOC(_IOC_NONE, type, nr, 0);
export const _IOR = (type: number, nr: number, size: number): number =>
  _IOC(_IOC_READ, type, nr, size);
export const _IOW = (type: number, nr: number, size: number): number =>
  _IOC(_IOC_WRITE, type, nr, size);
export const _IOWR = (type: number, nr: number, size: number): number =>
  _IOC(_IOC_READ | _IOC_WRITE, type, nr, size);

export const _IOC_DIR = (cmd: number): number => (cmd >>> DIR_SHIFT) & 0x3;
export const _IOC_SIZE = (cmd: number): number => (cmd >>> SIZE_SHIFT) & 0x3fff;
export const _IOC_TYPE = (cmd: number): number => (cmd >>> TYPE_SHIFT) & 0xff;
export const _IOC_NR = (cmd: number): number => (cmd >>> NR_SHIFT) & 0xff;

/** The number of an ioctl without direction and size, as all of iommufd's and VFIO's are. */
export const ioctlNumber = _IO;
