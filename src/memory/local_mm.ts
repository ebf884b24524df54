// SPDX-License-Identifier: Apache-2.0
import { IntervalNode, IntervalTree } from '../base/interval_tree.ts';
import type { LockedMemory } from './accounting.ts';
import type { FileMemory } from './file_memory.ts';
import type { PinObserver } from './pin_observer.ts';
import { type Mapping, type Mm, PAGE_SIZE } from './mm.ts';

/** A file in memory, like a memfd. */
export class LocalFile implements FileMemory {
  readonly name: string;
  readonly pinnable: boolean;
  bytes: Uint8Array;

  constructor(size: number, options: { readonly name?: string; readonly pinnable?: boolean } = {}) {
    this.bytes = new Uint8Array(size);
    this.name = options.name ?? 'memfd:local';
    this.pinnable = options.pinnable ?? true;
  }

  size(): bigint {
    return BigInt(this.bytes.length);
  }

  read(offset: bigint, into: Uint8Array): boolean {
    const start = Number(offset);
    if (start + into.length > this.bytes.length) return false;
    into.set(this.bytes.subarray(start, start + into.length));
    return true;
  }

  write(offset: bigint, from: Uint8Array): boolean {
    const start = Number(offset);
    if (start + from.length > this.bytes.length) return false;
    this.bytes.set(from, start);
    return true;
  }
}

/** What a mapping shows, and how. */
export interface LocalMapping {
  readonly readable?: boolean;
  readonly writable?: boolean;
  /** A shared mapping of a file; without it the mapping is private memory. */
  readonly file?: LocalFile;
  /** Where the mapping begins in the file, in bytes, page aligned. */
  readonly offset?: number;
}

/** What is behind a mapping's addresses; private memory has a file of its own that nobody else sees. */
interface Backing {
  readonly file: LocalFile;
  readonly offset: bigint;
  readonly shared: boolean;
}

interface Access {
  readonly readable: boolean;
  readonly writable: boolean;
}

class Region extends IntervalNode<bigint> {
  readonly access: Access;
  readonly file: LocalFile;
  /** Of `start` in the file. */
  readonly offset: bigint;
  readonly shared: boolean;

  constructor(start: bigint, last: bigint, backing: Backing, access: Access) {
    super(start, last);
    this.file = backing.file;
    this.offset = backing.offset;
    this.shared = backing.shared;
    this.access = access;
  }

  /** The part from `start` to `last` as a region of its own. */
  part(start: bigint, last: bigint, access = this.access): Region {
    const offset = this.offset + (start - this.start);
    return new Region(start, last, { file: this.file, offset, shared: this.shared }, access);
  }

  /** Copies the part of `[address, address + bytes.length)` that lies in this region, at its place. */
  copy(address: bigint, bytes: Uint8Array, way: 'read' | 'write'): number {
    const room = Number(this.last - address) + 1;
    const part = bytes.subarray(0, room);
    return this.file[way](this.offset + (address - this.start), part) ? part.length : -1;
  }
}

/** A user address space inside this program: mappings of buffers at addresses of one's choice. */
export class LocalMm implements Mm {
  readonly locked: LockedMemory = { lockedPages: 0, pinnedPages: 0 };
  alive = true;
  pinObserver: PinObserver | undefined;
  private readonly regions = new IntervalTree<bigint, Region>(1n);

  /** Maps `length` bytes at a page-aligned address and returns the bytes behind it. */
  map(address: bigint, length: number, options: LocalMapping = {}): Uint8Array {
    if (address % BigInt(PAGE_SIZE) || length % PAGE_SIZE || length <= 0) {
      throw new RangeError(
        `a mapping of ${length} bytes at 0x${address.toString(16)} is not made of pages`,
      );
    }
    const { readable = true, writable = true, file } = options;
    const offset = options.offset ?? 0;
    const region = new Region(
      address,
      address + BigInt(length) - 1n,
      {
        file: file ?? new LocalFile(length),
        offset: BigInt(offset),
        shared: file !== undefined,
      },
      { readable, writable },
    );
    if (this.regions.first(region.start, region.last)) {
      throw new RangeError(`there is a mapping at 0x${address.toString(16)} already`);
    }
    this.regions.insert(region);
    return region.file.bytes.subarray(offset, offset + length);
  }

