// SPDX-License-Identifier: Apache-2.0
/** What the calls on address spaces do in the model. Each either throws with nothing changed, or is done as a whole. */
import type { By } from './commands.ts';
import { type AccountMode, PAGE, refuse, Refused } from './memory.ts';
import type { Access, Item } from './objects.ts';
import { findPage, Pinning, settle } from './pins.ts';
import {
  type Area,
  byteAt,
  type Ioas,
  LAST,
  length,
  meets,
  pageAt,
  type Range,
  type Source,
  translate,
} from './space.ts';
import type { World } from './world.ts';

const FIXED = 1;
const WRITE = 2;
const READ = 4;
const PAGE_N = BigInt(PAGE);

/** A part of a source that is to become an area. */
export interface Slice {
  readonly source: Source;
  readonly startByte: number;
  readonly length: bigint;
}

export interface MapRequest {
  readonly flags: number;
  readonly length: bigint;
  readonly iova: bigint;
}

export function checkMapFlags(flags: number, ...values: bigint[]): void {
  if (flags & ~(FIXED | WRITE | READ)) refuse('EOPNOTSUPP');
  if (values.includes(LAST)) refuse('EOVERFLOW');
  if (!(flags & (READ | WRITE))) refuse('EINVAL');
}

export const isWriting = (flags: number): boolean => (flags & WRITE) !== 0;

export function makeSource(
  world: World,
  by: By,
  from: Source['from'],
  bytes: bigint,
  writable: boolean,
): Source {
  if (bytes === 0n || bytes > LAST - PAGE_N) refuse('EINVAL');
  const free = from.kind === 'dmabuf' || world.processes[by].ipcLock;
  const mode: AccountMode = free ? 'none' : world.mode;
  return {
    from,
    writable,
    mode,
    payer: world.payer(by),
    dead: false,
    pinned: new Map(),
    areas: new Set(),
  };
}

const addressOf = ({ source: { from }, startByte }: Slice): bigint =>
  BigInt(from.page) * PAGE_N + BigInt(startByte);

/** Maps slices one after another; returns the first IOVA. */
export function mapSlices(
  world: World,
  space: Ioas,
  slices: readonly Slice[],
  request: MapRequest,
): bigint {
  const { flags, length: bytes } = request;
  const mask = space.alignment - 1n;
  const first = slices[0] ?? refuse('EINVAL');
  if (bytes === 0n || bytes & mask) refuse('EINVAL');
  const start =
    flags & FIXED ? checkIova(space, request) : space.chooseIova(addressOf(first), bytes);
  const areas: Area[] = [];
  let at = start;
  for (const { source, startByte, length: part } of slices) {
    if (isWriting(flags) && !source.writable) refuse('EPERM');
    if (BigInt(startByte % PAGE) & mask) refuse('EINVAL');
    areas.push({
      start: at,
      last: at + part - 1n,
      space,
      source,
      startByte,
      readable: (flags & READ) !== 0,
      writable: isWriting(flags),
      pieces: new Set(),
    });
    at += part;
  }
  const pinning = new Pinning();
  if (space.filled) for (const area of areas) pinning.holdArea(area);
  pinning.commit();
  for (const area of areas) space.insert(area);
  world.changes++;
  return start;
}

function checkIova(space: Ioas, { iova, length: bytes }: MapRequest): bigint {
  if (iova & (space.alignment - 1n)) refuse('EINVAL');
  const range = { start: iova, last: iova + bytes - 1n };
  if (range.last > LAST) refuse('EOVERFLOW');
  if (space.reserved.some((reserved) => meets(reserved, range))) refuse('EINVAL');
  if (space.areas.some((area) => meets(area, range))) refuse('EEXIST');
  return iova;
}

/** The parts of the areas that cover a range without a gap; throws ENOENT. */
export function slicesOf(space: Ioas, iova: bigint, bytes: bigint): Slice[] {
  if (bytes === 0n) refuse('EINVAL');
  const last = iova + bytes - 1n;
  if (last > LAST) refuse('EOVERFLOW');
  const slices: Slice[] = [];
  for (let at = iova; at <= last;) {
    const area = space.areaAt(at) ?? refuse('ENOENT');
    const to = area.last < last ? area.last : last;
    slices.push({ source: area.source, startByte: byteAt(area, at), length: to - at + 1n });
    at = to + 1n;
  }
  return slices;
}

/** Unmaps whole areas in order until one sticks out of the range; `code` says how it ended. */
export function unmap(world: World, space: Ioas, range: Range): { bytes: bigint; code: string } {
  let bytes = 0n;
  for (const area of space.areas.filter((each) => meets(each, range))) {
    if ([...area.pieces].some(({ locks }) => locks)) return { bytes, code: 'EBUSY' };
    if (area.start < range.start || area.last > range.last) return { bytes, code: 'ENOENT' };
    if (area.pieces.size > 0) for (const access of space.accesses) dropItems(access, area);
    world.removeArea(area);
    bytes += length(area);
  }
  return { bytes, code: 'OK' };
}

/** An access lets go of what it holds in a range. */
export function dropItems(access: Access, range: Range): void {
  for (const item of access.items) {
    if (meets({ start: item.iova, last: item.iova + item.bytes - 1n }, range))
      dropItem(access, item);
  }
}

