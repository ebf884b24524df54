// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import * as c from '../../src/abi/struct.ts';
import type { IoctlResult } from '../../src/kernel/file.ts';
import { colourStyle, plainStyle } from '../style.ts';
import { ioctlText, resultText } from './ioctl.ts';
import { ioctlNumberText } from './ioctl_number.ts';

const alloc = c.struct('iommu_ioas_alloc', {
  size: c.u32,
  flags: c.hex(c.u32),
  out_ioas_id: c.id,
}) as unknown as c.StructType<unknown>;

const words = (...values: number[]) => new Uint8Array(Uint32Array.from(values).buffer);

const line = (cmd: number, arg: bigint, result: IoctlResult) =>
  ioctlText({ fd: 3, cmd, arg, result }, plainStyle);

describe('an ioctl', () => {
  it('shows its structure, what was written and the result', () => {
    const call = {
      name: 'IOMMU_IOAS_ALLOC',
      type: alloc,
      before: words(12, 0, 0),
      after: words(12, 0, 1),
    };
    expect(line(0x3b81, 0x7000n, { value: 0, why: '', call })).toBe(
      'ioctl(3, IOMMU_IOAS_ALLOC, {size=12, flags=0} => {out_ioas_id=1}) = 0',
    );
  });

  it('shows errno and the sentence where it failed', () => {
    const bytes = words(12, 8, 0);
    const call = { name: 'IOMMU_IOAS_ALLOC', type: alloc, before: bytes, after: bytes };
    const result = { value: -95, why: 'flags 0x8 are not known', call };
    expect(line(0x3b81, 0x7000n, result)).toBe(
      'ioctl(3, IOMMU_IOAS_ALLOC, {size=12, flags=0x8}) = -1 EOPNOTSUPP (flags 0x8 are not known)',
    );
  });

  it('shows the address of a structure that could not be read', () => {
    const none = new Uint8Array(0);
    const call = { name: 'IOMMU_IOAS_ALLOC', type: alloc, before: none, after: none };
    const result = { value: -14, why: 'the structure at 0x10 is not readable', call };
    expect(line(0x3b81, 0x10n, result)).toBe(
      'ioctl(3, IOMMU_IOAS_ALLOC, 0x10) = -1 EFAULT (the structure at 0x10 is not readable)',
    );
    expect(line(0x3b81, 0n, result)).toContain('IOMMU_IOAS_ALLOC, NULL)');
  });

  it('names the plain argument of VFIO calls', () => {
    const none = new Uint8Array(0);
    const call = { name: 'VFIO_SET_IOMMU', type: undefined, before: none, after: none };
    expect(line(0x3b66, 3n, { value: 0, why: '', call })).toBe(
      'ioctl(3, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) = 0',
    );
    expect(line(0x3b66, 77n, { value: 0, why: '', call })).toContain('VFIO_SET_IOMMU, 0x4d)');
  });

  it('takes a number that no table names apart', () => {
    const result = { value: -25, why: '', call: undefined };
    expect(line(0x3bf0, 0x10n, result)).toBe(
      'ioctl(3, _IOC(_IOC_NONE, 0x3b, 0xf0, 0), 0x10) = -1 ENOTTY',
    );
  });

  it('decodes direction and size of a number, bit 31 included', () => {
    expect(ioctlNumberText(0x80045430)).toBe('_IOC(_IOC_READ, 0x54, 0x30, 0x4)');
    expect(ioctlNumberText(0xc0105512)).toBe('_IOC(_IOC_READ|_IOC_WRITE, 0x55, 0x12, 0x10)');
    expect(ioctlNumberText(-0x3fefaaee)).toBe('_IOC(_IOC_READ|_IOC_WRITE, 0x55, 0x12, 0x10)');
  });
});

describe('a result', () => {
  it('sets off errno in red and the sentence dim, on a terminal', () => {
    expect(resultText({ value: -22, why: 'no' }, colourStyle)).toBe(
      '-1 \u001b[31mEINVAL\u001b[0m \u001b[2m(no)\u001b[0m',
    );
  });

  it('is the value where it is not negative', () => {
    expect(resultText({ value: 5, why: '' }, plainStyle)).toBe('5');
  });
});
