// SPDX-License-Identifier: Apache-2.0
/** The users inside the kernel, in the model: descriptors that pin, read and write what is mapped. */
import type { By } from './commands.ts';
import { PAGE, refuse } from './memory.ts';
import { Access, type Item } from './objects.ts';
import { copyPiece, dropItem, piecesOf } from './maps.ts';
import { Pinning } from './pins.ts';
import { byteAt, type Ioas, LAST, pageAt, type Piece, type Range, type Area } from './space.ts';
import type { World } from './world.ts';

const MAX_BYTES = 16n * 1024n * 1024n;
const PAGE_N = BigInt(PAGE);
const WRITE = 1;
const SLOW = 4;

export function accessAt(world: World, by: By, fd: number): Access {
  const open = world.processes[by].fds.get(fd);
  return open instanceof Access ? open : refuse('EBADFD');
}

/** Throws where the alignment of an access does not suit the maps of an address space. */
export function checkJoin(space: Ioas, pins: boolean): void {
  if (pins && space.alignment < PAGE_N) space.checkAlignment(PAGE_N);
}

/** What creating an access comes to; throws. */
export function creating(
  world: World,
  ioas: number,
  flags: number,
): { access: Access; commit(): void } {
  if (flags & ~1) refuse('EOPNOTSUPP');
  const id = world.freeId();
  const space = world.get(ioas, 'IOAS');
  const access = new Access(id, space, (flags & 1) !== 0);
  checkJoin(space, access.pins);
  const commit = (): void => {
    space.accesses.push(access);
    world.objects.set(id, access);
  };
  return { access, commit };
}

export function replaceIoas(world: World, access: Access, ioas: number): void {
  const next = world.get(ioas, 'IOAS');
  if (next === access.space) return;
  checkJoin(next, access.pins);
  leave(world, access);
  access.space = next;
  next.accesses.push(access);
}

function leave(world: World, access: Access): void {
  world.changes++;
  for (const item of access.items) dropItem(access, item);
  access.space.accesses.splice(access.space.accesses.indexOf(access), 1);
}

export function closeAccess(world: World, access: Access): void {
  leave(world, access);
  world.objects.delete(access.id);
}

function checkPermission(area: Area, write: boolean): void {
  if (!(write ? area.writable : area.readable)) refuse('EPERM');
}

/** Pages must begin and end with the areas, or with the request. */
function checkWhole({ area, start }: { area: Area } & Range, last: bigint): void {
  if (byteAt(area, start) % PAGE !== 0) refuse('EINVAL');
  if (area.last < last && (byteAt(area, area.last) + 1) % PAGE !== 0) refuse('EINVAL');
}

export interface PinRequest {
  readonly by: By;
  readonly flags: number;
  readonly iova: bigint;
  readonly length: bigint;
  readonly va: bigint;
}

/** What pinning comes to; throws. Where `va` is not 0 the pages there must be the ones that are pinned. */
export function pinning(
  world: World,
  access: Access,
  request: PinRequest,
): { id: number; commit(): void } {
  const { iova, length, va } = request;
  const write = (request.flags & WRITE) !== 0;
  const plan = new Pinning();
  const pieces: Piece[] = [];
  for (const piece of piecesOf(access.space, iova, length)) {
    const { area } = piece;
    checkPermission(area, write);
    checkWhole(piece, iova + length - 1n);
    if (write && !area.source.writable) refuse('EPERM');
    if (area.source.from.kind === 'dmabuf') refuse('EINVAL');
    const [first, last] = [pageAt(area, piece.start), pageAt(area, piece.last)];
    plan.hold(area.source, first, last);
    pieces.push({ area, first, last, locks: access.locks });
  }
  if (va) checkPages(world, request, pieces, plan);
  const id = access.nextItem;
  const commit = (): void => {
    world.changes++;
    plan.commit();
    for (const piece of pieces) piece.area.pieces.add(piece);
    const item: Item = { id, iova, bytes: length, pieces };
    access.items.push(item);
    access.nextItem++;
  };
  return { id, commit };
}

function checkPages(
  world: World,
  request: PinRequest,
  pieces: readonly Piece[],
  plan: Pinning,
): void {
  const { mm } = world.processes[request.by];
  const { iova, length, va } = request;
  const into = iova % PAGE_N;
  const count = Number((into + length + PAGE_N - 1n) / PAGE_N);
  const pinned = pieces.flatMap(({ area, first, last }) =>
    Array.from({ length: last - first + 1 }, (_, index) => plan.page(area.source, first + index)),
  );
  const start = BigInt.asUintN(64, va - into) & ~(PAGE_N - 1n);
  for (let index = 0; index < count; index++) {
    const at = BigInt.asUintN(64, start + BigInt(index) * PAGE_N);
    if (at + PAGE_N - 1n >= LAST) refuse('EOVERFLOW');
    const page = mm.find(Number(at / PAGE_N), false) ?? refuse('EFAULT');
    if (page !== pinned[index]) refuse('EBADE');
  }
}

/** Throws as the checks before an access is looked for. */
export function checkRequest(length: bigint, flags: number, known: number): void {
  if (length > MAX_BYTES) refuse('ENOMEM');
  if (flags & ~known) refuse('EOPNOTSUPP');
}

/** Reads into or writes from `data`; what came before a failure stays done. */
export function copy(
  world: World,
  access: Access,
  request: { by: By; flags: number; iova: bigint; length: bigint },
  data: Uint8Array,
): void {
  const write = (request.flags & WRITE) !== 0;
  const slow = (request.flags & SLOW) !== 0;
  const current = world.processes[request.by];
  let done = 0;
  for (const piece of piecesOf(access.space, request.iova, request.length)) {
    checkPermission(piece.area, write);
    const bytes = Number(piece.last - piece.start) + 1;
    copyPiece(piece, data.subarray(done, done + bytes), { write, slow, current });
    done += bytes;
  }
}