export function dropItem(access: Access, item: Item): void {
  access.items = access.items.filter((other) => other !== item);
  for (const piece of item.pieces) piece.area.pieces.delete(piece);
  for (const { area } of item.pieces) settle(area.source);
}

/** The areas under a range with the part of each; throws ENOENT at the first gap, after what lies before it was given. */
export function* piecesOf(
  space: Ioas,
  iova: bigint,
  bytes: bigint,
): IterableIterator<{ area: Area } & Range> {
  if (bytes === 0n) refuse('EINVAL');
  const last = iova + bytes - 1n;
  if (last > LAST) refuse('EOVERFLOW');
  for (let at = iova; at <= last;) {
    const area = space.areaAt(at) ?? refuse('ENOENT');
    const to = area.last < last ? area.last : last;
    yield { area, start: at, last: to };
    at = to + 1n;
  }
}

/** IOMMU_TEST_OP_MD_CHECK_MAP */
export function checkMap(
  world: World,
  id: number,
  { iova, length: bytes, va }: { iova: bigint; length: bigint; va: bigint },
): void {
  const { space, granule } = world.get(id, 'HWPT_PAGING');
  if ((iova | bytes | va) & (granule - 1n) || va + bytes > LAST) refuse('EINVAL');
  for (let done = 0n; done < bytes; done += granule) {
    const address = va + done;
    const page = world.processes[0].mm.find(Number(address / PAGE_N), false) ?? refuse('EFAULT');
    const area = space.areaAt(iova + done);
    const found = area && translate(area, iova + done);
    const half = Number(address % PAGE_N) / 2048;
    if (found?.page !== page || found.half !== half) refuse('EINVAL');
  }
}

/** IOMMU_TEST_OP_MD_CHECK_REFS */
export function checkRefs(
  world: World,
  { by, va, length: bytes, refs }: { by: By; va: bigint; length: bigint; refs: number },
): void {
  if (bytes % PAGE_N || va % PAGE_N || va + bytes > LAST) refuse('EINVAL');
  for (let at = va; at < va + bytes; at += PAGE_N) {
    const page = world.processes[by].mm.find(Number(at / PAGE_N), false) ?? refuse('EFAULT');
    if (page.pins !== refs) refuse('EIO');
  }
}

/** IOMMU_IOAS_CHANGE_PROCESS: pages of files change hands; nobody pays for pages without an account, before or after. */
export function changeProcess(world: World, by: By): void {
  const payer = world.payer(by);
  const sources = new Set(world.areas().map(({ source }) => source));
  for (const { from } of sources) if (from.kind !== 'file') refuse('EINVAL');
  const moving = [...sources].filter(
    ({ mode, payer: old }) =>
      mode !== 'none' && (old.mm !== payer.mm || (mode === 'user' && old.user !== payer.user)),
  );
  const total = moving.reduce((sum, { pinned }) => sum + pinned.size, 0);
  const limited = world.mode === 'user' ? payer.user : payer.mm;
  if (total > 0 && limited.locked + total > payer.memlock) refuse('ENOMEM');
  for (const source of moving) {
    const pages = source.pinned.size;
    for (const [who, sign] of [
      [source.payer, -1],
      [payer, 1],
    ] as const) {
      const account = source.mode === 'user' ? who.user : who.mm;
      account.locked += sign * pages;
      who.mm.pinned += sign * pages;
    }
  }
  for (const source of sources) source.payer = payer;
}

/** Reads or writes one area's part for an access; throws. */
export function copyPiece(
  { area, start, last }: { area: Area } & Range,
  data: Uint8Array,
  options: { write: boolean; slow: boolean; current: World['processes'][0] },
): void {
  const { source } = area;
  const { write, slow, current } = options;
  if (write && !source.writable) refuse('EPERM');
  const { from } = source;
  if (from.kind === 'dmabuf') return refuse('EINVAL');
  const byte = byteAt(area, start);
  if (from.kind === 'user' && !slow && from.mm === current.mm) {
    const address = BigInt(from.page) * PAGE_N + BigInt(byte);
    if (!from.mm.copy(address, data, write)) refuse('EFAULT');
    return;
  }
  const [first, end] = [pageAt(area, start), pageAt(area, last)];
  const single = first === end && from.kind === 'user' && from.mm.alive;
  const pages = Array.from({ length: end - first + 1 }, (_, index) =>
    single
      ? (from.mm.find(from.page + first, write) ?? refuse('EFAULT'))
      : (source.pinned.get(first + index) ?? findPage(source, first + index)),
  );
  for (let done = 0; done < data.length;) {
    const offset = (byte + done) % PAGE;
    const part = data.subarray(done, done + Math.min(PAGE - offset, data.length - done));
    const page = pages[Math.floor((byte + done) / PAGE) - first];
    if (write) page?.write(offset, part);
    else page?.read(offset, part);
    done += part.length;
  }
}

/** The errno that a body ends with. */
export function codeOf(body: () => unknown): string {
  try {
    body();
    return 'OK';
  } catch (error) {
    if (error instanceof Refused) return error.code;
    throw error;
  }
}
