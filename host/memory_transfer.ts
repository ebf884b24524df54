// SPDX-License-Identifier: Apache-2.0
import type { Arena } from './arena.ts';
import { PAGE_SIZE } from '../src/memory/mm.ts';
import type { Libc } from './libc.ts';

const CHUNK_BYTES = 1 << 20;
/** How much `peek` fetches at most. */
const PEEK_BYTES = 128;
/** Up to so many bytes a loop is faster than a view and a copy of it. */
const FEW_BYTES = 96;

/**
 * Copies between us and another process. process_vm_readv honours protections and always means the address space of
 * now; /proc/PID/mem does neither, and is used only where that is wanted.
 */
export class MemoryTransfer {
  private readonly libc: Libc;
  private readonly arena: Arena;
  private readonly local: number;
  private readonly remote: number;
  private readonly data: number;
  private readonly peeked: number;

  constructor(libc: Libc, arena: Arena) {
    this.libc = libc;
    this.arena = arena;
    this.local = arena.take(16);
    this.remote = arena.take(16);
    this.data = arena.take(CHUNK_BYTES);
    this.peeked = arena.take(PEEK_BYTES);
    arena.writeWord(this.local, arena.base + this.data);
  }

  /**
   * Fetches up to PEEK_BYTES from `address` on, not beyond the end of its page (a second one would cost more than it saves), for
   * `copyPeeked`. Returns how many there are; 0 where they are not readable, or fewer than are wanted.
   */
  peek(tid: number, address: bigint, wanted: number): number {
    const { arena } = this;
    arena.u64[this.remote >>> 3] = address;
    const toPageEnd = PAGE_SIZE - ((arena.u32[this.remote >>> 2] as number) & (PAGE_SIZE - 1));
    const length = Math.min(PEEK_BYTES, toPageEnd);
    if (length < wanted) return 0;
    arena.writeWord(this.local, arena.base + this.peeked);
    const got = this.go(this.libc.processVmReadv, tid, length);
    arena.writeWord(this.local, arena.base + this.data);
    return got === length ? length : 0;
  }

  /** Copies what `peek` fetched, from byte `at` on. */
  copyPeeked(at: number, into: Uint8Array): void {
    this.takeOut(this.peeked + at, into, 0, into.length);
  }

  /** False unless every byte was readable. `tid` is any thread of the address space. */
  read(tid: number, address: bigint, into: Uint8Array): boolean {
    for (let done = 0; done < into.length;) {
      const length = Math.min(into.length - done, CHUNK_BYTES);
      if (this.move(this.libc.processVmReadv, tid, address + BigInt(done), length) !== length) {
        return false;
      }
      this.takeOut(this.data, into, done, length);
      done += length;
    }
    return true;
  }

  /** False unless every byte was writable; those before the first that was not are written. */
  write(tid: number, address: bigint, from: Uint8Array): boolean {
    for (let done = 0; done < from.length;) {
      const length = Math.min(from.length - done, CHUNK_BYTES);
      this.putIn(from, done, length);
      if (this.move(this.libc.processVmWritev, tid, address + BigInt(done), length) !== length) {
        return false;
      }
      done += length;
    }
    return true;
  }

  /**
   * Reads a NUL-terminated string of at most `limit` bytes with its NUL; undefined where it is not readable.
   * Bytes are kept as Latin-1 characters, so that names that are not UTF-8 survive.
   */
  readString(tid: number, address: bigint, limit: number): string | undefined {
    // Most names are short: one read of 256 bytes, clipped by Linux where the mapping ends.
    for (let length = Math.min(256, limit); ; length = limit) {
      const got = this.move(this.libc.processVmReadv, tid, address, length);
      if (got <= 0) return undefined;
      const end = this.arena.u8.indexOf(0, this.data);
      if (end >= 0 && end < this.data + got)
        return this.arena.bytes.toString('latin1', this.data, end);
      if (got < length || length === limit) return undefined;
    }
  }

  private move(how: Libc['processVmReadv'], tid: number, address: bigint, length: number): number {
    this.arena.u64[this.remote >>> 3] = address;
    return this.go(how, tid, length);
  }

  private go(how: Libc['processVmReadv'], tid: number, length: number): number {
    this.arena.writeWord(this.remote + 8, length);
    this.arena.writeWord(this.local + 8, length);
    return how(tid, this.arena.base + this.local, 1, this.arena.base + this.remote, 1, 0);
  }

  /** Through an open /proc/PID/mem: whatever the protections are. False where the page or the address space is gone. */
  readForced(memFd: number, address: bigint, into: Uint8Array): boolean {
    return this.through(memFd, address, into.length, this.libc.pread, (at, length) =>
      this.takeOut(this.data, into, at, length),
    );
  }

  writeForced(memFd: number, address: bigint, from: Uint8Array): boolean {
    return this.through(memFd, address, from.length, this.libc.pwrite, undefined, (at, length) =>
      this.putIn(from, at, length),
    );
  }

  /** From our buffer, at an offset in the arena. */
  private takeOut(source: number, into: Uint8Array, at: number, length: number): void {
    const { u8 } = this.arena;
    if (length > FEW_BYTES) {
      into.set(u8.subarray(source, source + length), at);
      return;
    }
    for (let i = 0; i < length; i += 1) into[at + i] = u8[source + i] as number;
  }

  private putIn(from: Uint8Array, at: number, length: number): void {
    const { u8 } = this.arena;
    const { data } = this;
    if (length > FEW_BYTES) {
      u8.set(from.subarray(at, at + length), data);
      return;
    }
    for (let i = 0; i < length; i += 1) u8[data + i] = from[at + i] as number;
  }

  private through(
    fd: number,
    address: bigint,
    total: number,
    how: Libc['pread'],
    after?: (at: number, length: number) => void,
    before?: (at: number, length: number) => void,
  ): boolean {
    for (let done = 0; done < total;) {
      const length = Math.min(total - done, CHUNK_BYTES);
      before?.(done, length);
      const at = address + BigInt(done);
      if (how(fd, this.arena.base + this.data, length, Number(at)) !== length) return false;
      after?.(done, length);
      done += length;
    }
    return true;
  }
}
