// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Sim } from '../sim/sim.ts';
import { ErrnoError } from '../base/errno.ts';
import { Access, type AccessOps } from './access.ts';
import { Iommufd } from './iommufd.ts';
import { LocalClient } from './local_client.ts';

const MEMORY = 0x10_0000n;
const PAGE = 0x1000n;
const IOVA = 0x4000n;

function setUp(flags = 7) {
  const iommufd = new Iommufd({ sim: new Sim({ checkLocks: true }) });
  const client = new LocalClient(iommufd);
  const bytes = client.process.mm.map(MEMORY, 0x10000);
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const map = (iova: bigint, length: bigint, user_va = MEMORY) =>
    client.call('IOMMU_IOAS_MAP', { flags, ioas_id: ioas, user_va, length, iova });
  const unmap = (iova: bigint, length: bigint) =>
    client.tryCall('IOMMU_IOAS_UNMAP', { ioas_id: ioas, iova, length }).result;
  const access = (ops: Partial<AccessOps> = {}) => {
    const made = Access.create(client.file.context, {
      needsPinPages: true,
      unmap: () => undefined,
      ...ops,
    });
    made.attach(ioas);
    return made;
  };
  return { iommufd, client, bytes, ioas, map, unmap, access, mm: client.process.mm };
}

function code(body: () => unknown): string {
  try {
    body();
    return 'OK';
  } catch (error) {
    if (error instanceof ErrnoError) return error.code;
    throw error;
  }
}

describe('reading and writing through an access', () => {
  it('goes across maps that follow each other', () => {
    const { bytes, map, access, mm } = setUp();
    map(IOVA, PAGE);
    map(IOVA + PAGE, PAGE, MEMORY + 8n * PAGE);
    bytes[0xfff] = 1;
    bytes[0x8000] = 2;
    const data = new Uint8Array(2);
    access().copy(IOVA + PAGE - 1n, data, false, false, mm);
    expect([...data]).toEqual([1, 2]);
  });

  it('ends at a gap with ENOENT, after what lies before it', () => {
    const { bytes, map, access, mm } = setUp();
    map(IOVA, PAGE);
    const write = () => access().copy(IOVA + PAGE - 1n, new Uint8Array([9, 9]), true, false, mm);
    expect(code(write)).toBe('ENOENT');
    expect(bytes[0xfff]).toBe(9);
  });

  it('respects what the map allows, and the memory', () => {
    const { map, access, mm } = setUp(5);
    map(IOVA, PAGE);
    map(IOVA + PAGE, PAGE, 0xdead_0000n);
    const one = new Uint8Array(1);
    expect(code(() => access().copy(IOVA, one, true, false, mm))).toBe('EPERM');
    expect(code(() => access().copy(IOVA + PAGE, one, false, false, mm))).toBe('EFAULT');
    expect(code(() => access().copy(IOVA + PAGE, one, false, true, mm))).toBe('EFAULT');
  });

  it('reaches the same bytes on the slow path', () => {
    const { bytes, map, access, mm } = setUp();
    map(IOVA, 4n * PAGE);
    access().copy(IOVA + 100n, new Uint8Array(9000).fill(7), true, true, mm);
    expect(bytes.subarray(99, 9101).filter((byte) => byte === 7)).toHaveLength(9000);
    expect([bytes[99], bytes[9100]]).toEqual([0, 0]);
  });
});

describe('pinning through an access', () => {
  it('makes an unmap ask for the pages first', () => {
    const { map, unmap, access } = setUp();
    map(IOVA, 2n * PAGE);
    const asked: [bigint, bigint][] = [];
    const made = access({
      unmap: (iova, last) => {
        asked.push([iova, last]);
        made.unpin(IOVA, PAGE);
      },
    });
    made.pin(IOVA, PAGE, true);
    expect(unmap(IOVA, 2n * PAGE).value).toBe(0);
    expect(asked).toEqual([[IOVA, IOVA + 2n * PAGE - 1n]]);
  });

  it('that does not let go makes the unmap give up', () => {
    const { map, unmap, access } = setUp();
    map(IOVA, PAGE);
    access().pin(IOVA, PAGE, true);
    expect(unmap(IOVA, PAGE)).toMatchObject({ value: -35 });
  });

  it('survives the memory being unmapped by the client', () => {
    const { iommufd, bytes, map, access, mm } = setUp();
    bytes.fill(5);
    map(IOVA, PAGE);
    const [run] = access().pin(IOVA, PAGE, false);
    mm.unmap(MEMORY);
    const byte = new Uint8Array(1);
    expect(iommufd.memory.read(run?.frame ?? 0, 0, byte)).toBe(true);
    expect(byte[0]).toBe(5);
  });

  it('needs whole pages', () => {
    const { map, access } = setUp();
    map(IOVA, PAGE);
    const made = access();
    expect(code(() => made.pin(IOVA + 8n, 8n, false))).toBe('EINVAL');
    expect(code(() => made.pin(IOVA, 8n, false))).toBe('OK'); // the rest of the last page is the client's affair
  });

  it('leaves nothing pinned where a part fails', () => {
    const { iommufd, map, access } = setUp();
    map(IOVA, PAGE);
    map(IOVA + PAGE, PAGE, 0xdead_0000n);
    expect(code(() => access().pin(IOVA, 2n * PAGE, true))).toBe('EFAULT');
    expect(code(() => access().pin(IOVA, 3n * PAGE, true))).toBe('EFAULT');
    expect(iommufd.memory.pinCount).toBe(0);
  });
});

describe('an access', () => {
  it('raises the alignment of its address space for as long as it is there', () => {
    const { client, ioas, access } = setUp();
    const alignment = () =>
      client.tryCall('IOMMU_IOAS_IOVA_RANGES', { ioas_id: ioas }).reply.out_iova_alignment;
    const made = access();
    expect(alignment()).toBe(0x1000n);
    made.close();
    expect(alignment()).toBe(1n);
  });

  it('keeps the context open until it is closed too', () => {
    const { iommufd, client, access } = setUp();
    const made = access();
    client.close();
    expect(iommufd.contexts).toHaveLength(1);
    made.close();
    expect(iommufd.contexts).toHaveLength(0);
  });

  it('unpins everything when it moves to another address space', () => {
    const { iommufd, client, map, access } = setUp();
    map(IOVA, PAGE);
    const made = access({ unmap: () => made.unpin(IOVA, PAGE) });
    made.pin(IOVA, PAGE, false);
    made.replace(client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id);
    expect(iommufd.memory.pinCount).toBe(0);
  });
});
