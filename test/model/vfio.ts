// SPDX-License-Identifier: Apache-2.0
/** VFIO's container in the model: its calls on the address space that stands in for the container. */
import type { Step } from './commands.ts';
import { checkJoin } from './accesses.ts';
import { mapSlices, makeSource, unmap } from './maps.ts';
import { PAGE, refuse } from './memory.ts';
import type { Outcome } from './outcome.ts';
import { type Area, byteAt, type Ioas, LAST } from './space.ts';
import type { World } from './world.ts';

export type VfioStep = Extract<
  Step,
  { op: `vfio_${'api' | 'ioas' | 'extension' | 'set' | 'info' | 'map' | 'unmap'}` }
>;

const PAGE_N = BigInt(PAGE);
const OP = { GET: 0, SET: 1, CLEAR: 2 } as const;
const TYPE1 = 1;
const TYPE1v2 = 3;
const CC_IOMMU = 4;
const UNMAP_ALL = 9;
const MAP_READ = 1;
const MAP_WRITE = 2;
const UNMAP_FLAG_ALL = 2;
/** Bytes that the structures have at least. */
const LEAST = { map: 32, unmap: 24, info: 16 } as const;
/** Of the info itself, and of what is chained behind it without its array. */
const INFO_BYTES = 24;
const AVAIL_BYTES = 12;
const RANGES_BYTES = 16;
const RANGE_BYTES = 16;

function container(world: World): Ioas {
  const { vfioIoas } = world;
  return vfioIoas && world.objects.get(vfioIoas.id) === vfioIoas ? vfioIoas : refuse('ENODEV');
}

export function performVfio(world: World, step: VfioStep): Outcome['out'] | void {
  switch (step.op) {
    case 'vfio_ioas':
      return containerIoas(world, step);
    case 'vfio_api':
      return { value: 0 };
    case 'vfio_extension': {
      const known = [TYPE1, TYPE1v2, UNMAP_ALL].includes(step.extension);
      if (step.extension !== CC_IOMMU) return { value: known ? 1 : 0 };
      // No table of the test driver enforces coherency, so none may be there.
      return { value: container(world).hwpts.length === 0 ? 1 : 0 };
    }
    case 'vfio_set': {
      if (step.type !== TYPE1 && step.type !== TYPE1v2) refuse('EINVAL');
      const space = container(world);
      if (step.type === TYPE1) disableLargePages(space);
      return;
    }
    case 'vfio_info':
      return info(world, step);
    case 'vfio_map':
      return map(world, step);
    case 'vfio_unmap':
      return unmapDma(world, step);
  }
}

function containerIoas(world: World, step: Step & { op: 'vfio_ioas' }): Outcome['out'] | void {
  switch (step.action) {
    case OP.GET: {
      const { id } = container(world);
      if (step.readOnly) refuse('EFAULT');
      return { ioas: id };
    }
    case OP.SET:
      world.vfioIoas = world.get(step.ioas, 'IOAS');
      return;
    case OP.CLEAR:
      world.vfioIoas = undefined;
      return;
    default:
      refuse('EOPNOTSUPP');
  }
}

/** Never undone here, unlike by IOMMU_OPTION_HUGE_PAGES. */
function disableLargePages(space: Ioas): void {
  if (space.noLargePages) return;
  if (space.filled && space.areas.length > 0) refuse('EINVAL');
  checkJoin(space, true);
  space.noLargePages = true;
}

/** Maps at the IOVA that is asked for; without READ and WRITE too. */
function map(world: World, step: Step & { op: 'vfio_map' }): void {
  if (step.argsz < LEAST.map || step.flags & ~(MAP_READ | MAP_WRITE)) refuse('EINVAL');
  const space = container(world);
  const { va, length, iova, by } = step;
  if (va + length > LAST) refuse('EOVERFLOW');
  const { mm } = world.processes[by];
  const from = { kind: 'user', mm, page: Number(va / PAGE_N) } as const;
  const writable = (step.flags & MAP_WRITE) !== 0;
  const source = makeSource(world, by, from, length, writable);
  const access = (writable ? 2 : 0) | (step.flags & MAP_READ ? 4 : 0);
  const slice = { source, startByte: Number(va % PAGE_N), length };
  mapSlices(world, space, [slice], { flags: 1 | access, length, iova });
}

