// SPDX-License-Identifier: Apache-2.0
/** The test driver's user of an address space: a descriptor that pins, reads and writes (selftest.c). */
import {
  MOCK_ACCESS_RW_SLOW_PATH,
  MOCK_ACCESS_RW_WRITE,
  MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES,
  MOCK_FLAGS_ACCESS_SYZ,
  MOCK_FLAGS_ACCESS_WRITE,
} from '../abi/iommufd_test.ts';
import { Errno, ErrnoError } from '../base/errno.ts';
import { withCleanup } from '../base/cleanup.ts';
import type { DeviceFile, IoctlResult } from '../kernel/file.ts';
import type { Task } from '../kernel/task.ts';
import { isBadPage } from '../memory/client_memory.ts';
import { FRAMES_PER_PAGE, type FrameRun } from '../memory/frame.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { Access, type AccessOps } from './access.ts';
import { checkFlags, copyFromUser, copyToUser } from './call.ts';
import { hex, IOVA_LAST } from './iova.ts';
import { syzkallerIova } from './selftest_syz.ts';
import type { TestCall } from './selftest.ts';

const MAX_LENGTH = 16n * 1024n * 1024n;
const PAGE_MASK = BigInt(PAGE_SIZE - 1);

/** A range that an access keeps pinned. */
interface Item {
  readonly id: number;
  readonly iova: bigint;
  readonly length: bigint;
}

/** The descriptor; it pins only where it was created to. */
export class SelftestAccess implements DeviceFile, AccessOps {
  readonly name = 'anon_inode:[iommufd_test_staccess]';
  recording = false;
  readonly needsPinPages: boolean;
  access: Access | undefined = undefined;
  private items: Item[] = [];
  private nextId = 0;

  constructor(needsPinPages: boolean) {
    this.needsPinPages = needsPinPages;
  }

  add(iova: bigint, length: bigint): number {
    const id = this.nextId++;
    this.items.push({ id, iova, length });
    return id;
  }

  /** Unpins an item; ENOENT where there is none (any more). */
  remove(id: number): void {
    const item = this.items.find((candidate) => candidate.id === id);
    if (!item)
      throw new ErrnoError(
        'ENOENT',
        `the access holds no pages ${id}: unpinned, or unmapped meanwhile`,
      );
    this.drop(item);
  }

  unmap(iova: bigint, last: bigint): void {
    for (const item of [...this.items]) {
      if (iova <= item.iova + item.length - 1n && last >= item.iova) this.drop(item);
    }
  }

  /** Takes an item off the list without unpinning it. */
  forget(id: number): void {
    this.items = this.items.filter((item) => item.id !== id);
  }

  private drop(item: Item): void {
    this.forget(item.id);
    this.access?.unpin(item.iova, item.length);
  }

  ioctl(): IoctlResult {
    return { value: -Errno.ENOTTY, why: 'an access has no ioctls of its own', call: undefined };
  }

  release(): void {
    if (!this.access) return;
    this.unmap(0n, IOVA_LAST);
    this.access.close();
    this.access = undefined;
  }
}

/** The access behind a descriptor number; whatever else it is, closed ones included, is EBADFD. */
function accessOf(task: Task, fd: number): { file: SelftestAccess; access: Access } {
  const open = task.files.get(fd | 0);
  if (open?.kind === 'device' && open.file instanceof SelftestAccess && open.file.access) {
    return { file: open.file, access: open.file.access };
  }
  throw new ErrnoError('EBADFD', `descriptor ${fd | 0} is no access of the test driver`);
}

