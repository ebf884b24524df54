// SPDX-License-Identifier: Apache-2.0
import * as uapi from '../abi/iommufd.ts';
import { IOMMU_TEST_CMD, iommu_test_cmd } from '../abi/iommufd_test.ts';
import type { StructType, Values } from '../abi/struct.ts';
import { errnoName, ErrnoError, type ErrnoName } from '../base/errno.ts';
import type { IoctlResult } from '../kernel/file.ts';
import { LocalProcess } from '../kernel/local_process.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import type { IommufdFile } from './dispatch.ts';
import type { Iommufd } from './iommufd.ts';

/** The structure of each ioctl. */
export const ioctlStructs = {
  IOMMU_DESTROY: uapi.iommu_destroy,
  IOMMU_IOAS_ALLOC: uapi.iommu_ioas_alloc,
  IOMMU_IOAS_ALLOW_IOVAS: uapi.iommu_ioas_allow_iovas,
  IOMMU_IOAS_CHANGE_PROCESS: uapi.iommu_ioas_change_process,
  IOMMU_IOAS_COPY: uapi.iommu_ioas_copy,
  IOMMU_IOAS_IOVA_RANGES: uapi.iommu_ioas_iova_ranges,
  IOMMU_IOAS_MAP: uapi.iommu_ioas_map,
  IOMMU_IOAS_MAP_FILE: uapi.iommu_ioas_map_file,
  IOMMU_IOAS_UNMAP: uapi.iommu_ioas_unmap,
  IOMMU_OPTION: uapi.iommu_option,
  IOMMU_VFIO_IOAS: uapi.iommu_vfio_ioas,
  IOMMU_HWPT_ALLOC: uapi.iommu_hwpt_alloc,
  IOMMU_HWPT_INVALIDATE: uapi.iommu_hwpt_invalidate,
  IOMMU_HWPT_SET_DIRTY_TRACKING: uapi.iommu_hwpt_set_dirty_tracking,
  IOMMU_HWPT_GET_DIRTY_BITMAP: uapi.iommu_hwpt_get_dirty_bitmap,
  IOMMU_FAULT_QUEUE_ALLOC: uapi.iommu_fault_alloc,
  IOMMU_VIOMMU_ALLOC: uapi.iommu_viommu_alloc,
  IOMMU_VDEVICE_ALLOC: uapi.iommu_vdevice_alloc,
  IOMMU_VEVENTQ_ALLOC: uapi.iommu_veventq_alloc,
  IOMMU_HW_QUEUE_ALLOC: uapi.iommu_hw_queue_alloc,
  IOMMU_GET_HW_INFO: uapi.iommu_hw_info,
  IOMMU_TEST_CMD: iommu_test_cmd,
} as const;

const numbers: Readonly<Record<keyof typeof ioctlStructs, number>> = { ...uapi, IOMMU_TEST_CMD };

type Structs = typeof ioctlStructs;
type ShapeOf<T> = T extends StructType<infer S> ? S : never;
/** The fields to send; what is left out is 0, nested structures included. */
export type Fields<T> = T extends object
  ? T extends readonly unknown[]
    ? T
    : { readonly [K in keyof T]?: Fields<T[K]> }
  : T;

/** Structures are sent from a page of their own, high in the address space. */
const SCRATCH = 0x7fff_0000_0000n;

/**
 * /dev/iommu in process: the calls of a client as functions. Memory is what the client's `process.mm` maps.
 * @example
 * const client = new LocalClient(new Iommufd());
 * const { out_ioas_id } = client.call('IOMMU_IOAS_ALLOC', {});
 */
export class LocalClient {
  readonly process: LocalProcess;
  readonly file: IommufdFile;
  /** The descriptor of {@link file} in {@link process}. */
  readonly fd: number;

  constructor(iommufd: Iommufd, process: LocalProcess = new LocalProcess()) {
    this.process = process;
    this.file = iommufd.open();
    this.fd = process.add({ kind: 'device', file: this.file });
    if (!process.mm.mappingAt(SCRATCH)) process.mm.map(SCRATCH, PAGE_SIZE);
  }

  /** Makes a call as `process` (another one to stand for a fork that shares the descriptor); never throws for an errno. */
  tryCall<N extends keyof Structs>(
    name: N,
    fields: Fields<Values<ShapeOf<Structs[N]>>>,
    process: LocalProcess = this.process,
  ): { readonly result: IoctlResult; readonly reply: Values<ShapeOf<Structs[N]>> } {
    const type: StructType<unknown> = ioctlStructs[name];
    const bytes = new Uint8Array(type.size);
    const view = new DataView(bytes.buffer);
    writeFields(type, view, 0, { size: type.size });
    writeFields(type, view, 0, fields);
    process.mm.copyOut(SCRATCH, bytes);
    const result = this.file.ioctl(process, numbers[name], SCRATCH);
    process.mm.copyIn(SCRATCH, bytes);
    return { result, reply: type.on(view) as never };
  }

  /**
   * Makes a call and answers the structure as it came back.
   * @throws ErrnoError as the ioctl would fail, with the sentence that says why
   */
  call<N extends keyof Structs>(
    name: N,
    fields: Fields<Values<ShapeOf<Structs[N]>>>,
    process: LocalProcess = this.process,
  ): Values<ShapeOf<Structs[N]>> {
    const { result, reply } = this.tryCall(name, fields, process);
    if (result.value < 0) throw new ErrnoError(errnoName(-result.value) as ErrnoName, result.why);
    return reply;
  }

  /** Closes the descriptor. */
  close(): void {
    this.process.close(this.fd);
  }
}

function writeFields(
  type: StructType<unknown>,
  view: DataView,
  base: number,
  fields: object,
): void {
  for (const [name, value] of Object.entries(fields)) {
    const field = type.fields.find((candidate) => candidate.name === name);
    if (!field) throw new TypeError(`${type.cName || 'the structure'} has no field ${name}`);
    const nested = field.type as Partial<StructType<unknown>>;
    if (nested.fields)
      writeFields(field.type as StructType<unknown>, view, base + field.offset, value as object);
    else field.type.write(view, base + field.offset, value);
  }
}
