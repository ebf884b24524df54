// SPDX-License-Identifier: Apache-2.0
/**
 * Every ioctl of /dev/iommu, in the order of their numbers: the one place that says what there is. `docs/support.md` is
 * generated from it.
 */
import * as uapi from '../abi/iommufd.ts';
import { IOMMU_TEST_CMD, iommu_test_cmd } from '../abi/iommufd_test.ts';
import type { Cmd, StructType } from '../abi/struct.ts';
import * as vfio from '../abi/vfio.ts';
import type { Task } from '../kernel/task.ts';
import type { Call } from './call.ts';
import { ioasChangeProcess } from './change_process.ts';
import type { Context } from './context.ts';
import { getDirtyBitmap, setDirtyTracking } from './dirty.ts';
import { faultQueueAlloc } from './fault.ts';
import { getHwInfo } from './hw_info.ts';
import { hwQueueAlloc } from './hw_queue.ts';
import { hwptAlloc } from './hwpt_alloc.ts';
import { hwptInvalidate } from './invalidate.ts';
import { ioasAlloc, ioasAllowIovas, ioasIovaRanges } from './ioas.ts';
import { ioasCopy, ioasMap, ioasMapFile, ioasUnmap } from './ioas_map.ts';
import { optionIoctl } from './option.ts';
import { testIoctl } from './selftest.ts';
import { vdeviceAlloc } from './vdevice.ts';
import { veventqAlloc } from './veventq.ts';
import { checkExtension, mapDma, setIommu, unmapDma, vfioIoas } from './vfio_compat.ts';
import { getInfo } from './vfio_info.ts';
import { viommuAlloc } from './viommu.ts';

/** How much of an ioctl works: `absent` ones check their structure's size and then answer EOPNOTSUPP. */
export type Status = 'done' | 'partial' | 'absent';

export interface IoctlOp {
  readonly name: string;
  readonly number: number;
  readonly type: StructType<unknown>;
  /** Bytes of the structure's first version: less is EINVAL. */
  readonly minSize: number;
  readonly status: Status;
  /** For people: what is missing, and why. */
  readonly note: string;
  execute(call: Call<never>): number | void;
}

/** `last` is the last field of the structure's first version. */
function op<S>(
  name: keyof typeof uapi | 'IOMMU_TEST_CMD',
  number: number,
  type: StructType<S>,
  last: keyof S & string,
  execute: (call: Call<Cmd<StructType<S>>>) => number | void,
  status: Status = 'done',
  note = '',
): IoctlOp {
  const minSize = type.offsetofend(last);
  return { name, number, type: type, minSize, status, note, execute };
}

