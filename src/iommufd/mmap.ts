// SPDX-License-Identifier: Apache-2.0
/** Pages that clients map through the descriptor of /dev/iommu (mmap of main.c and driver.c). */
import { ErrnoError } from '../base/errno.ts';
import type { SharedPages } from '../iommu/viommu_ops.ts';
import type { MmapRequest, SharedBytes } from '../kernel/file.ts';
import { PAGE_SIZE } from '../memory/mm.ts';
import type { Context } from './context.ts';
import { hex } from './iova.ts';
import type { IommufdObject } from './objects.ts';

/** One stretch of pages at an offset; each map of it is a user of its owner, which is busy for that long. */
export class MmapRegion implements SharedPages {
  readonly offset: bigint;
  readonly length: number;
  private readonly context: Context;
  private readonly owner: IommufdObject;
  private wasGranted = false;
  /** Maps as the host counts them: some, or none. */
  private seenMapped = false;

  /** See {@link MmapRegions.share}. */
  constructor(context: Context, owner: IommufdObject, offset: bigint, pages: number) {
    this.context = context;
    this.owner = owner;
    this.offset = offset;
    this.length = pages * PAGE_SIZE;
    this.bytes.clear(Number(offset), this.length);
  }

  read(at: number, into: Uint8Array): void {
    this.bytes.read(this.place(at, into.length), into);
  }

  write(at: number, from: Uint8Array): void {
    this.bytes.write(this.place(at, from.length), from);
  }

  free(): void {
    this.context.mmaps.drop(this);
  }

  /** A host is about to map it. From now on only the host knows whether it is mapped. */
  granted(): void {
    this.wasGranted = true;
  }

  /** A map begins: also one that a fork copies, or that an munmap of the middle splits off. For hosts that know of each. */
  opened(): void {
    this.owner.users++;
    this.context.get(); // a map keeps the file open
  }

  /** A map, or the last part of it, is gone. */
  closed(): void {
    this.owner.users--;
    this.context.put();
  }

  /** Asks the host whether it is mapped now. */
  look(): void {
    if (!this.wasGranted) return;
    const isMapped = this.bytes.isMapped(Number(this.offset), this.length);
    if (isMapped !== this.seenMapped) this.owner.users += isMapped ? 1 : -1;
    this.seenMapped = isMapped;
  }

  private get bytes(): SharedBytes {
    return this.context.mmaps.bytes;
  }

  private place(at: number, length: number): number {
    if (at < 0 || at + length > this.length)
      throw new RangeError(`${length} bytes at ${at} are not in ${this.length} shared bytes`);
    return Number(this.offset) + at;
  }
}

/** The regions of one open /dev/iommu, at the lowest free offsets; offset 0 stays free, so that it is a mistake. */
export class MmapRegions {
  /** Where their contents are. */
  bytes: SharedBytes = new LocalBytes();
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

  /** Makes the counts of users true where the host has to be asked which maps there are. */
  look(): void {
    for (const region of this.regions) region.look();
  }

  /**
   * mmap(2), in the order of Linux's checks: the region that may be mapped.
   * @throws EINVAL (not MAP_SHARED), EPERM (PROT_EXEC), ENXIO (not exactly a region)
   */
  check(request: MmapRequest): MmapRegion {
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
    return region;
  }

  /** The same for a client in process: one map of the region has begun (`closed` ends it). */
  map(request: MmapRequest): MmapRegion {
    const region = this.check(request);
    region.opened();
    return region;
  }
}

/** For clients in process, which read and write a region through the object and say when a map begins and ends. */
class LocalBytes implements SharedBytes {
  private contents = new Uint8Array();

  read(offset: number, into: Uint8Array): void {
    into.set(this.contents.subarray(offset, offset + into.length));
  }

  write(offset: number, from: Uint8Array): void {
    this.contents.set(from, offset);
  }

  clear(offset: number, length: number): void {
    if (offset + length > this.contents.length) {
      const grown = new Uint8Array(offset + length);
      grown.set(this.contents);
      this.contents = grown;
    }
    this.contents.fill(0, offset, offset + length);
  }

  isMapped(): boolean {
    return false;
  }
}
