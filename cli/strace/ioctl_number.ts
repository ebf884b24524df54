// SPDX-License-Identifier: Apache-2.0

const directions = ['_IOC_NONE', '_IOC_WRITE', '_IOC_READ', '_IOC_READ|_IOC_WRITE'] as const;

/** A number that no table names, taken apart: `_IOC(_IOC_NONE, 0x3b, 0xf0, 0)`. Source: asm-generic/ioctl.h. */
export function ioctlNumberText(cmd: number): string {
  const direction = directions[(cmd >>> 30) & 3] ?? '_IOC_NONE';
  const size = (cmd >>> 16) & 0x3fff;
  const type = `0x${((cmd >>> 8) & 0xff).toString(16)}`;
  const number = `0x${(cmd & 0xff).toString(16)}`;
  return `_IOC(${direction}, ${type}, ${number}, ${size === 0 ? '0' : `0x${size.toString(16)}`})`;
}
