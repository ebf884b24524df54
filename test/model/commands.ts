// SPDX-License-Identifier: Apache-2.0
/**
 * The commands of a sequence, as data that JSON can hold. `by` is who calls: 0 the process that opened /dev/iommu, 1 the other one. A
 * reference to an object (`Ref`) is the n-th of its kind that is there at that moment, modulo how many there are, so that a
 * sequence keeps its meaning when commands are taken out of it; a negative one is the id itself.
 */
export type Ref = number;
export type By = 0 | 1;

export type Command =
  | { readonly op: 'ioas_alloc' }
  | { readonly op: 'destroy'; readonly id: Ref }
  | {
      readonly op: 'map';
      readonly by: By;
      readonly ioas: Ref;
      readonly flags: number;
      readonly va: bigint;
      readonly length: bigint;
      readonly iova: bigint;
    }
  | {
      readonly op: 'map_file';
      readonly by: By;
      readonly ioas: Ref;
      readonly flags: number;
      readonly fd: Ref;
      readonly start: bigint;
      readonly length: bigint;
      readonly iova: bigint;
    }
  | { readonly op: 'unmap'; readonly ioas: Ref; readonly iova: bigint; readonly length: bigint }
  | {
      readonly op: 'copy';
      readonly source: Ref;
      readonly ioas: Ref;
      readonly flags: number;
      readonly length: bigint;
      readonly from: bigint;
      readonly iova: bigint;
    }
  | {
      readonly op: 'allow';
      readonly ioas: Ref;
      readonly ranges: readonly (readonly [bigint, bigint])[];
    }
  | { readonly op: 'ranges'; readonly ioas: Ref; readonly room: number }
  /** `value` undefined asks. */
  | { readonly op: 'huge_pages'; readonly ioas: Ref; readonly value?: bigint }
  | { readonly op: 'rlimit_mode'; readonly value?: bigint }
  | { readonly op: 'mock'; readonly pt: Ref; readonly flags: number }
  | { readonly op: 'mock_replace'; readonly mock: Ref; readonly pt: Ref }
  | { readonly op: 'pasid_attach'; readonly mock: Ref; readonly pasid: number; readonly pt: Ref }
  | { readonly op: 'pasid_replace'; readonly mock: Ref; readonly pasid: number; readonly pt: Ref }
  | { readonly op: 'pasid_detach'; readonly mock: Ref; readonly pasid: number }
  /** `pt` 0 expects none. */
  | { readonly op: 'pasid_check'; readonly mock: Ref; readonly pasid: number; readonly pt: Ref }
  | {
      readonly op: 'hwpt_alloc';
      readonly device: Ref;
      readonly pt: Ref;
      readonly flags: number;
      /** The queue of its page faults, where the flags ask for one. */
      readonly fault: Ref;
      /** The page table type of the test driver's data; undefined: no data. */
      readonly table?: number;
    }
  /** A guest's table on another one; `length` 0: without data. */
  | {
      readonly op: 'nested_alloc';
      readonly device: Ref;
      readonly parent: Ref;
      readonly flags: number;
      readonly fault: Ref;
      readonly length: number;
      readonly value: number;
    }
  | {
      readonly op: 'invalidate';
      readonly hwpt: Ref;
      readonly otherType: boolean;
      readonly entries: readonly (readonly [flags: number, index: number])[];
    }
  | {
      readonly op: 'check_iotlb';
      readonly hwpt: Ref;
      readonly index: number;
      readonly value: number;
    }
  | { readonly op: 'dirty_track'; readonly hwpt: Ref; readonly flags: number }
  /** A device writes to the pages of `pageSize` bytes from `iova` on whose bits are listed. */
  | {
      readonly op: 'dirty_mark';
      readonly hwpt: Ref;
      readonly iova: bigint;
      readonly length: bigint;
      readonly pageSize: bigint;
      readonly bits: readonly number[];
      readonly isNull: boolean;
      readonly room: number;
    }
  | {
      readonly op: 'dirty_read';
      readonly hwpt: Ref;
      readonly flags: number;
      readonly iova: bigint;
      readonly length: bigint;
      readonly pageSize: bigint;
      readonly room: number;
    }
  /** `action`: 0 asks, 1 sets, 2 clears. */
  | { readonly op: 'vfio_ioas'; readonly action: number; readonly ioas: Ref }
  | { readonly op: 'vfio_api' }
  | { readonly op: 'vfio_extension'; readonly extension: number }
  | { readonly op: 'vfio_set'; readonly type: number }
  | { readonly op: 'vfio_info'; readonly argsz: number }
  | {
      readonly op: 'vfio_map';
      readonly by: By;
      readonly argsz: number;
      readonly flags: number;
      readonly va: bigint;
      readonly length: bigint;
      readonly iova: bigint;
    }
  | {
      readonly op: 'vfio_unmap';
      readonly argsz: number;
      readonly flags: number;
      readonly iova: bigint;
      readonly length: bigint;
    }
  | { readonly op: 'fault_alloc'; readonly by: By; readonly flags: number }
  | {
      readonly op: 'trigger_iopf';
      readonly device: Ref;
      readonly pasid: number;
      readonly grpid: number;
      readonly perm: number;
      readonly addr: bigint;
    }
  /** The same below the ioctls, where a request need not be the last of its group; `flags`: 1 it has a PASID, 2 it is the last. */
  | {
      readonly op: 'page_request';
      readonly device: Ref;
      readonly flags: number;
      readonly pasid: number;
      readonly grpid: number;
      readonly perm: number;
      readonly addr: bigint;
    }
  /** Of `bytes` bytes there is memory for `room`. */
  | {
      readonly op: 'queue_read';
      readonly by: By;
      readonly fd: Ref;
      readonly bytes: number;
      readonly room: number;
    }
  | {
      readonly op: 'queue_write';
      readonly by: By;
      readonly fd: Ref;
      readonly answers: readonly (readonly [cookie: number, code: number])[];
      readonly bytes: number;
      readonly room: number;
    }
  | { readonly op: 'queue_poll'; readonly by: By; readonly fd: Ref }
  /** `length` bytes of the test driver's data, which begin with `word`; 0: without, and without pages to share. */
  | {
      readonly op: 'viommu_alloc';
      readonly type: number;
      readonly device: Ref;
      readonly hwpt: Ref;
      readonly length: number;
      readonly word: number;
    }
  | {
      readonly op: 'veventq_alloc';
      readonly by: By;
      readonly viommu: Ref;
      readonly type: number;
      readonly depth: number;
    }
  | { readonly op: 'trigger_vevent'; readonly device: Ref }
  /** An entry: flags, what the guest calls the device, entry of its cache; `tail`: bytes that nobody knows are not 0. */
  | {
      readonly op: 'invalidate_devices';
      readonly viommu: Ref;
      readonly otherType: boolean;
      readonly entryBytes: number;
      readonly tail: boolean;
      readonly entries: readonly (readonly number[])[];
    }
  | {
      readonly op: 'check_cache';
      readonly device: Ref;
      readonly index: number;
      readonly value: number;
    }
  | {
      readonly op: 'hw_queue_alloc';
      readonly viommu: Ref;
      readonly type: number;
      readonly index: number;
      readonly iova: bigint;
      readonly length: bigint;
    }
  /** mmap of the descriptor of /dev/iommu. */
  | {
      readonly op: 'shared_map';
      readonly by: By;
      readonly offset: bigint;
      readonly pages: number;
      readonly shared: boolean;
      readonly executable: boolean;
    }
  /** `map` is the n-th such map. */
  | { readonly op: 'shared_unmap'; readonly map: number }
  | {
      readonly op: 'vdevice_alloc';
      readonly viommu: Ref;
      readonly device: Ref;
      readonly virtualId: bigint;
    }
  | {
      readonly op: 'add_reserved';
      readonly ioas: Ref;
      readonly start: bigint;
      readonly length: bigint;
    }
  | { readonly op: 'access_create'; readonly by: By; readonly ioas: Ref; readonly flags: number }
  | {
      readonly op: 'access_pin';
      readonly by: By;
      readonly fd: Ref;
      readonly flags: number;
      readonly iova: bigint;
      readonly length: bigint;
      readonly va: bigint;
    }
  | { readonly op: 'access_unpin'; readonly by: By; readonly fd: Ref; readonly item: number }
  | {
      readonly op: 'access_rw';
      readonly by: By;
      readonly fd: Ref;
      readonly flags: number;
      readonly iova: bigint;
      readonly length: bigint;
      /** What is written. */
      readonly fill: number;
    }
  | { readonly op: 'access_replace'; readonly by: By; readonly fd: Ref; readonly ioas: Ref }
  | { readonly op: 'close'; readonly by: By; readonly fd: Ref }
  | {
      readonly op: 'check_map';
      readonly hwpt: Ref;
      readonly iova: bigint;
      readonly length: bigint;
      readonly va: bigint;
    }
  | {
      readonly op: 'check_refs';
      readonly by: By;
      readonly va: bigint;
      readonly length: bigint;
      readonly refs: number;
    }
  | { readonly op: 'dmabuf_get'; readonly by: By; readonly length: number }
  | { readonly op: 'dmabuf_revoke'; readonly by: By; readonly fd: Ref; readonly revoked: number }
  | { readonly op: 'memory_limit'; readonly limit: number }
  | { readonly op: 'change_process'; readonly by: By }
  /** Maps over whatever is there; `file` is an index into FILES, undefined private memory. Units are pages. */
  | {
      readonly op: 'mmap';
      readonly by: By;
      readonly page: number;
      readonly pages: number;
      readonly file?: number;
      readonly offset: number;
      readonly writable: boolean;
    }
  | { readonly op: 'munmap'; readonly by: By; readonly page: number; readonly pages: number }
  | {
      readonly op: 'mprotect';
      readonly by: By;
      readonly page: number;
      readonly pages: number;
      readonly readable: boolean;
      readonly writable: boolean;
    }
  /** The end of the other process, whose place a new one takes. */
  | { readonly op: 'end'; readonly killed: boolean }
  /** Devices of groups with several, below the ioctls. `device` is the n-th such device. */
  | {
      readonly op: 'device_add';
      readonly group: number;
      readonly noDirty: boolean;
      /** A virtual function, which shares page requests with its physical one. */
      readonly sharesFaults: boolean;
      readonly pasids: boolean;
      readonly reserved: readonly (readonly [bigint, bigint])[];
    }
  | { readonly op: 'device_remove'; readonly device: number }
  | { readonly op: 'device_bind'; readonly device: number }
  | { readonly op: 'device_unbind'; readonly device: number }
  | {
      readonly op: 'device_attach';
      readonly device: number;
      readonly pasid: number;
      readonly pt: Ref;
    }
  | {
      readonly op: 'device_replace';
      readonly device: number;
      readonly pasid: number;
      readonly pt: Ref;
    }
  | { readonly op: 'device_detach'; readonly device: number; readonly pasid: number };