// prettier-ignore
export const ioctlOps: readonly IoctlOp[] = [
  op('IOMMU_DESTROY', uapi.IOMMU_DESTROY, uapi.iommu_destroy, 'id', ({ context, cmd }) => context.destroy(cmd.id)),
  op('IOMMU_IOAS_ALLOC', uapi.IOMMU_IOAS_ALLOC, uapi.iommu_ioas_alloc, 'out_ioas_id', ioasAlloc),
  op('IOMMU_IOAS_ALLOW_IOVAS', uapi.IOMMU_IOAS_ALLOW_IOVAS, uapi.iommu_ioas_allow_iovas, 'allowed_iovas', ioasAllowIovas),
  op('IOMMU_IOAS_COPY', uapi.IOMMU_IOAS_COPY, uapi.iommu_ioas_copy, 'src_iova', ioasCopy),
  op('IOMMU_IOAS_IOVA_RANGES', uapi.IOMMU_IOAS_IOVA_RANGES, uapi.iommu_ioas_iova_ranges, 'out_iova_alignment', ioasIovaRanges),
  op('IOMMU_IOAS_MAP', uapi.IOMMU_IOAS_MAP, uapi.iommu_ioas_map, 'iova', ioasMap),
  op('IOMMU_IOAS_UNMAP', uapi.IOMMU_IOAS_UNMAP, uapi.iommu_ioas_unmap, 'length', ioasUnmap),
  op('IOMMU_OPTION', uapi.IOMMU_OPTION, uapi.iommu_option, 'val64', optionIoctl),
  op('IOMMU_VFIO_IOAS', uapi.IOMMU_VFIO_IOAS, uapi.iommu_vfio_ioas, '__reserved', vfioIoas),
  op('IOMMU_HWPT_ALLOC', uapi.IOMMU_HWPT_ALLOC, uapi.iommu_hwpt_alloc, '__reserved', hwptAlloc),
  op('IOMMU_GET_HW_INFO', uapi.IOMMU_GET_HW_INFO, uapi.iommu_hw_info, '__reserved', getHwInfo),
  op('IOMMU_HWPT_SET_DIRTY_TRACKING', uapi.IOMMU_HWPT_SET_DIRTY_TRACKING, uapi.iommu_hwpt_set_dirty_tracking, '__reserved', setDirtyTracking),
  op('IOMMU_HWPT_GET_DIRTY_BITMAP', uapi.IOMMU_HWPT_GET_DIRTY_BITMAP, uapi.iommu_hwpt_get_dirty_bitmap, 'data', getDirtyBitmap),
  op('IOMMU_HWPT_INVALIDATE', uapi.IOMMU_HWPT_INVALIDATE, uapi.iommu_hwpt_invalidate, '__reserved', hwptInvalidate),
  op('IOMMU_FAULT_QUEUE_ALLOC', uapi.IOMMU_FAULT_QUEUE_ALLOC, uapi.iommu_fault_alloc, 'out_fault_fd', faultQueueAlloc),
  op('IOMMU_IOAS_MAP_FILE', uapi.IOMMU_IOAS_MAP_FILE, uapi.iommu_ioas_map_file, 'iova', ioasMapFile),
  op('IOMMU_VIOMMU_ALLOC', uapi.IOMMU_VIOMMU_ALLOC, uapi.iommu_viommu_alloc, 'out_viommu_id', viommuAlloc),
  op('IOMMU_VDEVICE_ALLOC', uapi.IOMMU_VDEVICE_ALLOC, uapi.iommu_vdevice_alloc, 'virt_id', vdeviceAlloc),
  op('IOMMU_IOAS_CHANGE_PROCESS', uapi.IOMMU_IOAS_CHANGE_PROCESS, uapi.iommu_ioas_change_process, '__reserved', ioasChangeProcess),
  op('IOMMU_VEVENTQ_ALLOC', uapi.IOMMU_VEVENTQ_ALLOC, uapi.iommu_veventq_alloc, 'out_veventq_fd', veventqAlloc),
  op('IOMMU_HW_QUEUE_ALLOC', uapi.IOMMU_HW_QUEUE_ALLOC, uapi.iommu_hw_queue_alloc, 'length', hwQueueAlloc),
  op('IOMMU_TEST_CMD', IOMMU_TEST_CMD, iommu_test_cmd, 'last', testIoctl),
];

/** An ioctl of the VFIO container interface: no common rules for sizes, the argument is a value or a pointer. */
export interface VfioOp {
  readonly name: string;
  readonly number: number;
  /** The structure behind the argument, where it is a pointer. */
  readonly type: StructType<unknown> | undefined;
  readonly status: Status;
  readonly note: string;
  execute(context: Context, task: Task, arg: bigint): number;
}

const done = { status: 'done', note: '' } as const;

// prettier-ignore
export const vfioOps: readonly VfioOp[] = [
  { ...done, name: 'VFIO_GET_API_VERSION', number: vfio.VFIO_GET_API_VERSION, type: undefined, execute: () => vfio.VFIO_API_VERSION },
  { ...done, name: 'VFIO_CHECK_EXTENSION', number: vfio.VFIO_CHECK_EXTENSION, type: undefined, execute: (context, _task, arg) => checkExtension(context, arg) },
  { ...done, name: 'VFIO_SET_IOMMU', number: vfio.VFIO_SET_IOMMU, type: undefined, execute: (context, _task, arg) => setIommu(context, arg) },
  { ...done, name: 'VFIO_IOMMU_GET_INFO', number: vfio.VFIO_IOMMU_GET_INFO, type: vfio.vfio_iommu_type1_info, execute: getInfo },
  { ...done, name: 'VFIO_IOMMU_MAP_DMA', number: vfio.VFIO_IOMMU_MAP_DMA, type: vfio.vfio_iommu_type1_dma_map, execute: mapDma },
  { ...done, name: 'VFIO_IOMMU_UNMAP_DMA', number: vfio.VFIO_IOMMU_UNMAP_DMA, type: vfio.vfio_iommu_type1_dma_unmap, execute: unmapDma },
];
