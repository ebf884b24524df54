// SPDX-License-Identifier: Apache-2.0
import { IntervalTree } from '../base/interval_tree.ts';
import { ErrnoError } from '../base/errno.ts';
import {
  iommu_iova_range,
  type iommu_ioas_alloc,
  type iommu_ioas_allow_iovas,
  type iommu_ioas_iova_ranges,
} from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import type { Mm } from '../memory/mm.ts';
import { type Call, checkFlags, checkReserved, copyFromUser, copyToUser } from './call.ts';
import { Mutex } from '../sim/lock.ts';
import { IoPagetable } from './io_pagetable.ts';
import { IOAS_LOCK } from './locks.ts';
import type { PageWorld } from './pages.ts';
import { IommufdObject } from './objects.ts';
import { Allowed, hex, IOVA_LAST, range } from './iova.ts';

/** An I/O address space: IOVA on one side, pages of clients on the other. */
export class Ioas extends IommufdObject {
  readonly type = 'IOAS';
  readonly table: IoPagetable;
  /** Guards the list of tables. */
  readonly mutex: Mutex;
  /** The hardware page tables that carry a copy of the map. */
  readonly hwpts: { readonly enforceCacheCoherency: boolean }[] = [];

  constructor(world: PageWorld) {
    super();
    this.table = new IoPagetable(world);
    this.mutex = new Mutex(world.sim, IOAS_LOCK);
  }

  /** No device can bypass the caches (VFIO_DMA_CC_IOMMU); true where there is none. */
  get allCacheCoherent(): boolean {
    return this.hwpts.every((hwpt) => hwpt.enforceCacheCoherency);
  }

  override destroy(): void {
    this.table.unmap(0n, IOVA_LAST);
    this.table.destroy();
  }
}

/** IOMMU_IOAS_ALLOC */
export function ioasAlloc(call: Call<Cmd<typeof iommu_ioas_alloc>>): void {
  checkFlags(call.cmd.flags, 0);
  const ioas = new Ioas(call.context.iommufd);
  call.context.objects.reserve(ioas);
  call.newObject = ioas;
  call.cmd.out_ioas_id = ioas.id;
  call.respond();
}

/** IOMMU_IOAS_IOVA_RANGES: the ranges that nothing reserves; EMSGSIZE tells how many there are. */
export function ioasIovaRanges(call: Call<Cmd<typeof iommu_ioas_iova_ranges>>): void {
  const { cmd } = call;
  checkReserved(cmd.__reserved);
  call.context.withIoas(cmd.ioas_id, ({ table }) => {
    const room = cmd.num_iovas;
    const holes = [...table.reserved.spans(0n, IOVA_LAST)].filter((span) => !span.used);
    const bytes = new Uint8Array(Math.min(room, holes.length) * iommu_iova_range.size);
    const view = new DataView(bytes.buffer);
    holes.slice(0, room).forEach(({ start, last }, index) => {
      iommu_iova_range.write(view, index * iommu_iova_range.size, { start, last });
    });
    if (bytes.length) copyToUser(call.task.mm, cmd.allowed_iovas, bytes);
    cmd.num_iovas = holes.length;
    cmd.out_iova_alignment = table.alignment;
    call.respond();
    if (holes.length > room) {
      throw new ErrnoError('EMSGSIZE', `there are ${holes.length} ranges, the array holds ${room}`);
    }
  });
}

/** IOMMU_IOAS_ALLOW_IOVAS: ranges that must stay usable, and that automatic IOVA are chosen from. */
export function ioasAllowIovas(call: Call<Cmd<typeof iommu_ioas_allow_iovas>>): void {
  const { cmd } = call;
  checkReserved(cmd.__reserved);
  call.context.withIoas(cmd.ioas_id, ({ table }) => {
    table.setAllowed(readAllowed(call.task.mm, cmd.allowed_iovas, cmd.num_iovas));
  });
}

/** Ranges read at once; a list that can not be read as a whole is read range by range, as Linux does. */
const CHUNK = 256;

function readAllowed(mm: Mm, address: bigint, count: number): IntervalTree<bigint, Allowed> {
  const allowed = new IntervalTree<bigint, Allowed>(1n);
  const bytes = new Uint8Array(CHUNK * iommu_iova_range.size);
  const view = new DataView(bytes.buffer);
  const add = (offset: number): void => {
    const { start, last } = iommu_iova_range.on(view, offset);
    if (start >= last) {
      throw new ErrnoError(
        'EINVAL',
        `the range from ${hex(start)} to ${hex(last)} has less than two bytes`,
      );
    }
    const other = allowed.first(start, last);
    if (other)
      throw new ErrnoError(
        'EINVAL',
        `${range(start, last)} overlaps ${range(other.start, other.last)}`,
      );
    allowed.insert(new Allowed(start, last));
  };
  for (let done = 0; done < count; done += CHUNK) {
    const some = Math.min(CHUNK, count - done);
    const from = address + BigInt(done * iommu_iova_range.size);
    if (mm.copyIn(from, bytes.subarray(0, some * iommu_iova_range.size))) {
      for (let i = 0; i < some; i++) add(i * iommu_iova_range.size);
      continue;
    }
    for (let i = 0; i < some; i++) {
      const one = bytes.subarray(0, iommu_iova_range.size);
      copyFromUser(mm, from + BigInt(i * iommu_iova_range.size), one);
      add(0);
    }
  }
  return allowed;
}
