// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { IOMMU_DESTROY, IOMMU_IOAS_ALLOC } from '../abi/iommufd.ts';
import { Errno } from '../base/errno.ts';
import { LocalProcess } from '../kernel/local_process.ts';
import { Iommufd } from './iommufd.ts';
import { ioctlOps } from './ioctls.ts';

const BASE = 0x10_0000n;
const PAGE = 4096;

function setUp(writable = true) {
  const iommufd = new Iommufd();
  const process = new LocalProcess();
  const bytes = process.mm.map(BASE, 2 * PAGE, { writable });
  const view = new DataView(bytes.buffer);
  const file = iommufd.open();
  const ioctl = (cmd: number, arg = BASE) => file.ioctl(process, cmd, arg).value;
  return { iommufd, process, bytes, view, file, ioctl };
}

describe.each(ioctlOps.map((op) => [op.name, op] as const))('%s', (_name, op) => {
  it('refuses a structure that is shorter than its first version', () => {
    const { view, ioctl } = setUp();
    view.setUint32(0, op.minSize - 1, true);
    expect(ioctl(op.number)).toBe(-Errno.EINVAL);
  });

  it('refuses a longer structure whose tail is not zero, wherever in the tail', () => {
    const { view, bytes, ioctl } = setUp();
    const size = op.type.size + 64;
    view.setUint32(0, size, true);
    for (const at of [op.type.size, size - 1]) {
      bytes[at] = 1;
      expect(ioctl(op.number)).toBe(-Errno.E2BIG);
      bytes[at] = 0;
    }
  });

  it('answers a longer structure with a zero tail as it answers its own size', () => {
    const answer = (size: number): number => {
      const { view, ioctl } = setUp();
      view.setUint32(0, size, true);
      return ioctl(op.number);
    };
    expect(answer(op.type.size + 64)).toBe(answer(op.type.size));
  });

  it('reads a structure that ends with its mapping', () => {
    const at = BASE + BigInt(2 * PAGE - op.minSize);
    const { view, ioctl } = setUp();
    view.setUint32(2 * PAGE - op.minSize, op.minSize, true);
    expect(ioctl(op.number, at)).not.toBe(-Errno.EFAULT);
    expect(ioctl(op.number, at + 4n)).toBe(-Errno.EINVAL); // the size word there is 0
  });

  it('says EFAULT for a structure that is not there', () => {
    const { ioctl } = setUp();
    expect(ioctl(op.number, 0n)).toBe(-Errno.EFAULT);
    expect(ioctl(op.number, 2n ** 64n - 2n)).toBe(-Errno.EFAULT);
  });
});

describe('an ioctl number', () => {
  it('that nobody has is ENOTTY', () => {
    const { ioctl } = setUp();
    expect(ioctl(0x3b7f)).toBe(-Errno.ENOTTY);
    expect(ioctl(0x3ba1)).toBe(-Errno.ENOTTY);
    expect(ioctl(0x3b9f)).toBe(-Errno.ENOTTY);
  });

  it("in iommufd's range is looked up after the size word is read", () => {
    const { ioctl } = setUp();
    expect(ioctl(0x3b9f, 0n)).toBe(-Errno.EFAULT);
    expect(ioctl(0x3b7f, 0n)).toBe(-Errno.ENOTTY);
  });

  it('of another type is refused, after the size word', () => {
    const { ioctl } = setUp();
    expect(ioctl(0x3c80)).toBe(-Errno.ENOTTY);
  });
});

describe('what a call leaves', () => {
  it('is nothing where the answer of an allocation can not be written', () => {
    const { view, ioctl, iommufd } = setUp(false);
    view.setUint32(0, 12, true);
    expect(ioctl(IOMMU_IOAS_ALLOC)).toBe(-Errno.EFAULT);
    expect([...(iommufd.contexts[0]?.objects ?? [])]).toEqual([]);
  });

  it('is written back only as far as the client says its structure goes', () => {
    const { view, bytes, ioctl } = setUp();
    bytes.fill(0xee, 12, 64);
    view.setUint32(0, 12, true);
    expect(ioctl(IOMMU_IOAS_ALLOC)).toBe(0);
    expect(view.getUint32(8, true)).toBe(1);
    expect([...bytes.subarray(12, 64)].every((byte) => byte === 0xee)).toBe(true);
  });
});

describe('the sentence of a failure', () => {
  it('says what was wrong', () => {
    const { process, view, file } = setUp();
    view.setUint32(0, 8, true);
    view.setUint32(4, 77, true);
    const { why } = file.ioctl(process, IOMMU_DESTROY, BASE);
    expect(why).toBe('there is no object with id 77');
  });
});

describe('a recorded call', () => {
  it('holds the structure before and after', () => {
    const { process, view, file } = setUp();
    file.recording = true;
    view.setUint32(0, 12, true);
    const { call } = file.ioctl(process, IOMMU_IOAS_ALLOC, BASE);
    expect(call?.name).toBe('IOMMU_IOAS_ALLOC');
    expect([call?.before[8], call?.after[8]]).toEqual([0, 1]);
  });

  it('has no structure where none could be read', () => {
    const { process, file } = setUp();
    file.recording = true;
    const { call, value } = file.ioctl(process, IOMMU_IOAS_ALLOC, 0n);
    expect(value).toBe(-Errno.EFAULT);
    expect(call).toMatchObject({ name: 'IOMMU_IOAS_ALLOC', type: undefined });
  });
});
