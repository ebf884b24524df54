// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { IOMMU_IOAS_ALLOC, IOMMU_IOAS_MAP, iommu_ioas_map } from '../abi/iommufd.ts';
import { Errno } from '../base/errno.ts';
import { LocalProcess } from '../kernel/local_process.ts';
import { Iommufd } from './iommufd.ts';
import { LocalClient } from './local_client.ts';

const READ_WRITE = 6;
const FIXED = 1;
const U64_MAX = 2n ** 64n - 1n;
const MEMORY = 0x10_0000n;
const PAGE = 0x1000n;

function setUp() {
  const iommufd = new Iommufd();
  const client = new LocalClient(iommufd, new LocalProcess());
  const memory = client.process.mm.map(MEMORY, 0x10000);
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const map = (iova: bigint, length = PAGE, user_va = MEMORY) =>
    client.call('IOMMU_IOAS_MAP', {
      flags: READ_WRITE | FIXED,
      ioas_id: ioas,
      user_va,
      length,
      iova,
    });
  const unmap = (iova: bigint, length: bigint) =>
    client.call('IOMMU_IOAS_UNMAP', { ioas_id: ioas, iova, length }).length;
  return { iommufd, client, memory, ioas, map, unmap };
}

/** The errno name a body fails with. */
function failure(body: () => unknown): string {
  try {
    body();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'OK';
}

describe('an I/O address space', () => {
  it('gets the lowest free id, from 1', () => {
    const { client, ioas } = setUp();
    expect(ioas).toBe(1);
    const second = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    expect(second).toBe(2);
    client.call('IOMMU_DESTROY', { id: ioas });
    expect(client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id).toBe(1);
  });

  it('chooses the second page first, keeping the offset in the page', () => {
    const { client, ioas } = setUp();
    const map = (user_va: bigint, length: bigint) =>
      client.call('IOMMU_IOAS_MAP', { flags: READ_WRITE, ioas_id: ioas, user_va, length }).iova;
    expect(map(MEMORY, PAGE)).toBe(0x1000n);
    expect(map(MEMORY + 0x123n, 0x10n)).toBe(0x2123n);
  });

  it('refuses a fixed map where one is', () => {
    const { map } = setUp();
    map(0x5000n);
    expect(failure(() => map(0x5000n))).toBe('EEXIST');
  });

  it('says which map is in the way', () => {
    const { map } = setUp();
    map(0x5000n);
    expect(() => map(0x5000n)).toThrow('[0x5000, 0x5fff] meets the map at [0x5000, 0x5fff]');
  });

  it('unmaps whole maps only', () => {
    const { map, unmap } = setUp();
    map(0x5000n, 2n * PAGE);
    expect(failure(() => unmap(0x5000n, PAGE))).toBe('ENOENT');
    expect(unmap(0n, 0x10000n)).toBe(2n * PAGE);
  });

  it('answers an unmap of everything with 0 where there is nothing', () => {
    const { unmap } = setUp();
    expect(unmap(0n, U64_MAX)).toBe(0n);
    expect(failure(() => unmap(0n, U64_MAX - 1n))).toBe('ENOENT');
  });

  it('maps lazily: memory that is not there is found out at the first use', () => {
    const { map } = setUp();
    expect(failure(() => map(0x5000n, PAGE, 0xdead_0000n))).toBe('OK');
  });

  it('leaves a map done when its answer can not be written', () => {
    const { client, ioas, unmap } = setUp();
    const structure = client.process.mm.map(0x7000_0000n, 0x1000, { writable: false });
    iommu_ioas_map.write(new DataView(structure.buffer), 0, {
      size: iommu_ioas_map.size,
      flags: READ_WRITE,
      ioas_id: ioas,
      __reserved: 0,
      user_va: MEMORY,
      length: PAGE,
      iova: 0n,
    });
    const result = client.file.ioctl(client.process, IOMMU_IOAS_MAP, 0x7000_0000n);
    expect(result.value).toBe(-Errno.EFAULT);
    expect(unmap(0n, U64_MAX)).toBe(PAGE);
  });

  it('takes back its id when that can not be written', () => {
    const { client } = setUp();
    const structure = client.process.mm.map(0x7000_0000n, 0x1000, { writable: false });
    new DataView(structure.buffer).setUint32(0, 12, true);
    const result = client.file.ioctl(client.process, IOMMU_IOAS_ALLOC, 0x7000_0000n);
    expect(result.value).toBe(-Errno.EFAULT);
    expect(client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id).toBe(2);
  });
});

describe('IOMMU_IOAS_COPY', () => {
  it('shows the same pages at another iova, without the right to write where the source has none', () => {
    const { client, ioas } = setUp();
    const flags = FIXED | 4;
    client.call('IOMMU_IOAS_MAP', {
      flags,
      ioas_id: ioas,
      user_va: MEMORY,
      length: PAGE,
      iova: 0x1000n,
    });
    const copy = (extra: number) =>
      client.call('IOMMU_IOAS_COPY', {
        flags: flags | extra,
        dst_ioas_id: ioas,
        src_ioas_id: ioas,
        length: PAGE,
        dst_iova: 0x8000n,
        src_iova: 0x1000n,
      });
    expect(failure(() => copy(2))).toBe('EPERM');
    expect(copy(0).dst_iova).toBe(0x8000n);
  });
});

describe('the last close', () => {
  it('leaves nothing behind', () => {
    const { iommufd, client, map } = setUp();
    map(0x5000n);
    expect(iommufd.contexts).toHaveLength(1);
    client.close();
    expect(iommufd.contexts).toHaveLength(0);
    expect(iommufd.memory.pinCount).toBe(0);
  });
});