  /**
   * Removes what is mapped in a page-aligned range, as munmap does: nothing there is no error, mappings are cut. Without a
   * length, the mapping that begins at the address, which must exist.
   */
  unmap(address: bigint, length = this.lengthFrom(address)): void {
    for (const region of this.cutOut(address, length)) {
      this.pinObserver?.release(region.start, region.last);
      this.regions.remove(region);
    }
  }

  /** Changes what may be done with a page-aligned range, as mprotect does; false where a part of it is not mapped. */
  protect(address: bigint, length: number, access: Access): boolean {
    let missing = BigInt(length);
    for (const region of this.cutOut(address, length)) {
      missing -= region.last - region.start + 1n;
      this.regions.remove(region);
      this.regions.insert(region.part(region.start, region.last, access));
    }
    return missing === 0n;
  }

  /** The address space of a forked child: private memory is copied, files are shared; nothing is pinned or charged. */
  fork(): LocalMm {
    const child = new LocalMm();
    for (const region of this.regions) {
      const { file, offset, shared, access, start, last } = region;
      const copy = new LocalFile(shared ? 0 : Number(last - start) + 1);
      if (!shared) file.read(offset, copy.bytes);
      const backing = shared ? region : { file: copy, offset: 0n, shared };
      child.regions.insert(new Region(start, last, backing, access));
    }
    return child;
  }

  private lengthFrom(address: bigint): number {
    const region = this.regions.first(address, address);
    if (region?.start === address) return Number(region.last - region.start) + 1;
    throw new RangeError(`no mapping begins at 0x${address.toString(16)}`);
  }

  /** The regions inside a range, after those that stick out of it were cut at its ends. */
  private cutOut(address: bigint, length: number): Region[] {
    if (address % BigInt(PAGE_SIZE) || length % PAGE_SIZE || length <= 0) {
      throw new RangeError(`${length} bytes at 0x${address.toString(16)} are not made of pages`);
    }
    const last = address + BigInt(length) - 1n;
    const inside: Region[] = [];
    let region = this.regions.first(address, last);
    while (region) {
      const from = region.start > address ? region.start : address;
      const to = region.last < last ? region.last : last;
      this.regions.remove(region);
      if (region.start < from) this.regions.insert(region.part(region.start, from - 1n));
      if (to < region.last) this.regions.insert(region.part(to + 1n, region.last));
      const kept = region.part(from, to);
      this.regions.insert(kept);
      inside.push(kept);
      region = to < last ? this.regions.first(to + 1n, last) : undefined;
    }
    return inside;
  }

  /** The last task ends in good order: pinned pages are saved. */
  exit(): void {
    for (const region of this.regions) this.pinObserver?.release(region.start, region.last);
    this.kill();
  }

  /** The last task is killed: pinned pages are lost. */
  kill(): void {
    this.regions.clear();
    this.alive = false;
    this.pinObserver?.gone();
  }

  copyIn(address: bigint, into: Uint8Array): boolean {
    return this.copy(address, into, 'read', true);
  }

  copyOut(address: bigint, from: Uint8Array): boolean {
    return this.copy(address, from, 'write', true);
  }

  readPinned(address: bigint, into: Uint8Array): boolean {
    return this.copy(address, into, 'read', false);
  }

  writePinned(address: bigint, from: Uint8Array): boolean {
    return this.copy(address, from, 'write', false);
  }

  mappingAt(address: bigint): Mapping | undefined {
    const region = this.regions.first(address, address);
    if (!region) return undefined;
    const { start, last, file, offset } = region;
    return {
      start,
      last,
      ...region.access,
      shared: region.shared ? { file, offset } : undefined,
    };
  }

  private copy(
    address: bigint,
    bytes: Uint8Array,
    way: 'read' | 'write',
    protect: boolean,
  ): boolean {
    for (let done = 0; done < bytes.length;) {
      const at = address + BigInt(done);
      const region = this.regions.first(at, at);
      if (!region) return false;
      if (protect && !(way === 'write' ? region.access.writable : region.access.readable))
        return false;
      const copied = region.copy(at, bytes.subarray(done), way);
      if (copied < 0) return false;
      done += copied;
    }
    return true;
  }
}