/** Without large pages, maps are cut at both ends first. How much was unmapped is written back even where it fails. */
function unmapDma(world: World, step: Step & { op: 'vfio_unmap' }): Outcome['out'] {
  const { iova, length, flags } = step;
  if (step.argsz < LEAST.unmap || flags & ~UNMAP_FLAG_ALL) refuse('EINVAL');
  const space = container(world);
  let range = { start: 0n, last: LAST };
  let code = 'OK';
  if (flags & UNMAP_FLAG_ALL) {
    if (iova !== 0n || length !== 0n) refuse('EINVAL');
  } else {
    range = { start: iova, last: iova + length - 1n };
    if (space.noLargePages) cutEnds(world, space, step);
    if (length === 0n) code = 'EINVAL';
    else if (range.last > LAST) code = 'EOVERFLOW';
  }
  let size = 0n;
  if (code === 'OK') ({ bytes: size, code } = unmap(world, space, range));
  if (step.readOnly) refuse('EFAULT');
  return code === 'OK' ? { size } : refuse(code, { size });
}

function cutEnds(world: World, space: Ioas, step: Step & { op: 'vfio_unmap' }): void {
  const ends = [BigInt.asUintN(64, step.iova + step.length - 1n)];
  if (step.iova !== 0n) ends.push(step.iova - 1n);
  let allocations = 0;
  for (const end of ends) {
    const area = space.areaAt(end);
    // Nothing is cut where the map begins with that byte either.
    if (!area || end === area.start || end === area.last) continue;
    if (area.source.from.kind === 'dmabuf') refuse('EOPNOTSUPP');
    const mask = space.alignment - 1n;
    if ((end + 1n) & mask || BigInt(byteAt(area, end + 1n)) & mask) refuse('EINVAL');
    allocations += 2;
    if (step.failing !== undefined && step.failing <= allocations) refuse('ENOMEM');
    if (area.pieces.size > 0) refuse('EINVAL');
    cut(world, area, end);
  }
}

function cut(world: World, area: Area, end: bigint): void {
  const { space, source } = area;
  world.changes++;
  const halves: Area[] = [
    { ...area, last: end, pieces: new Set() },
    { ...area, start: end + 1n, startByte: byteAt(area, end + 1n), pieces: new Set() },
  ];
  space.areas = space.areas.filter((other) => other !== area);
  source.areas.delete(area);
  for (const half of halves) space.insert(half);
}

function info(world: World, step: Step & { op: 'vfio_info' }): Outcome['out'] {
  const { argsz } = step;
  if (argsz < LEAST.info) refuse('EINVAL');
  const space = container(world);
  if (step.readOnly) refuse('EFAULT');
  const bytes = new Uint8Array(PAGE);
  const view = new DataView(bytes.buffer);
  const room = (at: number): number => Math.max(0, argsz - at);
  const avail = INFO_BYTES;
  if (room(avail) >= AVAIL_BYTES) {
    view.setUint16(avail, 3, true);
    view.setUint16(avail + 2, 1, true);
    view.setUint32(avail + 8, 0xffff_ffff, true);
  }
  const ranges = avail + 16;
  const all = space.ranges();
  for (const [index, { start, last }] of all.entries()) {
    if (room(ranges) < RANGES_BYTES + RANGE_BYTES * (index + 1)) break;
    view.setBigUint64(ranges + RANGES_BYTES + RANGE_BYTES * index, start, true);
    view.setBigUint64(ranges + RANGES_BYTES + RANGE_BYTES * index + 8, last, true);
  }
  if (room(ranges) >= RANGES_BYTES + RANGE_BYTES * all.length) {
    view.setUint16(ranges, 1, true);
    view.setUint16(ranges + 2, 1, true);
    view.setUint32(ranges + 8, all.length, true);
  }
  if (argsz >= ranges) view.setUint32(avail + 4, ranges, true);
  const total = ranges + RANGES_BYTES + RANGE_BYTES * all.length;
  const head = new DataView(new ArrayBuffer(INFO_BYTES));
  head.setUint32(0, total, true);
  head.setUint32(4, 1 | 2, true);
  head.setBigUint64(8, pageSizes(space), true);
  head.setUint32(16, argsz >= total ? INFO_BYTES : 0, true);
  bytes.set(new Uint8Array(head.buffer, 0, Math.min(argsz, INFO_BYTES)));
  return { info: bytes };
}

/** Sizes that all domains have; below a page that page is promised. */
function pageSizes(space: Ioas): bigint {
  let sizes = LAST;
  for (const { pageSizes: own } of space.hwpts) sizes &= own;
  if (sizes & (PAGE_N - 1n)) sizes = (sizes & ~(PAGE_N - 1n)) | PAGE_N;
  return sizes > space.alignment ? sizes : space.alignment;
}
