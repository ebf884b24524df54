// SPDX-License-Identifier: Apache-2.0
import {
  VFIO_IOMMU_INFO_CAPS,
  VFIO_IOMMU_INFO_PGSIZES,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  vfio_info_cap_header,
  vfio_iommu_type1_info,
  vfio_iommu_type1_info_cap_iova_range,
  vfio_iommu_type1_info_dma_avail,
  vfio_iova_range,
} from '../abi/vfio.ts';
import { ErrnoError } from '../base/errno.ts';
import type { Task } from '../kernel/task.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { copyFromUser, copyToUser } from './call.ts';
import type { Context } from './context.ts';
import type { IoPagetable } from './io_pagetable.ts';
import { IOVA_LAST } from './iova.ts';
import { compatIoas } from './vfio_compat.ts';

/** The structure as first published; later fields are written only as far as the client's argsz goes. */
const MIN_SIZE = vfio_iommu_type1_info.offsetofend('iova_pgsizes');
const INFO_SIZE = vfio_iommu_type1_info.size;
/** iommufd has no limit of its own; QEMU on s390 looks at this. */
const DMA_AVAIL = 0xffff_ffff;

/** VFIO_IOMMU_GET_INFO: page sizes, then as many capabilities as fit in argsz, which is set to what all of them need. */
export function getInfo(context: Context, task: Task, arg: bigint): number {
  const bytes = new Uint8Array(INFO_SIZE);
  copyFromUser(task.mm, arg, bytes.subarray(0, MIN_SIZE));
  const info = vfio_iommu_type1_info.on(new DataView(bytes.buffer));
  const { argsz } = info;
  if (argsz < MIN_SIZE) throw new ErrnoError('EINVAL', `argsz ${argsz} is less than ${MIN_SIZE}`);
  const { table } = compatIoas(context);
  const total = writeCapabilities(task, arg, argsz, [dmaAvail(), iovaRanges(table)]);
  info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
  info.iova_pgsizes = pageSizes(table);
  info.cap_offset = argsz >= total ? INFO_SIZE : 0;
  info.argsz = total;
  copyToUser(task.mm, arg, bytes.subarray(0, Math.min(argsz, INFO_SIZE)));
  return 0;
}

interface Capability {
  readonly bytes: Uint8Array;
  /** Where its array begins, and the bytes of an item; without an array, its end and 1. */
  readonly itemsAt: number;
  readonly itemBytes: number;
}

/**
 * Writes those that fit, chained; returns the size that info and all capabilities need. Of an array that does not fit, the
 * items that do are written, but no header: so does Linux.
 */
function writeCapabilities(
  task: Task,
  arg: bigint,
  argsz: number,
  caps: readonly Capability[],
): number {
  let offset = INFO_SIZE;
  let previous: number | undefined;
  for (const { bytes, itemsAt, itemBytes } of caps) {
    const room = argsz - offset;
    const items = Math.max(0, Math.floor((room - itemsAt) / itemBytes));
    const whole = room >= bytes.length;
    const part = whole ? bytes : bytes.subarray(itemsAt, itemsAt + items * itemBytes);
    if (part.length) copyToUser(task.mm, arg + BigInt(offset + (whole ? 0 : itemsAt)), part);
    if (previous !== undefined && argsz >= offset) {
      const next = new Uint8Array(4);
      new DataView(next.buffer).setUint32(0, offset, true);
      const at = previous + vfio_info_cap_header.offsetof('next');
      copyToUser(task.mm, arg + BigInt(at), next);
    }
    previous = offset;
    offset += Math.ceil(bytes.length / 8) * 8;
  }
  return offset;
}

function dmaAvail(): Capability {
  const bytes = new Uint8Array(vfio_iommu_type1_info_dma_avail.size);
  const cap = vfio_iommu_type1_info_dma_avail.on(new DataView(bytes.buffer));
  cap.header.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL;
  cap.header.version = 1;
  cap.avail = DMA_AVAIL;
  return { bytes, itemsAt: bytes.length, itemBytes: 1 };
}

function iovaRanges(table: IoPagetable): Capability {
  const holes = [...table.reserved.spans(0n, IOVA_LAST)].filter((span) => !span.used);
  const head = vfio_iommu_type1_info_cap_iova_range.size;
  const bytes = new Uint8Array(head + holes.length * vfio_iova_range.size);
  const view = new DataView(bytes.buffer);
  const cap = vfio_iommu_type1_info_cap_iova_range.on(view);
  cap.header.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
  cap.header.version = 1;
  cap.nr_iovas = holes.length;
  holes.forEach(({ start, last }, i) => {
    vfio_iova_range.write(view, head + i * vfio_iova_range.size, { start, end: last });
  });
  return { bytes, itemsAt: head, itemBytes: vfio_iova_range.size };
}

/** Sizes that every domain has; those below a page of the CPU are promised as that page, as VFIO always did. */
function pageSizes(table: IoPagetable): bigint {
  const page = BigInt(PAGE_SIZE);
  let sizes = IOVA_LAST;
  for (const domain of table.domains) sizes &= domain.pgsizeBitmap;
  if (sizes & (page - 1n)) sizes = (sizes & ~(page - 1n)) | page;
  return sizes > table.alignment ? sizes : table.alignment;
}