/** IOMMU_TEST_OP_CREATE_ACCESS */
export function createAccess({ call, cmd, arg }: TestCall<'create_access'>): void {
  checkFlags(arg.flags, MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
  const file = new SelftestAccess((arg.flags & MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES) !== 0);
  const { files } = call.task;
  withCleanup((cleanup) => {
    const fd = reserveDescriptor(call.task);
    cleanup.defer(() => files.cancel(fd));
    const access = Access.create(call.context, file);
    cleanup.defer(() => access.close());
    access.attach(cmd.id);
    arg.out_access_fd = fd;
    call.respond();
    file.access = access;
    files.install(fd, file, { cloexec: true });
  });
}

function reserveDescriptor(task: Task): number {
  try {
    return task.files.reserve();
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    throw new ErrnoError('ENOMEM', error.message);
  }
}

/** IOMMU_TEST_OP_DESTROY_ACCESS_PAGES */
export function destroyAccessPages({ call, cmd, arg }: TestCall<'destroy_access_pages'>): void {
  accessOf(call.task, cmd.id).file.remove(arg.access_pages_id);
}

/** IOMMU_TEST_OP_ACCESS_REPLACE_IOAS */
export function replaceIoas({ call, cmd, arg }: TestCall<'access_replace_ioas'>): void {
  accessOf(call.task, cmd.id).access.replace(arg.ioas_id);
}

/** IOMMU_TEST_OP_ACCESS_PAGES: pins, and compares with the pages at `uptr` where it is not 0. */
export function accessPages({ call, cmd, arg }: TestCall<'access_pages'>): void {
  const { flags, length, uptr } = arg;
  if (length > MAX_LENGTH) throw new ErrnoError('ENOMEM', `length ${hex(length)} exceeds 16 MiB`);
  checkFlags(flags, MOCK_FLAGS_ACCESS_WRITE | MOCK_FLAGS_ACCESS_SYZ);
  const { file, access } = accessOf(call.task, cmd.id);
  if (!file.needsPinPages) {
    throw new ErrnoError(
      'EOPNOTSUPP',
      'the access was created without MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES',
    );
  }
  const iova = flags & MOCK_FLAGS_ACCESS_SYZ ? convert(access, arg.iova) : arg.iova;
  const first = iova & ~PAGE_MASK;
  const npages =
    Number((BigInt.asUintN(64, iova + length + PAGE_MASK) & ~PAGE_MASK) - first) / PAGE_SIZE;
  withCleanup((cleanup) => {
    const runs = access.pin(iova, length, (flags & MOCK_FLAGS_ACCESS_WRITE) !== 0);
    cleanup.defer(() => access.unpin(iova, length));
    if (uptr) checkPages(call, uptr - (iova - first), npages, runs);
    const id = file.add(iova, length);
    arg.out_access_pages_id = id;
    cleanup.defer(() => file.forget(id));
    call.respond();
  });
}

/**
 * Compares pinned pages with those at an address of the caller, one after the other: EBADE at the first that is not the same,
 * EFAULT at the first that can not be found, EOVERFLOW at one that ends with the address space.
 */
function checkPages(
  call: TestCall<'access_pages'>['call'],
  address: bigint,
  npages: number,
  pinned: FrameRun[],
): void {
  const { memory } = call.context.iommufd;
  const frames = pagesOf(pinned);
  for (let index = 0; index < npages; index++) {
    const at = BigInt.asUintN(64, (address & ~PAGE_MASK) + BigInt(index * PAGE_SIZE));
    if (at + PAGE_MASK >= IOVA_LAST)
      throw new ErrnoError('EOVERFLOW', `the page at ${hex(at)} ends at 2^64`);
    const found = memory.lookup(call.task.mm, at, 1, false);
    if (isBadPage(found))
      throw new ErrnoError('EFAULT', `the page at ${hex(at)} is ${found.reason}`);
    if (found[0]?.frame !== frames[index])
      throw new ErrnoError('EBADE', `the page at ${hex(at)} is not the one that is pinned`);
  }
}

function pagesOf(runs: readonly FrameRun[]): number[] {
  return runs.flatMap(({ frame, frames }) =>
    Array.from({ length: frames / FRAMES_PER_PAGE }, (_, page) => frame + page * FRAMES_PER_PAGE),
  );
}

const convert = (access: Access, iova: bigint): bigint =>
  access.table ? syzkallerIova(access.table, iova) : 0n;

/** What an ACCESS_RW moves: one serves all but the longest, for new memory is slower than the copy. */
const moved = new Uint8Array(16 * PAGE_SIZE);

const bytesOf = (length: number): Uint8Array =>
  length <= moved.length ? moved.subarray(0, length) : new Uint8Array(length);

/** IOMMU_TEST_OP_ACCESS_RW */
export function accessRw({ call, cmd, arg }: TestCall<'access_rw'>): void {
  const { flags, length, uptr } = arg;
  if (length > MAX_LENGTH) throw new ErrnoError('ENOMEM', `length ${hex(length)} exceeds 16 MiB`);
  checkFlags(flags, MOCK_ACCESS_RW_WRITE | MOCK_ACCESS_RW_SLOW_PATH | MOCK_FLAGS_ACCESS_SYZ);
  const { access } = accessOf(call.task, cmd.id);
  const { mm } = call.task;
  const data = bytesOf(Number(length));
  const write = (flags & MOCK_ACCESS_RW_WRITE) !== 0;
  if (write) copyFromUser(mm, uptr, data);
  const iova = flags & MOCK_FLAGS_ACCESS_SYZ ? convert(access, arg.iova) : arg.iova;
  access.copy(iova, data, write, (flags & MOCK_ACCESS_RW_SLOW_PATH) !== 0, mm);
  if (!write) copyToUser(mm, uptr, data);
}
