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

class Region extends IntervalNode<bigint> {
  readonly readable: boolean;
  readonly writable: boolean;
  readonly file: LocalFile;
  readonly offset: bigint;
  readonly shared: boolean;

  constructor(start: bigint, length: number, options: LocalMapping) {
    super(start, start + BigInt(length) - 1n);
    this.readable = options.readable ?? true;
    this.writable = options.writable ?? true;
    this.shared = options.file !== undefined;
    this.file = options.file ?? new LocalFile(length);
    this.offset = BigInt(options.offset ?? 0);
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
    const region = new Region(address, length, options);
    if (this.regions.first(region.start, region.last)) {
      throw new RangeError(`there is a mapping at 0x${address.toString(16)} already`);
    }
    this.regions.insert(region);
    const offset = Number(region.offset);
    return region.file.bytes.subarray(offset, offset + length);
  }

  /** Removes the mapping that begins at an address. */
  unmap(address: bigint): void {
    const region = this.regions.first(address, address);
    if (!region || region.start !== address) {
      throw new RangeError(`no mapping begins at 0x${address.toString(16)}`);
    }
    this.pinObserver?.release(region.start, region.last);
    this.regions.remove(region);
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
    const { start, last, readable, writable, file, offset } = region;
    return {
      start,
      last,
      readable,
      writable,
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
      if (protect && !(way === 'write' ? region.writable : region.readable)) return false;
      const copied = region.copy(at, bytes.subarray(done), way);
      if (copied < 0) return false;
      done += copied;
    }
    return true;
  }
}
