// SPDX-License-Identifier: Apache-2.0
/** Hardware queues of a guest in the model: whole pages side by side in memory, pinned by an access of their own. */
import { checkJoin, closeAccess, pinning } from './accesses.ts';
import type { Step } from './commands.ts';
import { HALF, PAGE, refuse } from './memory.ts';
import { Access, type Viommu } from './objects.ts';
import type { Outcome } from './outcome.ts';
import { LAST } from './space.ts';
import type { Leaf } from './tables.ts';
import type { World } from './world.ts';

const SELFTEST = 0xdead_beef;
const QUEUES = 2;
const PAGE_N = BigInt(PAGE);
/** More pages than Linux can list. */
const MOST_PAGES = 0x7fff_ffffn / 8n;

export class HwQueue {
  readonly kind = 'HW_QUEUE';
  readonly id: number;
  readonly viommu: Viommu;
  readonly index: number;
  readonly access: Access;
  readonly iova: bigint;
  readonly length: bigint;

  constructor(
    id: number,
    viommu: Viommu,
    options: { index: number; access: Access; iova: bigint; length: bigint },
  ) {
    this.id = id;
    this.viommu = viommu;
    this.index = options.index;
    this.access = options.access;
    this.iova = options.iova;
    this.length = options.length;
  }

  /** The queue after it needs it. */
  get users(): number {
    return 1 + (this.viommu.hwQueues[this.index + 1] ? 1 : 0);
  }
}

export function hwQueueAlloc(world: World, step: Step & { op: 'hw_queue_alloc' }): Outcome['out'] {
  const { iova, length, index } = step;
  if (step.type === 0) refuse('EOPNOTSUPP');
  if (length === 0n) refuse('EINVAL');
  if (iova + length - 1n > LAST) refuse('EOVERFLOW');
  const viommu = world.get(step.viommu, 'VIOMMU');
  if (step.type !== SELFTEST) refuse('EOPNOTSUPP');
  const [id = 0, accessId = 0] = world.freeIds(2);
  const first = iova & ~(PAGE_N - 1n);
  const pages = (iova - first + length + PAGE_N - 1n) / PAGE_N;
  if (pages * PAGE_N > LAST) refuse('ERANGE');
  if (pages > MOST_PAGES) refuse('ENOMEM');
  const { space } = viommu.parent;
  checkJoin(space, true);
  const access = new Access(accessId, space, true, true);
  const pin = pinning(world, access, {
    by: 0,
    flags: 0,
    iova: first,
    length: pages * PAGE_N,
    va: 0n,
  });
  if (!isContiguous(world.leaves(viommu.parent), first, Number(pages))) refuse('EFAULT');
  if (index >= QUEUES) refuse('EINVAL');
  if (viommu.hwQueues[index]) refuse('EEXIST');
  if (index > 0 && !viommu.hwQueues[index - 1]) refuse('EIO');
  if (step.readOnly) refuse('EFAULT');
  space.accesses.push(access);
  pin.commit();
  world.objects.set(accessId, access);
  const queue = new HwQueue(id, viommu, { index, access, iova, length });
  viommu.hwQueues[index] = queue;
  world.objects.set(id, queue);
  return { queue: id };
}

export function dropHwQueue(world: World, { viommu, index, access }: HwQueue): void {
  viommu.hwQueues[index] = undefined;
  closeAccess(world, access);
}

/** Where pages are in memory is taken from the tables of the parent. */
function isContiguous(leaves: readonly Leaf[], iova: bigint, pages: number): boolean {
  const frameAt = (at: number): number => {
    const leaf = leaves.find(({ iova: start, frames }) => start <= at && at < start + frames);
    return leaf ? leaf.frame + at - leaf.iova : -1;
  };
  const first = Number(iova / BigInt(HALF));
  const step = PAGE / HALF;
  const base = frameAt(first);
  return Array.from({ length: pages }, (_, page) => page * step).every(
    (frames) => frameAt(first + frames) === base + frames,
  );
}
