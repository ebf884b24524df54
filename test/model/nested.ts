// SPDX-License-Identifier: Apache-2.0
/** Tables of a guest in the model: made on a parent, attached like others, with a cache that is invalidated entry by entry. */
import type { Outcome } from './outcome.ts';
import type { Step } from './commands.ts';
import { refuse } from './memory.ts';
import { Hwpt, Nested } from './objects.ts';
import type { World } from './world.ts';

const FOR_PASIDS = 8;
const FAULTS = 4;
const ALL = 1;
/** Bytes of the test driver's data: the least, and the most that it knows. */
const DATA = { least: 4, most: 8 } as const;

export function nestedAlloc(
  world: World,
  step: Step & { op: 'nested_alloc' },
  respond: () => void,
): Outcome['out'] {
  world.get(step.device, 'DEVICE');
  const parent = world.objects.get(step.parent);
  if (!(parent instanceof Hwpt)) return refuse('EINVAL');
  if (step.flags & ~(FOR_PASIDS | FAULTS)) refuse('EOPNOTSUPP');
  if (step.length === 0) refuse('EOPNOTSUPP'); // no data at all
  if (!parent.nests) refuse('EINVAL');
  if (step.length < DATA.least || step.length > DATA.most) refuse('EINVAL');
  const pasid = (step.flags & FOR_PASIDS) !== 0;
  const fault = step.flags & FAULTS ? world.get(step.fault, 'FAULT') : undefined;
  const nested = new Nested(world.freeId(), parent, { pasid, value: step.value, fault });
  respond();
  parent.nested++;
  if (fault) fault.tables++;
  world.objects.set(nested.id, nested);
  return { hwpt: nested.id };
}

/** Entries before a bad one are done. How many is written back whatever happens, and an EFAULT of that comes before all else. */
export function invalidate(
  world: World,
  step: Step & { op: 'invalidate' },
  respond: () => void,
): void {
  const object = world.objects.get(step.hwpt);
  let bad = object === undefined ? 'ENOENT' : undefined;
  if (object !== undefined && (!(object instanceof Nested) || step.otherType)) bad = 'EINVAL';
  if (object instanceof Nested && bad === undefined) bad = carryOut(object.cache, step.entries);
  respond();
  if (bad !== undefined) refuse(bad);
}

/** What the first bad entry is refused with. */
function carryOut(
  cache: number[],
  entries: readonly (readonly [flags: number, index: number])[],
): string | undefined {
  for (const [flags, index] of entries) {
    if (flags & ~ALL) return 'EOPNOTSUPP';
    if (index >= cache.length) return 'EINVAL';
    if (flags & ALL) cache.fill(0);
    else cache[index] = 0;
  }
  return undefined;
}

export function checkCache(world: World, step: Step & { op: 'check_iotlb' }): void {
  const nested = world.get(step.hwpt, 'HWPT_NESTED');
  if (nested.cache[step.index] !== step.value) refuse('EINVAL');
}