/**
 * A step of a sequence: the command, and whether the client's structure can not be written back. `failing`: in a step that survives it,
 * the allocation that fails, from 1. `forked`: a child of the caller makes the call, with a copy of its memory, and exits.
 */
export type Step = Command & {
  readonly readOnly?: boolean;
  readonly failing?: number;
  readonly forked?: boolean;
};

/** What differs between sequences before their first command. */
export interface Setup {
  readonly seed: number;
  /** RLIMIT_MEMLOCK of the two processes in pages. */
  readonly memlock: readonly [number, number];
  /** They have CAP_IPC_LOCK: nothing is charged. */
  readonly ipcLock: boolean;
}

export interface Script {
  readonly setup: Setup;
  readonly steps: readonly Step[];
  /** Fail the n-th fault point in each step, for every n, before the step is made. */
  readonly faults: boolean;
}

const HEX = /^0x[0-9a-f]+$/;

export const toText = (script: Script): string => {
  const json = (value: unknown): string =>
    JSON.stringify(value, (_key, item: unknown) =>
      typeof item === 'bigint' ? `0x${item.toString(16)}` : item,
    );
  const { setup, faults, steps } = script;
  const lines = steps.map((step) => `    ${json(step)}`).join(',\n');
  return `{\n  "setup": ${json({ ...setup, memlock: setup.memlock.map(finite) })},\n  "faults": ${faults},\n  "steps": [\n${lines}\n  ]\n}\n`;
};

/** JSON has no infinity. */
const finite = (pages: number): number => (Number.isFinite(pages) ? pages : -1);

export function fromText(text: string): Script {
  const script = JSON.parse(text, (_key, item: unknown) =>
    typeof item === 'string' && HEX.test(item) ? BigInt(item) : item,
  ) as Script;
  const [a, b] = script.setup.memlock.map((pages) => (pages < 0 ? Infinity : pages));
  return { ...script, setup: { ...script.setup, memlock: [a ?? Infinity, b ?? Infinity] } };
}
