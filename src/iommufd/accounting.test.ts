// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import {
  IOMMU_TEST_OP_ACCESS_PAGES,
  IOMMU_TEST_OP_CREATE_ACCESS,
  IOMMU_TEST_OP_DESTROY_ACCESS_PAGES,
} from '../abi/iommufd_test.ts';
import { Capability } from '../kernel/task.ts';
import { LocalProcess } from '../kernel/local_process.ts';
import { LocalFile } from '../memory/local_mm.ts';
import { Iommufd } from './iommufd.ts';
import { LocalClient } from './local_client.ts';

const MEMORY = 0x10_0000n;
const PAGE = 0x1000n;
const SCRATCH = 0x7fff_0000_0000n;

/** A client without CAP_IPC_LOCK that may lock 4 pages, with 8 pages of a file mapped at IOVA 0x10000. */
function setUp(options: { vfioMode?: boolean; capable?: boolean } = {}) {
  const capabilities = [Capability.SYS_RESOURCE, ...(options.capable ? [Capability.IPC_LOCK] : [])];
  const process = new LocalProcess({
    capabilities,
    memlockPages: 4,
    user: { uid: 1000, lockedPages: 0 },
  });
  const client = new LocalClient(new Iommufd(), process);
  process.mm.map(MEMORY, 0x10000);
  if (options.vfioMode) client.call('IOMMU_OPTION', { option_id: 0, op: 0, val64: 1n });
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const fd = process.add({ kind: 'memory', memory: new LocalFile(0x10000) });
  client.call('IOMMU_IOAS_MAP_FILE', {
    flags: 7,
    ioas_id: ioas,
    fd,
    length: 8n * PAGE,
    iova: 0x10000n,
  });
  const access = client.call('IOMMU_TEST_CMD', {
    op: IOMMU_TEST_OP_CREATE_ACCESS,
    id: ioas,
    u: { create_access: { flags: 1 } },
  }).u.create_access.out_access_fd;
  const pin = (page: bigint, pages: bigint) =>
    client.tryCall('IOMMU_TEST_CMD', {
      op: IOMMU_TEST_OP_ACCESS_PAGES,
      id: access,
      u: { access_pages: { iova: 0x10000n + page * PAGE, length: pages * PAGE } },
    });
  const unpin = (item: number) =>
    client.call('IOMMU_TEST_CMD', {
      op: IOMMU_TEST_OP_DESTROY_ACCESS_PAGES,
      id: access,
      u: { destroy_access_pages: { access_pages_id: item } },
    });
  const counts = (of: LocalProcess = process) => ({
    user: of.user.lockedPages,
    locked: of.mm.locked.lockedPages,
    pinned: of.mm.locked.pinnedPages,
  });
  return { client, process, ioas, pin, unpin, counts };
}

describe('pinned pages are charged', () => {
  it('to the user, and shown as pinned', () => {
    const { pin, unpin, counts } = setUp();
    const { reply } = pin(0n, 4n);
    expect(counts()).toEqual({ user: 4, locked: 0, pinned: 4 });
    unpin(reply.u.access_pages.out_access_pages_id);
    expect(counts()).toEqual({ user: 0, locked: 0, pinned: 0 });
  });

  it('to the address space in the mode of VFIO', () => {
    const { pin, counts } = setUp({ vfioMode: true });
    pin(0n, 4n);
    expect(counts()).toEqual({ user: 0, locked: 4, pinned: 4 });
  });

  it('to nobody where the process may lock memory, but still counted', () => {
    const { pin, counts } = setUp({ capable: true });
    expect(pin(0n, 8n).result.value).toBe(0);
    expect(counts()).toEqual({ user: 0, locked: 0, pinned: 8 });
  });

  it('once, however many hold them', () => {
    const { pin, counts } = setUp();
    pin(0n, 3n);
    pin(1n, 2n);
    expect(counts().user).toBe(3);
  });

  it('up to the limit, where the call fails with nothing charged', () => {
    const { pin, counts } = setUp();
    pin(0n, 3n);
    const { result } = pin(2n, 3n);
    expect(result.value).toBe(-12);
    expect(result.why).toContain('user 1000 has 3 locked of 4 pages');
    expect(counts()).toEqual({ user: 3, locked: 0, pinned: 3 });
  });
});

describe('IOMMU_IOAS_CHANGE_PROCESS', () => {
  const other = (memlockPages: number) => {
    const process = new LocalProcess({
      capabilities: [],
      memlockPages,
      user: { uid: 1001, lockedPages: 0 },
    });
    process.mm.map(SCRATCH, 4096);
    return process;
  };

  it('moves the charge to the calling process', () => {
    const { client, pin, counts, process } = setUp();
    pin(0n, 4n);
    const child = other(4);
    client.call('IOMMU_IOAS_CHANGE_PROCESS', {}, child);
    expect(counts(child)).toEqual({ user: 4, locked: 0, pinned: 4 });
    expect(counts(process)).toEqual({ user: 0, locked: 0, pinned: 0 });
  });

  it('changes nothing where the new process may not lock so much', () => {
    const { client, pin, counts, process } = setUp();
    pin(0n, 4n);
    const child = other(3);
    expect(() => client.call('IOMMU_IOAS_CHANGE_PROCESS', {}, child)).toThrow(/RLIMIT_MEMLOCK/);
    expect(counts(child).pinned).toBe(0);
    expect(counts(process)).toEqual({ user: 4, locked: 0, pinned: 4 });
  });

  it('refuses maps of memory, which can not change hands', () => {
    const { client, ioas } = setUp();
    client.call('IOMMU_IOAS_MAP', { flags: 6, ioas_id: ioas, user_va: MEMORY, length: PAGE });
    expect(client.tryCall('IOMMU_IOAS_CHANGE_PROCESS', {}).result.value).toBe(-22);
  });
});
