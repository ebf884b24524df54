// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import { Prot } from '../iommu/domain.ts';
import type { FrameRun } from '../memory/frame.ts';
import { type Mm, PAGE_SIZE } from '../memory/mm.ts';
import { Mutex } from '../sim/lock.ts';
import type { Area } from './area.ts';
import type { Context } from './context.ts';
import type { Ioas } from './ioas.ts';
import { hex, IOVA_LAST, range } from './iova.ts';
import { ACCESS_LOCK, locked, reading } from './locks.ts';
import { IommufdObject } from './objects.ts';

/** What a user inside the kernel (mdev, the test driver) brings along. */
export interface AccessOps {
  /** It pins pages, so the address space must be aligned to them. */
  readonly needsPinPages: boolean;
  /** Must unpin everything in `[iova, last]` before it returns. */
  unmap(iova: bigint, last: bigint): void;
}

interface Piece {
  readonly area: Area;
  /** First and last IOVA of the request in this area. */
  readonly from: bigint;
  readonly to: bigint;
}

const PAGE = BigInt(PAGE_SIZE);

/**
 * A user of an address space that is not a device: reads, writes and pins what is mapped (iommufd_access of device.c). It
 * has an id, which clients can only see as taken. `ops` is undefined for the accesses that iommufd keeps for itself.
 */
export class Access extends IommufdObject {
  readonly type = 'ACCESS';
  readonly ops: AccessOps | undefined;
  readonly iovaAlignment: bigint;
  private readonly context: Context;
  private ioas: Ioas | undefined = undefined;
  /** Guards which address space this is; not held while the driver unpins. */
  private readonly ioasLock: Mutex;
  /** The address space that pages are unpinned from; keeps its value while `ioas` is taken away. */
  private ioasUnpin: Ioas | undefined = undefined;
  private listId = 0;

  private constructor(context: Context, ops: AccessOps | undefined) {
    super();
    this.context = context;
    this.ops = ops;
    this.iovaAlignment = !ops || ops.needsPinPages ? PAGE : 1n;
    this.ioasLock = new Mutex(context.iommufd.sim, ACCESS_LOCK);
    this.users++; // the driver, until `close`
  }

  /** Makes an access; with `ops` it also keeps the context open. */
  static create(context: Context, ops: AccessOps | undefined): Access {
    const access = new Access(context, ops);
    context.objects.reserve(access);
    if (ops) context.get();
    context.objects.finalize(access);
    return access;
  }

  /** The driver's end of it: destroys the access. */
  close(): void {
    this.context.objects.destroyUser(this);
  }

  override destroy(): void {
    if (this.ioas) this.change(undefined);
    if (this.ops) this.context.put();
  }

  get table(): Ioas['table'] | undefined {
    return this.ioas?.table;
  }

  /** Attaches to an address space by id. */
  attach(id: number): void {
    if (this.ioas) throw new Error('the access is attached already');
    this.context.withIoas(id, (ioas) => this.change(ioas));
  }

  /** The same for an address space that the caller holds: for the accesses that iommufd keeps for itself. */
  attachTo(ioas: Ioas): void {
    this.change(ioas);
  }

  /** Moves to another address space; ENOENT where it is not attached. What it had pinned is unpinned. */
  replace(id: number): void {
    if (!this.ioas) throw new ErrnoError('ENOENT', 'the access is not attached to an IOAS');
    this.context.withIoas(id, (ioas) => this.change(ioas));
  }

  private change(next: Ioas | undefined): void {
    const current = this.ioas;
    if (current !== this.ioasUnpin) throw new ErrnoError('EBUSY', 'the access is being detached');
    if (current === next) return;
    const oldId = this.listId;
    this.ioas = undefined; // no new pins while the old ones go
    if (next) {
      try {
        this.listId = next.table.addAccess(this);
      } catch (error) {
        this.ioas = current;
        throw error;
      }
      next.users++;
    }
    if (current) {
      this.ops?.unmap(0n, IOVA_LAST);
      current.table.removeAccess(oldId);
      current.users--;
    }
    this.ioas = next;
    this.ioasUnpin = next;
  }

  /** An unmap needs `[iova, iova + length)`: lets the driver unpin. */
  notifyUnmap(iova: bigint, length: bigint): void {
    this.ops?.unmap(iova, iova + length - 1n);
  }

  /**
   * Pins the pages under `[iova, iova + length)`, which must begin and end with whole pages inside; returns their frames.
   * `unpin` with the same range must follow. @throws EINVAL, EOVERFLOW, ENOENT, EPERM, EFAULT, ENOMEM; nothing pinned then
   */
  pin(iova: bigint, length: bigint, write: boolean): FrameRun[] {
    return locked(this.ioasLock, () => {
      const { table, last } = this.checked(iova, length);
      return reading(table.iovaLock, () => this.pinLocked(table, iova, last, write));
    });
  }

