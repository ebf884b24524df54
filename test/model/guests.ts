// SPDX-License-Identifier: Apache-2.0
/** Virtual IOMMUs in the model: their devices, the pages that they share, and the caches that they invalidate. */
import type { Outcome } from './outcome.ts';
import type { Step } from './commands.ts';
import { PAGE, refuse } from './memory.ts';
import { type Device, Vdevice, Viommu } from './objects.ts';
import type { World } from './world.ts';

const SELFTEST = 0xdead_beef;
const ALL = 1;
const PAGE_N = BigInt(PAGE);
/** Bytes of the test driver's data: the least, those that it fills in, and all that it knows. */
const DATA = { least: 8, most: 24 } as const;
/** Of what a virtual IOMMU that was made with data shares. */
const SHARED_BYTES = 2 * PAGE;
/** What an invalidation of a device's cache looks like: flags, what the guest calls the device, the cache's entry. */
const ENTRY_BYTES = 12;

export function viommuAlloc(
  world: World,
  step: Step & { op: 'viommu_alloc' },
  respond: () => void,
): Outcome['out'] {
  if (step.type === 0) refuse('EOPNOTSUPP');
  world.get(step.device, 'DEVICE');
  if (step.type !== SELFTEST) refuse('EOPNOTSUPP');
  const parent = world.get(step.hwpt, 'HWPT_PAGING');
  if (!parent.nests) refuse('EINVAL');
  if (step.length > 0 && (step.length < DATA.least || step.length > DATA.most)) refuse('EINVAL');
  const offset = step.length > 0 ? freeOffset(world) : undefined;
  const viommu = new Viommu(world.freeId(), parent, { offset, word: step.word });
  respond();
  parent.nested++;
  world.objects.set(viommu.id, viommu);
  if (offset === undefined) return { viommu: viommu.id };
  const all = step.length >= DATA.most ? { offset, bytes: BigInt(SHARED_BYTES) } : {};
  return { viommu: viommu.id, word: step.word, ...all };
}

/** The lowest offset in the descriptor that is not the first page, and has room. */
function freeOffset(world: World): bigint {
  const taken = world.of('VIOMMU').map(({ offset }) => offset);
  let offset = PAGE_N;
  while (taken.some((other) => other !== undefined && meets(other, offset))) offset += PAGE_N;
  return offset;
}

const meets = (a: bigint, b: bigint): boolean =>
  a < b + BigInt(SHARED_BYTES) && b < a + BigInt(SHARED_BYTES);

/** mmap(2) of the descriptor: a map is a user of whoever shares the pages. */
export function mapShared(world: World, step: Step & { op: 'shared_map' }): Outcome['out'] {
  if (!step.shared) refuse('EINVAL');
  if (step.executable) refuse('EPERM');
  const exact = step.pages * PAGE === SHARED_BYTES;
  const owner = world.of('VIOMMU').find(({ offset }) => offset === step.offset);
  if (!owner || !exact) return refuse('ENXIO');
  owner.maps++;
  world.maps.push({ by: step.by, owner });
  return { word: owner.word };
}

export function unmapShared(world: World, { map }: Step & { op: 'shared_unmap' }): void {
  if (world.maps.length === 0) refuse('SKIP');
  const [gone] = world.maps.splice(map % world.maps.length, 1);
  if (gone) gone.owner.maps--;
}

export function vdeviceAlloc(
  world: World,
  step: Step & { op: 'vdevice_alloc' },
  respond: () => void,
): Outcome['out'] {
  const viommu = world.get(step.viommu, 'VIOMMU');
  const device = world.get(step.device, 'DEVICE');
  if (device.vdevice || viommu.devices.has(step.virtualId)) refuse('EEXIST');
  const made = new Vdevice(world.freeId(), viommu, device, step.virtualId);
  respond();
  viommu.devices.set(step.virtualId, made);
  device.vdevice = made;
  world.objects.set(made.id, made);
  return { vdevice: made.id };
}

export function dropVdevice({ viommu, device, virtualId }: Vdevice): void {
  viommu.devices.delete(virtualId);
  device.vdevice = undefined;
}

/** A device goes, and what a guest called it with it: nothing else gets that id any more. */
export function buryVdevice(world: World, { vdevice }: Device): void {
  if (!vdevice) return;
  dropVdevice(vdevice);
  world.objects.delete(vdevice.id);
  world.tombstones.add(vdevice.id);
}

/** Invalidates caches of a guest's devices: all entries are read first, then one after another is done. */
export function invalidateDevices(
  { devices }: Viommu,
  step: Step & { op: 'invalidate_devices' },
): { bad: string | undefined; handled: number } {
  if (step.otherType) return { bad: 'EINVAL', handled: 0 };
  if (step.entryBytes > ENTRY_BYTES && step.tail) {
    if (step.entries.length > 0) return { bad: 'E2BIG', handled: 0 };
  }
  const known = Math.floor(step.entryBytes / 4);
  for (const [handled, entry] of step.entries.entries()) {
    const [flags = 0, virtualId = 0, index = 0] = entry.slice(0, known);
    const cache = devices.get(BigInt(virtualId))?.device.cache;
    let bad: string | undefined = undefined;
    if (!cache || index >= cache.length) bad = 'EINVAL';
    if (flags & ~ALL) bad = 'EOPNOTSUPP';
    if (bad !== undefined) return { bad, handled };
    if (flags & ALL) cache?.fill(0);
    else if (cache) cache[index] = 0;
  }
  return { bad: undefined, handled: step.entries.length };
}

export function checkDeviceCache(world: World, step: Step & { op: 'check_cache' }): void {
  const { cache } = world.get(step.device, 'DEVICE');
  if (cache[step.index] !== step.value) refuse('EINVAL');
}
