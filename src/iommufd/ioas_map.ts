// SPDX-License-Identifier: Apache-2.0
import {
  type iommu_ioas_copy,
  type iommu_ioas_map,
  type iommu_ioas_map_file,
  type iommu_ioas_unmap,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { ErrnoError } from '../base/errno.ts';
import { Prot } from '../iommu/domain.ts';
import type { Task } from '../kernel/task.ts';
import { AccountMode } from '../memory/accounting.ts';
import { PAGE_SHIFT, PAGE_SIZE } from '../memory/mm.ts';
import { type Call, checkFlags, checkReserved } from './call.ts';
import type { Context } from './context.ts';
import { DmaBuf } from './dma_buf.ts';
import type { IoPagetable } from './io_pagetable.ts';
import { hex, IOVA_LAST } from './iova.ts';
import type { PageSource } from './page_source.ts';
import { Pages } from './pages.ts';
import { convertSyzkallerIova } from './selftest_syz.ts';

const ACCESS_FLAGS = IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE;
const MAP_FLAGS = IOMMU_IOAS_MAP_FIXED_IOVA | ACCESS_FLAGS;
const U64_MAX = IOVA_LAST;
const PAGE_MASK = BigInt(PAGE_SIZE - 1);
/** A DMA-buf map holds fewer pages than a batch of Linux can count. */
const MAX_DMABUF_PAGES = 2n ** 32n - 1n;

function checkBelowLast(name: string, value: bigint): void {
  if (value >= U64_MAX) throw new ErrnoError('EOVERFLOW', `${name} is 2^64-1`);
}

function checkAccess(flags: number): void {
  if (flags & ACCESS_FLAGS) return;
  throw new ErrnoError(
    'EINVAL',
    'neither IOMMU_IOAS_MAP_READABLE nor IOMMU_IOAS_MAP_WRITEABLE is set',
  );
}

function protOf(flags: number): number {
  let prot: number = Prot.CACHE;
  if (flags & IOMMU_IOAS_MAP_WRITEABLE) prot |= Prot.WRITE;
  if (flags & IOMMU_IOAS_MAP_READABLE) prot |= Prot.READ;
  return prot;
}

const fixedIova = (flags: number, iova: bigint): bigint | undefined =>
  flags & IOMMU_IOAS_MAP_FIXED_IOVA ? iova : undefined;

function makePages(
  context: Context,
  task: Task,
  source: PageSource,
  startByte: number,
  length: bigint,
  writable: boolean,
): Pages {
  if (length === 0n || length > U64_MAX - BigInt(PAGE_SIZE)) {
    throw new ErrnoError('EINVAL', length ? `length ${hex(length)} is too large` : 'length is 0');
  }
  const npages = Number((length + BigInt(startByte) + PAGE_MASK) >> BigInt(PAGE_SHIFT));
  const mode = source.kind === 'dmabuf' ? AccountMode.NONE : context.accountModeOf(task);
  return new Pages(context.iommufd, source, npages, writable, context.payer(task, mode), mode);
}

function mapPages(
  table: IoPagetable,
  pages: Pages,
  startByte: number,
  length: bigint,
  iova: bigint | undefined,
  prot: number,
): bigint {
  try {
    return table.map([{ pages, startByte, length }], length, iova, prot);
  } catch (error) {
    pages.put();
    throw error;
  }
}

/** Maps memory of `task`: shared by IOMMU_IOAS_MAP and the VFIO interface. Returns the IOVA. */
export function mapUserPages(
  context: Context,
  task: Task,
  table: IoPagetable,
  address: bigint,
  length: bigint,
  iova: bigint | undefined,
  prot: number,
): bigint {
  if (address + length > U64_MAX) {
    throw new ErrnoError(
      'EOVERFLOW',
      `user_va ${hex(address)} + length ${hex(length)} exceeds 2^64`,
    );
  }
  const startByte = Number(address & PAGE_MASK);
  const source: PageSource = { kind: 'user', mm: task.mm, address: address & ~PAGE_MASK };
  const writable = (prot & Prot.WRITE) !== 0;
  const pages = makePages(context, task, source, startByte, length, writable);
  return mapPages(table, pages, startByte, length, iova, prot);
}

/** IOMMU_IOAS_MAP */
export function ioasMap(call: Call<Cmd<typeof iommu_ioas_map>>): void {
  const { cmd, context, task } = call;
  checkFlags(cmd.flags, MAP_FLAGS);
  checkReserved(cmd.__reserved);
  checkBelowLast('iova', cmd.iova);
  checkBelowLast('length', cmd.length);
  checkAccess(cmd.flags);
  context.withIoas(cmd.ioas_id, ({ table }) => {
    const iova = fixedIova(cmd.flags, cmd.iova);
    cmd.iova = mapUserPages(context, task, table, cmd.user_va, cmd.length, iova, protOf(cmd.flags));
    call.respond();
  });
}

/** IOMMU_IOAS_MAP_FILE */
export function ioasMapFile(call: Call<Cmd<typeof iommu_ioas_map_file>>): void {
  const { cmd, context } = call;
  checkFlags(cmd.flags, MAP_FLAGS);
  checkBelowLast('iova', cmd.iova);
  checkBelowLast('length', cmd.length);
  checkAccess(cmd.flags);
  context.withIoas(cmd.ioas_id, ({ table }) => {
    const { start, length } = cmd;
    if (length === 0n) throw new ErrnoError('EINVAL', 'length is 0');
    if (start + length - 1n > U64_MAX) {
      throw new ErrnoError('EOVERFLOW', `start ${hex(start)} + length ${hex(length)} exceeds 2^64`);
    }
    const source = fileSource(call.task, cmd.fd, start, length);
    const startByte = Number(start & PAGE_MASK);
    const writable = (cmd.flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0;
    const pages = makePages(context, call.task, source, startByte, length, writable);
    const iova = fixedIova(cmd.flags, cmd.iova);
    cmd.iova = mapPages(table, pages, startByte, length, iova, protOf(cmd.flags));
    call.respond();
  });
}

function fileSource(task: Task, fd: number, start: bigint, length: bigint): PageSource {
  const first = start & ~PAGE_MASK;
  const open = task.files.get(fd);
  if (!open) throw new ErrnoError('EBADF', `descriptor ${fd} is not open`);
  if (open.kind !== 'device' || !(open.file instanceof DmaBuf)) {
    return { kind: 'file', file: open.kind === 'memory' ? open.memory : undefined, start: first };
  }
  const buffer = open.file;
  if (
    BigInt(buffer.size) <= start + length - 1n ||
    length >> BigInt(PAGE_SHIFT) >= MAX_DMABUF_PAGES
  ) {
    const size = buffer.size.toString(16);
    throw new ErrnoError(
      'EINVAL',
      `start ${hex(start)} + length ${hex(length)} exceeds the DMA-buf's 0x${size} bytes`,
    );
  }
  if (buffer.revoked) throw new ErrnoError('ENODEV', 'the DMA-buf is revoked');
  return { kind: 'dmabuf', buffer, start: first };
}

/** IOMMU_IOAS_COPY: the same pages at another IOVA, in the same or another address space. */
export function ioasCopy(call: Call<Cmd<typeof iommu_ioas_copy>>): void {
  const { cmd, context } = call;
  convertSyzkallerIova(context, cmd);
  checkFlags(cmd.flags, MAP_FLAGS);
  checkBelowLast('length', cmd.length);
  checkBelowLast('src_iova', cmd.src_iova);
  checkBelowLast('dst_iova', cmd.dst_iova);
  checkAccess(cmd.flags);
  const slices = context.withIoas(cmd.src_ioas_id, ({ table }) =>
    table.slices(cmd.src_iova, cmd.length),
  );
  try {
    context.withIoas(cmd.dst_ioas_id, ({ table }) => {
      const iova = fixedIova(cmd.flags, cmd.dst_iova);
      cmd.dst_iova = table.map(slices, cmd.length, iova, protOf(cmd.flags));
      slices.length = 0; // the areas have the references now
      call.respond();
    });
  } finally {
    for (const { pages } of slices) pages.put();
  }
}

/** IOMMU_IOAS_UNMAP: 0..2^64-1 unmaps everything, and succeeds where there is nothing. */
export function ioasUnmap(call: Call<Cmd<typeof iommu_ioas_unmap>>): void {
  const { cmd } = call;
  call.context.withIoas(cmd.ioas_id, ({ table }) => {
    const everything = cmd.iova === 0n && cmd.length === U64_MAX;
    if (!everything) {
      checkBelowLast('iova', cmd.iova);
      checkBelowLast('length', cmd.length);
    }
    const { unmapped, error } = everything
      ? table.unmap(0n, IOVA_LAST)
      : unmapIova(table, cmd.iova, cmd.length);
    if (error) throw error;
    if (!everything && unmapped === 0n) {
      throw new ErrnoError(
        'ENOENT',
        `nothing is mapped from ${hex(cmd.iova)} on for ${hex(cmd.length)} bytes`,
      );
    }
    cmd.length = unmapped;
    call.respond();
  });
}

/** Unmaps `[iova, iova + length)`: shared with the VFIO interface. Throws EINVAL and EOVERFLOW. */
export function unmapIova(
  table: IoPagetable,
  iova: bigint,
  length: bigint,
): { unmapped: bigint; error: ErrnoError | undefined } {
  if (length === 0n) throw new ErrnoError('EINVAL', 'length is 0');
  const last = iova + length - 1n;
  if (last > IOVA_LAST)
    throw new ErrnoError('EOVERFLOW', `iova ${hex(iova)} + length ${hex(length)} exceeds 2^64`);
  return table.unmap(iova, last);
}
