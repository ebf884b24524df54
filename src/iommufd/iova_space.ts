// SPDX-License-Identifier: Apache-2.0
import { roundupPow2 } from '../base/bits.ts';
import { ErrnoError } from '../base/errno.ts';
import { IntervalTree } from '../base/interval_tree.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import { RwSem } from '../sim/lock.ts';
import type { Area } from './area.ts';
import { type Allowed, findIova, hex, IOVA_LAST, range, Reserved } from './iova.ts';
import { IOVA_LOCK, writing } from './locks.ts';
import type { PageWorld } from './pages.ts';

const PAGE = BigInt(PAGE_SIZE);
/** Automatic IOVA keep the alignment of the memory up to this, the size of a transparent huge page. */
const MAX_ALIGNMENT = 2n * 1024n * 1024n;

/**
 * Which IOVA are in use, may not be used, and must stay usable. Addresses are u64 bytes. What ends in `Locked` is called with
 * the lock held.
 */
export class IovaSpace {
  readonly areas = new IntervalTree<bigint, Area>(1n);
  readonly reserved = new IntervalTree<bigint, Reserved>(1n);
  allowed = new IntervalTree<bigint, Allowed>(1n);
  /** Every IOVA, length and page offset is a multiple of this power of two. */
  alignment = 1n;
  /** Guards all of this. */
  readonly iovaLock: RwSem;
  protected readonly world: PageWorld;

  constructor(world: PageWorld) {
    this.world = world;
    this.iovaLock = new RwSem(world.sim, IOVA_LOCK);
  }

  /** The IOVA for memory that starts at `address` in its process or file. Throws EOVERFLOW, EINVAL, ENOSPC. */
  protected chooseIova(address: bigint, length: bigint): bigint {
    if (length >= IOVA_LAST / 2n) {
      throw new ErrnoError('EOVERFLOW', `length ${hex(length)} is too large for an automatic iova`);
    }
    let alignment = roundupPow2(length);
    const own = address & -address;
    if (address && own < alignment) alignment = own;
    if (alignment > MAX_ALIGNMENT) alignment = MAX_ALIGNMENT;
    if (alignment < this.alignment) {
      const what = `memory at ${hex(address)} of length ${hex(length)}`;
      throw new ErrnoError('EINVAL', `${what} can not be aligned to ${hex(this.alignment)}`);
    }
    const request = { length, alignment, pageOffset: address & (PAGE - 1n) };
    const found = findIova(this.areas, this.reserved, this.allowed, request, PAGE);
    if (found !== undefined) return found;
    const allowed = this.allowed.size ? 'the allowed ranges' : 'the address space';
    throw new ErrnoError(
      'ENOSPC',
      `${allowed} have no free range of ${hex(length)} aligned to ${hex(alignment)}`,
    );
  }

  /** Throws EINVAL, EOVERFLOW or EEXIST where a map can not be. */
  protected checkIova(iova: bigint, length: bigint): void {
    if (iova & (this.alignment - 1n)) throw this.misaligned('iova', iova);
    const last = iova + length - 1n;
    if (last > IOVA_LAST)
      throw new ErrnoError('EOVERFLOW', `iova ${hex(iova)} + length ${hex(length)} exceeds 2^64`);
    const reserved = this.reserved.first(iova, last);
    if (reserved) {
      const where = `${range(iova, last)} meets the reserved range ${range(reserved.start, reserved.last)}`;
      throw new ErrnoError('EINVAL', where);
    }
    const area = this.areas.first(iova, last);
    if (area) {
      throw new ErrnoError(
        'EEXIST',
        `${range(iova, last)} meets the map at ${range(area.start, area.last)}`,
      );
    }
  }

  /** The areas that cover `[iova, last]` without a gap, in order; undefined where there is a gap. */
  contiguous(iova: bigint, last: bigint): Area[] | undefined {
    const covering: Area[] = [];
    let at = iova;
    for (let area = this.areas.first(iova, last); area; area = this.areas.next(area, iova, last)) {
      if (area.start > at) return undefined;
      covering.push(area);
      if (area.last >= last) return covering;
      at = area.last + 1n;
    }
    return undefined;
  }

  /** Forbids a range. Throws EADDRINUSE where it is mapped or must stay usable. */
  reserve(start: bigint, last: bigint, owner: object | undefined): void {
    writing(this.iovaLock, () => this.reserveLocked(start, last, owner));
  }

  protected reserveLocked(start: bigint, last: bigint, owner: object | undefined): void {
    const area = this.areas.first(start, last);
    if (area) {
      const where = range(area.start, area.last);
      throw new ErrnoError(
        'EADDRINUSE',
        `${range(start, last)} can not be reserved: ${where} is mapped`,
      );
    }
    const allowed = this.allowed.first(start, last);
    if (allowed) {
      const where = range(allowed.start, allowed.last);
      throw new ErrnoError(
        'EADDRINUSE',
        `${range(start, last)} can not be reserved: ${where} must stay allowed`,
      );
    }
    if (this.world.faults.point('alloc'))
      throw new ErrnoError('ENOMEM', 'no memory for the reservation');
    this.reserved.insert(new Reserved(start, last, owner));
  }

  /** Frees every range that `owner` reserved. */
  unreserve(owner: object | undefined): void {
    writing(this.iovaLock, () => this.unreserveLocked(owner));
  }

  protected unreserveLocked(owner: object | undefined): void {
    for (const node of this.reserved) if (node.owner === owner) this.reserved.remove(node);
  }

  /** Replaces the allowed ranges as a whole; EADDRINUSE and no change where one meets a reserved range. */
  setAllowed(allowed: IntervalTree<bigint, Allowed>): void {
    writing(this.iovaLock, () => {
      for (const node of allowed) {
        const reserved = this.reserved.first(node.start, node.last);
        if (!reserved) continue;
        const where = `${range(node.start, node.last)} meets the reserved range ${range(reserved.start, reserved.last)}`;
        throw new ErrnoError('EADDRINUSE', where);
      }
      this.allowed = allowed;
    });
  }

  /** Throws EADDRINUSE where a map is not aligned. */
  protected checkAlignment(alignment: bigint): void {
    const mask = alignment - 1n;
    for (const area of this.areas) {
      if (
        (area.start & mask) === 0n &&
        (area.length & mask) === 0n &&
        (BigInt(area.pageOffset) & mask) === 0n
      )
        continue;
      const where = range(area.start, area.last);
      throw new ErrnoError('EADDRINUSE', `the map at ${where} is not aligned to ${hex(alignment)}`);
    }
  }

  protected misaligned(what: string, value: bigint): ErrnoError {
    return new ErrnoError(
      'EINVAL',
      `${what} ${hex(value)} is not aligned to ${hex(this.alignment)}`,
    );
  }
}
