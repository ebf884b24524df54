// SPDX-License-Identifier: Apache-2.0
import { closeSync } from 'node:fs';
import type { FileMemory } from '../src/memory/file_memory.ts';
import type { Arena } from './arena.ts';
import type { Libc } from './libc.ts';
import type { MemoryTransfer } from './memory_transfer.ts';
import type { PinObserver } from '../src/memory/pin_observer.ts';

const HUGE_PAGE_WINDOW = 1n << 21n;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** Where the bytes of a file can be reached when no descriptor of it can be had: in the memory of a process that maps it. */
export interface MapperWindow {
  /** An open /proc/PID/mem and the address there of byte `offset`, valid up to and including `last`. */
  find(
    offset: bigint,
  ): { readonly memFd: number; readonly address: bigint; readonly bytes: bigint } | undefined;
}

export interface FileFacts {
  readonly name: string;
  /** shmem (memfd included) or hugetlbfs. */
  readonly kind: 'shmem' | 'hugetlbfs' | 'other';
  /** Our own descriptor of the file, read and write where it could be had. */
  readonly fd: number | undefined;
  readonly mappers: MapperWindow;
}

/** A file of a client whose pages the engine reaches directly: through our own descriptor, or through a mapping of it. */
export class ProcessFileMemory implements FileMemory {
  readonly name: string;
  readonly pinnable: boolean;
  /** Set by the engine: hears of truncation and punched holes. */
  pinObserver: PinObserver | undefined;
  private holds = 0;
  private readonly facts: FileFacts;
  private readonly libc: Libc;
  private readonly transfer: MemoryTransfer;
  private readonly arena: Arena;
  private readonly stat: number;
  private readonly statSizeOffset: number;
  private readonly fstatNr: number;

  constructor(
    facts: FileFacts,
    host: {
      readonly libc: Libc;
      readonly arena: Arena;
      readonly transfer: MemoryTransfer;
      readonly statBuffer: number;
      readonly statSizeOffset: number;
      readonly fstatNr: number;
    },
  ) {
    this.facts = facts;
    this.name = facts.name;
    this.pinnable = facts.kind !== 'other';
    this.libc = host.libc;
    this.arena = host.arena;
    this.transfer = host.transfer;
    this.stat = host.statBuffer;
    this.statSizeOffset = host.statSizeOffset;
    this.fstatNr = host.fstatNr;
  }

  hold(): void {
    this.holds++;
  }

  drop(): void {
    this.holds--;
  }

  /** The engine neither holds it nor pins a page of it. */
  get isIdle(): boolean {
    return this.holds === 0 && this.pinObserver?.hasPins() !== true;
  }

  size(): bigint {
    const { fd } = this.facts;
    if (fd === undefined) return 0x7fff_ffff_ffff_f000n;
    if (this.libc.call2(this.fstatNr, fd, this.arena.base + this.stat) !== 0) return 0n;
    return this.arena.view.getBigInt64(this.stat + this.statSizeOffset, true);
  }

  read(offset: bigint, into: Uint8Array): boolean {
    if (this.facts.fd !== undefined) {
      return this.transfer.readForced(this.facts.fd, offset, into);
    }
    return this.throughMapper(offset, into.length, (memFd, address, at, length) =>
      this.transfer.readForced(memFd, address, into.subarray(at, at + length)),
    );
  }

  write(offset: bigint, from: Uint8Array): boolean {
    if (this.facts.fd !== undefined) {
      // hugetlbfs has no write(2); it is written through a mapping of our own.
      return this.facts.kind === 'hugetlbfs'
        ? this.writeMapped(this.facts.fd, offset, from)
        : this.transfer.writeForced(this.facts.fd, offset, from);
    }
    return this.throughMapper(offset, from.length, (memFd, address, at, length) =>
      this.transfer.writeForced(memFd, address, from.subarray(at, at + length)),
    );
  }

  /** Gives our descriptor up. The object answers false from now on. */
  close(): void {
    if (this.facts.fd !== undefined) closeSync(this.facts.fd);
    const observer = this.pinObserver;
    this.pinObserver = undefined;
    observer?.gone();
  }

  private throughMapper(
    offset: bigint,
    total: number,
    move: (memFd: number, address: bigint, at: number, length: number) => boolean,
  ): boolean {
    for (let done = 0; done < total;) {
      const window = this.facts.mappers.find(offset + BigInt(done));
      if (window === undefined) return false;
      const left = BigInt(total - done);
      const length = Number(window.bytes < left ? window.bytes : left);
      if (!move(window.memFd, window.address, done, length)) return false;
      done += length;
    }
    return true;
  }

  private writeMapped(fd: number, offset: bigint, from: Uint8Array): boolean {
    for (let done = 0; done < from.length;) {
      const at = offset + BigInt(done);
      const start = at - (at % HUGE_PAGE_WINDOW);
      const length = Math.min(from.length - done, Number(start + HUGE_PAGE_WINDOW - at));
      const window = Number(HUGE_PAGE_WINDOW);
      const address = this.libc.mmap(0, window, PROT_READ_WRITE, MAP_SHARED, fd, Number(start));
      if (address === -1) return false;
      const written = this.transfer.write(
        process.pid,
        BigInt(address) + (at - start),
        from.subarray(done, done + length),
      );
      this.libc.munmap(address, window);
      if (!written) return false;
      done += length;
    }
    return true;
  }
}
