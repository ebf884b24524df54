// SPDX-License-Identifier: Apache-2.0
/** Pages that clients map through the descriptor of /dev/iommu (mmap of main.c and driver.c). */
import { ErrnoError } from '../base/errno.ts';
import type { SharedPages } from '../iommu/viommu_ops.ts';
import type { FrameRun } from '../memory/frame.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import type { Context } from './context.ts';
import { hex } from './iova.ts';
import type { IommufdObject } from './objects.ts';

/** What a client asks mmap(2) for. */
export interface MmapRequest {
  /** In bytes; Linux has checked that the offset is a page's, and rounded the length up to pages. */
  readonly offset: bigint;
  readonly length: bigint;
  /** MAP_SHARED, and PROT_EXEC. */
  readonly shared: boolean;
  readonly executable: boolean;
}

/** One stretch of pages at an offset; each map of it is a user of its owner, which is busy for that long. */
export class MmapRegion implements SharedPages {
  readonly offset: bigint;
  readonly length: number;
  /** Its frames: what the host shows the client. */
  readonly run: FrameRun;
  private readonly context: Context;
  private readonly owner: IommufdObject;

  /** See {@link MmapRegions.share}. */
  constructor(context: Context, owner: IommufdObject, offset: bigint, pages: number) {
    this.context = context;
    this.owner = owner;
    this.offset = offset;
    this.length = pages * PAGE_SIZE;
    this.run = context.iommufd.memory.allocate(pages);
  }

  read(at: number, into: Uint8Array): void {
    if (this.context.iommufd.memory.read(this.run.frame, at, into)) return;
    throw new RangeError(`${into.length} bytes at ${at} are not in ${this.length} shared bytes`);
  }

  write(at: number, from: Uint8Array): void {
    if (this.context.iommufd.memory.write(this.run.frame, at, from)) return;
    throw new RangeError(`${from.length} bytes at ${at} are not in ${this.length} shared bytes`);
  }

  free(): void {
    this.context.mmaps.drop(this);
    this.context.iommufd.memory.free(this.run);
  }

  /** A map begins: also one that a fork copies, or that an munmap of the middle splits off. */
  opened(): void {
    this.owner.users++;
    this.context.get(); // a map keeps the file open
  }

  /** A map, or the last part of it, is gone. */
  closed(): void {
    this.owner.users--;
    this.context.put();
  }
}

/** The regions of one open /dev/iommu, at the lowest free offsets; offset 0 stays free, so that it is a mistake. */
export class MmapRegions {
  private readonly context: Context;
  /** By ascending offset. */
  private readonly regions: MmapRegion[] = [];

  constructor(context: Context) {
    this.context = context;
  }

  /** Gives `owner` pages (of 4 KiB, all 0) that clients can map, until `free`. */
  share(owner: IommufdObject, pages: number): MmapRegion {
    let offset = BigInt(PAGE_SIZE);
    let index = 0;
    for (const region of this.regions) {
      if (region.offset - offset >= pages * PAGE_SIZE) break;
      offset = region.offset + BigInt(region.length);
      index++;
    }
    const made = new MmapRegion(this.context, owner, offset, pages);
    this.regions.splice(index, 0, made);
    return made;
  }

  /** For the region. */
  drop(region: MmapRegion): void {
    this.regions.splice(this.regions.indexOf(region), 1);
  }

  /**
   * mmap(2), in the order of Linux's checks: the region to show, one map of which has begun (`closed` ends it).
   * @throws EINVAL (not MAP_SHARED), EPERM (PROT_EXEC), ENXIO (not exactly a region)
   */
  map(request: MmapRequest): MmapRegion {
    const { offset, length } = request;
    if (length % BigInt(PAGE_SIZE))
      throw new ErrnoError('EINVAL', `length ${hex(length)} is no pages`);
    if (!request.shared) throw new ErrnoError('EINVAL', 'only MAP_SHARED maps of /dev/iommu exist');
    if (request.executable) throw new ErrnoError('EPERM', 'nothing of /dev/iommu can be executed');
    const region = this.regions.find(
      (candidate) => candidate.offset === offset && BigInt(candidate.length) === length,
    );
    if (!region) {
      const what = `${hex(length)} bytes at offset ${hex(offset)}`;
      throw new ErrnoError('ENXIO', `${what} are not exactly what an object shares`);
    }
    region.opened();
    return region;
  }
}
