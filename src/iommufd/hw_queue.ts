// SPDX-License-Identifier: Apache-2.0
/** Queues of a guest that hardware reads from memory itself (the HW_QUEUE half of viommu.c). */
import { IOMMU_HW_QUEUE_TYPE_DEFAULT, type iommu_hw_queue_alloc } from '../abi/iommufd.ts';
import type { Cmd } from '../abi/struct.ts';
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import type { DriverPart, HwQueueHost } from '../iommu/viommu_ops.ts';
import { FRAME_SIZE } from '../memory/frame.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { Access } from './access.ts';
import { type Call, checkFlags } from './call.ts';
import { checkErrno } from './check.ts';
import { hex, IOVA_LAST } from './iova.ts';
import { IommufdObject } from './objects.ts';
import { reserve, Viommu } from './viommu.ts';

const PAGE = BigInt(PAGE_SIZE);
const PAGE_MASK = PAGE - 1n;
/** Linux lists the pages of a queue in one piece of memory, 8 bytes each, which can not be larger than 2 GiB. */
const MOST_PAGES = 0x7fff_ffffn / 8n;

/** A queue of a virtual IOMMU (struct iommufd_hw_queue). An access of iommufd's own pins its pages, and no unmap takes them. */
export class HwQueue extends IommufdObject implements HwQueueHost {
  readonly type = 'HW_QUEUE';
  readonly viommu: Viommu;
  readonly baseAddress: bigint;
  readonly length: bigint;
  part: DriverPart | undefined = undefined;
  private access: Access | undefined = undefined;

  /** Takes a user of the virtual IOMMU. */
  constructor(viommu: Viommu, baseAddress: bigint, length: bigint) {
    super();
    this.viommu = viommu;
    this.baseAddress = baseAddress;
    this.length = length;
    viommu.users++;
  }

  hold(): void {
    this.users++;
  }

  release(): void {
    this.users--;
  }

  private get firstPage(): bigint {
    return this.baseAddress & ~PAGE_MASK;
  }

  /** The whole pages that hold it, in bytes. */
  private get pinnedBytes(): bigint {
    return (this.baseAddress - this.firstPage + this.length + PAGE_MASK) & ~PAGE_MASK;
  }

  /**
   * Pins its pages and answers where they are in physical memory.
   * @throws ERANGE, ENOMEM (too long), EADDRINUSE (maps that are not aligned to pages), what a pin throws, EFAULT (not contiguous)
   */
  pin(): bigint {
    const { firstPage, pinnedBytes, viommu } = this;
    if (pinnedBytes > IOVA_LAST)
      throw new ErrnoError('ERANGE', `length ${hex(this.length)} exceeds what can be counted`);
    if (pinnedBytes / PAGE > MOST_PAGES)
      throw new ErrnoError('ENOMEM', `length ${hex(this.length)}: too many pages to list`);
    return withCleanup((cleanup) => {
      const access = Access.create(viommu.context, undefined);
      cleanup.defer(() => access.close());
      access.attachTo(viommu.parent.ioas);
      const runs = access.pin(firstPage, pinnedBytes, false);
      cleanup.defer(() => access.unpin(firstPage, pinnedBytes));
      let next = runs[0]?.frame ?? 0;
      const base = next;
      for (const { frame, frames } of runs) {
        if (frame !== next) {
          const where = hex(this.baseAddress);
          throw new ErrnoError('EFAULT', `the queue at ${where} is not contiguous in memory`);
        }
        next = frame + frames;
      }
      this.access = access;
      return BigInt(base) * BigInt(FRAME_SIZE) + (this.baseAddress - firstPage);
    });
  }

  override destroy(): void {
    this.part?.destroy();
    if (this.access) {
      this.access.unpin(this.firstPage, this.pinnedBytes);
      this.access.close();
    }
    this.viommu.users--;
  }
}

/** IOMMU_HW_QUEUE_ALLOC */
export function hwQueueAlloc(call: Call<Cmd<typeof iommu_hw_queue_alloc>>): void {
  const { cmd, context } = call;
  checkFlags(cmd.flags, 0);
  const { type: kind, length, nesting_parent_iova: base } = cmd;
  if (kind === IOMMU_HW_QUEUE_TYPE_DEFAULT)
    throw new ErrnoError('EOPNOTSUPP', 'a hardware queue has no default type: state one');
  if (length === 0n) throw new ErrnoError('EINVAL', 'length is 0');
  if (base + length - 1n > IOVA_LAST) {
    const what = `nesting_parent_iova ${hex(base)} + length ${hex(length)}`;
    throw new ErrnoError('EOVERFLOW', `${what} exceeds 2^64`);
  }
  context.withObject(cmd.viommu_id, Viommu, 'a virtual IOMMU', (viommu) => {
    const { driver } = viommu;
    if (!driver.hwQueueInit || !driver.hasHwQueue?.(kind)) {
      const what = `hardware queues of type 0x${kind.toString(16)}`;
      throw new ErrnoError('EOPNOTSUPP', `VIOMMU ${viommu.id} has no ${what}`);
    }
    const queue = new HwQueue(viommu, base, length);
    reserve(call, queue);
    const part = driver.hwQueueInit(queue, cmd.index, queue.pin());
    if (typeof part === 'number')
      throw checkErrno(part, `the driver refused queue ${cmd.index} at ${hex(base)}`);
    queue.part = part;
    cmd.out_hw_queue_id = queue.id;
    call.respond();
  });
}
