// SPDX-License-Identifier: Apache-2.0
import { vfio_extension } from '../../src/abi/vfio.ts';
import { errnoName } from '../../src/base/errno.ts';
import type { IoctlResult } from '../../src/kernel/file.ts';
import type { Style } from '../style.ts';
import { ioctlNumberText } from './ioctl_number.ts';
import { structureText } from './structure.ts';
import { enumText } from './value.ts';

const takesExtension = new Set(['VFIO_CHECK_EXTENSION', 'VFIO_SET_IOMMU']);

/** An argument that is not a structure: one of VFIO's numbers by name, else as strace shows a pointer. */
export function argumentText(name: string, arg: bigint): string {
  if (takesExtension.has(name)) return enumText(arg, vfio_extension);
  return arg === 0n ? 'NULL' : `0x${arg.toString(16)}`;
}

/** `-1 EINVAL (iova 0x1800 is not aligned to 0x1000)`, or the value that was returned. */
export function resultText(result: Pick<IoctlResult, 'value' | 'why'>, style: Style): string {
  if (result.value >= 0) return `${result.value}`;
  const name = style.error(errnoName(-result.value));
  return result.why === '' ? `-1 ${name}` : `-1 ${name} ${style.dim(`(${result.why})`)}`;
}

/** One ioctl of a program, as it made it. */
export interface IoctlCall {
  readonly fd: number;
  readonly cmd: number;
  readonly arg: bigint;
  readonly result: IoctlResult;
}

/** One ioctl on one line without its end: `ioctl(3, IOMMU_IOAS_ALLOC, {size=12, flags=0} => {out_ioas_id=1}) = 0`. */
export function ioctlText({ fd, cmd, arg, result }: IoctlCall, style: Style): string {
  const { call } = result;
  const name = call?.name ?? ioctlNumberText(cmd);
  let argument = call?.argument ?? argumentText(name, arg);
  // With no bytes recorded the structure could not be read, and its address is all there is to show.
  if (call?.type && call.before.length > 0) {
    const { type, before, after, arrays } = call;
    const text = structureText({ type, before, after, arrays, succeeded: result.value >= 0 });
    argument = text.written === '' ? text.passed : `${text.passed} => ${text.written}`;
  }
  return `ioctl(${fd}, ${name}, ${argument}) = ${resultText(result, style)}`;
}