  private pinLocked(table: Ioas['table'], iova: bigint, last: bigint, write: boolean): FrameRun[] {
    const done: Piece[] = [];
    try {
      const runs: FrameRun[] = [];
      for (const piece of this.pieces(table, iova, last)) {
        this.checkArea(piece.area, write);
        this.checkPageAligned(piece, last);
        const [first, end] = [piece.area.pageAt(piece.from), piece.area.pageAt(piece.to)];
        if (write && !piece.area.pages.writable)
          throw new ErrnoError('EPERM', 'the pages are mapped read-only');
        if (piece.area.pages.source.kind === 'dmabuf') {
          throw new ErrnoError('EINVAL', 'the pages of a DMA-buf can not be pinned by an access');
        }
        piece.area.pages.addAccess(first, end);
        piece.area.accesses++;
        if (!this.ops) piece.area.locks++;
        done.push(piece);
        runs.push(...piece.area.pages.frames(first, end));
      }
      return runs;
    } catch (error) {
      for (const piece of done) this.unpinPiece(piece);
      throw error;
    }
  }

  /** Undoes a `pin` of exactly this range. */
  unpin(iova: bigint, length: bigint): void {
    const table = this.ioasUnpin?.table;
    if (!table) throw new Error('an unpin by an access that is not attached');
    locked(this.ioasLock, () => {
      reading(table.iovaLock, () => {
        for (const piece of this.pieces(table, iova, iova + length - 1n)) this.unpinPiece(piece);
      });
    });
  }

  private unpinPiece({ area, from, to }: Piece): void {
    area.pages.removeAccess(area.pageAt(from), area.pageAt(to));
    area.accesses--;
    if (!this.ops) area.locks--;
  }

  /** Copies between `data` and the memory mapped at `iova`, at any alignment; `current` is the caller's address space. */
  copy(iova: bigint, data: Uint8Array, write: boolean, slow: boolean, current: Mm): void {
    locked(this.ioasLock, () => {
      const { table, last } = this.checked(iova, BigInt(data.length));
      reading(table.iovaLock, () => {
        // The hot path of an access, so not by `pieces`: a generator costs as much as all the rest.
        let at = iova;
        for (let done = 0; done < data.length;) {
          const area = this.areaAt(table, at, last);
          this.checkArea(area, write);
          const bytes = Math.min(Number(area.last - at) + 1, data.length - done);
          const part = bytes === data.length ? data : data.subarray(done, done + bytes);
          area.pages.copy(area.byteAt(at), part, write, slow, current);
          done += bytes;
          at += BigInt(bytes);
        }
      });
    });
  }

  private checked(iova: bigint, length: bigint): { table: Ioas['table']; last: bigint } {
    if (length === 0n) throw new ErrnoError('EINVAL', 'length is 0');
    const last = iova + length - 1n;
    if (last > IOVA_LAST)
      throw new ErrnoError('EOVERFLOW', `iova ${hex(iova)} + length ${hex(length)} exceeds 2^64`);
    if (!this.ioas) throw new ErrnoError('ENOENT', 'the access is not attached to an IOAS');
    return { table: this.ioas.table, last };
  }

  private checkArea(area: Area, write: boolean): void {
    const allowed = area.prot & (write ? Prot.WRITE : Prot.READ);
    if (allowed && !area.preventAccess) return;
    const where = range(area.start, area.last);
    if (area.preventAccess) throw new ErrnoError('EINVAL', `the map at ${where} is being unmapped`);
    throw new ErrnoError('EPERM', `the map at ${where} is not ${write ? 'writable' : 'readable'}`);
  }

  private checkPageAligned({ area, from }: Piece, last: bigint): void {
    const startsWhole = area.byteAt(from) % PAGE_SIZE === 0;
    const endsWhole = area.last >= last || area.byteAt(area.last) % PAGE_SIZE === PAGE_SIZE - 1;
    if (startsWhole && endsWhole) return;
    const where = range(area.start, area.last);
    throw new ErrnoError(
      'EINVAL',
      `the map at ${where} does not begin and end with whole pages there`,
    );
  }

  /** The area that an IOVA of the request falls into; throws ENOENT. */
  private areaAt(table: Ioas['table'], at: bigint, last: bigint): Area {
    const area = table.areas.first(at, last);
    if (area && area.start <= at) return area;
    throw new ErrnoError('ENOENT', `nothing is mapped at iova ${hex(at)}`);
  }

  /** The request cut at the areas; throws ENOENT at the first gap, after what lies before it. */
  private *pieces(table: Ioas['table'], iova: bigint, last: bigint): IterableIterator<Piece> {
    let at = iova;
    for (let area = table.areas.first(iova, last); area && area.start <= at;) {
      const to = area.last < last ? area.last : last;
      yield { area, from: at, to };
      if (to === last) return;
      at = to + 1n;
      area = table.areas.next(area, at, last);
    }
    throw new ErrnoError('ENOENT', `nothing is mapped at iova ${hex(at)}`);
  }
}
