// SPDX-License-Identifier: Apache-2.0
/** Tables of a guest in the model: made on a parent, attached like others, with a cache that is invalidated entry by entry. */
import type { Outcome } from './outcome.ts';
import type { Step } from './commands.ts';
import { refuse } from './memory.ts';
import { invalidateDevices } from './guests.ts';
import { Hwpt, Nested, Viommu } from './objects.ts';
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
  const object = world.objects.get(step.parent);
  const viommu = object instanceof Viommu ? object : undefined;
  const parent = viommu ? viommu.parent : object;
  if (!(parent instanceof Hwpt)) return refuse('EINVAL');
  if (step.flags & ~(FOR_PASIDS | FAULTS)) refuse('EOPNOTSUPP');
  if (step.length === 0) refuse('EOPNOTSUPP'); // no data at all
  if (!parent.nests) refuse('EINVAL');
  if (step.length < DATA.least || step.length > DATA.most) refuse('EINVAL');
  const pasid = (step.flags & FOR_PASIDS) !== 0;
  const fault = step.flags & FAULTS ? world.get(step.fault, 'FAULT') : undefined;
  const nested = new Nested(world.freeId(), parent, { pasid, value: step.value, fault, viommu });
  respond();
  (viommu ?? parent).nested++;
  if (fault) fault.tables++;
  world.objects.set(nested.id, nested);
  return { hwpt: nested.id };
}

/** Entries before a bad one are done. How many is written back whatever happens, and an EFAULT of that comes before all else. */
export function invalidate(
  world: World,
  step: Step & { op: 'invalidate' | 'invalidate_devices' },
): Outcome['out'] {
  const { bad, handled } = carryOut(world, step);
  if (step.readOnly) refuse('EFAULT');
  return bad === undefined ? { handled } : refuse(bad, { handled });
}

/** Entries of a table's cache have two words. */
const SHORT = { entryBytes: 8, tail: false } as const;

interface Done {
  /** What the first bad entry is refused with. */
  readonly bad: string | undefined;
  readonly handled: number;
}

function carryOut(world: World, step: Step & { op: 'invalidate' | 'invalidate_devices' }): Done {
  const object = world.objects.get(step.op === 'invalidate' ? step.hwpt : step.viommu);
  if (!object) return { bad: 'ENOENT', handled: 0 };
  if (step.op === 'invalidate') {
    if (object instanceof Nested) return invalidateTable(object, step);
    if (!(object instanceof Viommu)) return { bad: 'EINVAL', handled: 0 };
    // The test driver has one number for both kinds of data: the entries are read as those of devices, whose last word is 0.
    return invalidateDevices(object, {
      ...step,
      ...SHORT,
      op: 'invalidate_devices',
      viommu: object.id,
    });
  }
  return object instanceof Viommu ? invalidateDevices(object, step) : { bad: 'EINVAL', handled: 0 };
}

function invalidateTable({ cache }: Nested, step: Step & { op: 'invalidate' }): Done {
  if (step.otherType) return { bad: 'EINVAL', handled: 0 };
  for (const [handled, [flags, index]] of step.entries.entries()) {
    if (flags & ~ALL) return { bad: 'EOPNOTSUPP', handled };
    if (index >= cache.length) return { bad: 'EINVAL', handled };
    if (flags & ALL) cache.fill(0);
    else cache[index] = 0;
  }
  return { bad: undefined, handled: step.entries.length };
}

export function checkCache(world: World, step: Step & { op: 'check_iotlb' }): void {
  const nested = world.get(step.hwpt, 'HWPT_NESTED');
  if (nested.cache[step.index] !== step.value) refuse('EINVAL');
}
