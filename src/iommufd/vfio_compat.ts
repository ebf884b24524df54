// SPDX-License-Identifier: Apache-2.0
/**
 * The container interface of VFIO on a /dev/iommu descriptor (vfio_compat.c): the ioctls of VFIO type 1 work on one
 * address space, chosen by IOMMU_VFIO_IOAS or made when a VFIO group is attached.
 */
import {
  type iommu_vfio_ioas,
  IOMMU_VFIO_IOAS_CLEAR,
  IOMMU_VFIO_IOAS_GET,
  IOMMU_VFIO_IOAS_SET,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import {
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_DMA_CC_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VFIO_UNMAP_ALL,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
} from '../abi/vfio.ts';
import { ErrnoError } from '../base/errno.ts';
import { Prot } from '../iommu/domain.ts';
import type { Task } from '../kernel/task.ts';
import { type Call, checkReserved, copyFromUser, copyToUser } from './call.ts';
import type { Context } from './context.ts';
import { Ioas } from './ioas.ts';
import { mapUserPages, unmapIova } from './ioas_map.ts';
import type { IoPagetable } from './io_pagetable.ts';
import { hex, IOVA_LAST } from './iova.ts';

/** The container's address space; throws ENODEV where there is none. */
export function compatIoas(context: Context): Ioas {
  const ioas = context.vfioIoas;
  if (ioas && ioas.users > 0) return ioas;
  throw new ErrnoError(
    'ENODEV',
    'no IOAS stands in for the VFIO container: set one with IOMMU_VFIO_IOAS, or attach a group',
  );
}

/** Makes a container's address space where there is none, for a group that is put into it. Throws ENOMEM. */
export function ensureCompatIoas(context: Context): void {
  const ioas = new Ioas(context.iommufd);
  context.objects.reserve(ioas);
  if (context.vfioIoas && context.vfioIoas.users > 0) return context.objects.abort(ioas);
  context.vfioIoas = ioas;
  context.objects.finalize(ioas);
}

/** IOMMU_VFIO_IOAS */
export function vfioIoas(call: Call<Cmd<typeof iommu_vfio_ioas>>): void {
  const { cmd, context } = call;
  checkReserved(cmd.__reserved);
  switch (cmd.op) {
    case IOMMU_VFIO_IOAS_GET:
      cmd.ioas_id = compatIoas(context).id;
      call.respond();
      return;
    case IOMMU_VFIO_IOAS_SET:
      context.withIoas(cmd.ioas_id, (ioas) => (context.vfioIoas = ioas));
      return;
    case IOMMU_VFIO_IOAS_CLEAR:
      context.vfioIoas = undefined;
      return;
    default:
      throw new ErrnoError('EOPNOTSUPP', `there is no operation ${cmd.op}`);
  }
}

/** VFIO_CHECK_EXTENSION: 1 where the extension is there. */
export function checkExtension(context: Context, extension: bigint): number {
  switch (Number(extension)) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
    case VFIO_UNMAP_ALL:
      return 1;
    case VFIO_DMA_CC_IOMMU:
      return compatIoas(context).allCacheCoherent ? 1 : 0;
    default:
      return 0;
  }
}

/** VFIO_SET_IOMMU: type 1 (version 1) can unmap the middle of a map, so it does without large pages. */
export function setIommu(context: Context, type: bigint): number {
  if (type !== BigInt(VFIO_TYPE1_IOMMU) && type !== BigInt(VFIO_TYPE1v2_IOMMU)) {
    throw new ErrnoError('EINVAL', `there is no IOMMU type ${type}`);
  }
  const { table } = compatIoas(context);
  if (type === BigInt(VFIO_TYPE1_IOMMU)) table.setLargePages(false);
  return 0;
}

/** Reads an `argsz` structure; its size is the least that the client may state. */
function readArg<T>(
  task: Task,
  arg: bigint,
  type: { readonly size: number; on(view: DataView): T },
): { value: T & { argsz: number }; bytes: Uint8Array } {
  const bytes = new Uint8Array(type.size);
  copyFromUser(task.mm, arg, bytes);
  return { value: type.on(new DataView(bytes.buffer)) as T & { argsz: number }, bytes };
}

function checkArg(argsz: number, size: number, flags: number, known: number): void {
  if (argsz < size) throw new ErrnoError('EINVAL', `argsz ${argsz} is less than ${size}`);
  const unknown = (flags & ~known) >>> 0;
  if (unknown) throw new ErrnoError('EINVAL', `unknown flags 0x${unknown.toString(16)}`);
}

/** VFIO_IOMMU_MAP_DMA */
export function mapDma(context: Context, task: Task, arg: bigint): number {
  const { value: map } = readArg(task, arg, vfio_iommu_type1_dma_map);
  checkArg(
    map.argsz,
    vfio_iommu_type1_dma_map.size,
    map.flags,
    VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
  );
  let prot: number = Prot.CACHE;
  if (map.flags & VFIO_DMA_MAP_FLAG_READ) prot |= Prot.READ;
  if (map.flags & VFIO_DMA_MAP_FLAG_WRITE) prot |= Prot.WRITE;
  const { table } = compatIoas(context);
  mapUserPages(context, task, table, map.vaddr, map.size, map.iova, prot);
  return 0;
}

/** VFIO_IOMMU_UNMAP_DMA: the bytes unmapped are written back even where it fails; unmapping nothing is no error. */
export function unmapDma(context: Context, task: Task, arg: bigint): number {
  const { value: request, bytes } = readArg(task, arg, vfio_iommu_type1_dma_unmap);
  checkArg(request.argsz, vfio_iommu_type1_dma_unmap.size, request.flags, VFIO_DMA_UNMAP_FLAG_ALL);
  const { table } = compatIoas(context);
  const { unmapped, error } = unmapRequest(table, request);
  request.size = unmapped;
  copyToUser(task.mm, arg, bytes);
  if (error) throw error;
  return 0;
}

type Unmapped = { unmapped: bigint; error: ErrnoError | undefined };

function unmapRequest(
  table: IoPagetable,
  { flags, iova, size }: { flags: number; iova: bigint; size: bigint },
): Unmapped {
  if (flags & VFIO_DMA_UNMAP_FLAG_ALL) {
    if (iova === 0n && size === 0n) return table.unmap(0n, IOVA_LAST);
    throw new ErrnoError(
      'EINVAL',
      `VFIO_DMA_UNMAP_FLAG_ALL with iova ${hex(iova)} and size ${hex(size)}, not 0 and 0`,
    );
  }
  if (table.largePagesDisabled) {
    // Maps are cut at both ends of the request, so that it contains whole maps only.
    table.cut(BigInt.asUintN(64, iova + size - 1n));
    if (iova) table.cut(iova - 1n);
  }
  try {
    return unmapIova(table, iova, size);
  } catch (error) {
    if (error instanceof ErrnoError) return { unmapped: 0n, error };
    throw error;
  }
}
