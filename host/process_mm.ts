// SPDX-License-Identifier: Apache-2.0
import { openSync } from 'node:fs';
import type { LockedMemory } from '../src/memory/accounting.ts';
import type { Mapping, Mm } from '../src/memory/mm.ts';
import type { Arena } from './arena.ts';
import { type FileMemories, closeQuietly } from './file_memories.ts';
import type { Libc } from './libc.ts';
import type { Mappings } from './mappings.ts';
import type { MemoryTransfer } from './memory_transfer.ts';
import type { PinObserver } from '../src/memory/pin_observer.ts';
import { O_CLOEXEC, O_RDONLY, O_RDWR } from './uapi.ts';

/** What an address space needs of the supervisor. */
export interface MmHost {
  readonly libc: Libc;
  readonly arena: Arena;
  readonly transfer: MemoryTransfer;
  readonly mappings: Mappings;
  readonly files: FileMemories;
  /** Whether a copy is to fail although it could be made. */
  readonly copyFails: (kind: 'copyin' | 'copyout') => boolean;
  /** Whether a mapping of this file shows one of ours: Linux pins nothing of what a driver shares. */
  readonly isOurs: (device: bigint, inode: bigint) => boolean;
}

/**
 * The address space of one or more real processes. Our descriptor of /proc/PID/mem is its identity: it keeps meaning
 * this address space after an exec, and reads 0 bytes once the last task that used it is gone.
 */
export class ProcessMm implements Mm {
  readonly locked: LockedMemory = { lockedPages: 0, pinnedPages: 0 };
  /** Set by the engine when it first pins something here. */
  pinObserver: PinObserver | undefined;
  readonly memFd: number | undefined;
  /** An open /proc/PID/maps, which keeps to its address space just so; opened when first needed. */
  private mapsFd: number | undefined;
  /** Process ids seen to use it. */
  readonly users = new Set<number>();
  /** The thread that makes the call being answered: certainly alive, and certainly in this address space. */
  current: number | undefined;
  /** What was fetched ahead in this call: `peekedBytes` from `peekedStart`; -1 before the first read. */
  private peekedStart = 0n;
  private peekedBytes = -1;
  /** A copy of the call under way was made to fail. */
  private failing = false;
  private readonly host: MmHost;
  private readonly probe: number;
  private dead = false;

  constructor(host: MmHost, pid: number, probe: number) {
    this.host = host;
    this.probe = probe;
    this.users.add(pid);
    this.memFd = openProc(pid, 'mem', O_RDWR);
  }

  get alive(): boolean {
    if (this.dead) return false;
    if (this.current !== undefined) return true;
    if (this.memFd === undefined) return this.users.size > 0;
    // One byte at address 0: an error while it lives, 0 once it is gone.
    const { libc, arena } = this.host;
    this.dead = libc.pread(this.memFd, arena.base + this.probe, 1, 0) === 0;
    return !this.dead;
  }

  /** A thread through which the address space can be reached now, or undefined. */
  get pid(): number | undefined {
    if (this.current !== undefined) return this.current;
    for (const user of this.users) return user;
    return undefined;
  }

  copyIn(address: bigint, into: Uint8Array): boolean {
    const tid = this.pid;
    if (tid === undefined || this.fails('copyin')) return false;
    if (this.current === undefined) return this.host.transfer.read(tid, address, into);
    // The first thing that a call reads is its structure, often in pieces: one look fetches what follows, too.
    const { transfer } = this.host;
    if (this.peekedBytes < 0) {
      this.peekedStart = address;
      this.peekedBytes = transfer.peek(tid, address, into.length);
    }
    const skip = address === this.peekedStart ? 0 : Number(address - this.peekedStart);
    if (skip < 0 || skip + into.length > this.peekedBytes) {
      return transfer.read(tid, address, into);
    }
    transfer.copyPeeked(skip, into);
    return true;
  }

  /** A call of `tid` begins: it may read through its own thread until `leave`. */
  enter(tid: number): void {
    if (this.current === tid) return;
    this.current = tid;
    this.peekedBytes = -1;
  }

  leave(): void {
    this.failing = false;
    this.current = undefined;
  }

  copyOut(address: bigint, from: Uint8Array): boolean {
    const tid = this.pid;
    this.peekedBytes = 0;
    if (tid === undefined || this.fails('copyout')) return false;
    return this.host.transfer.write(tid, address, from);
  }

  /** A copy that was made to fail fails again: a call that tries in other pieces would make nothing of it. */
  private fails(kind: 'copyin' | 'copyout'): boolean {
    if (this.current === undefined) return false;
    return this.failing || (this.failing = this.host.copyFails(kind));
  }

  mappingAt(address: bigint): Mapping | undefined {
    const tid = this.pid;
    if (tid !== undefined && this.mapsFd === undefined)
      this.mapsFd = openProc(tid, 'maps', O_RDONLY);
    const line = tid === undefined ? undefined : this.host.mappings.at(tid, address, this.mapsFd);
    if (tid === undefined || line === undefined) return undefined;
    const isOurs = line.shared && this.host.isOurs(line.device, line.inode);
    return {
      start: line.start,
      last: line.end - 1n,
      readable: line.readable && !isOurs,
      writable: line.writable && !isOurs,
      shared: line.shared
        ? { file: this.host.files.ofMapping(tid, line), offset: line.offset }
        : undefined,
    };
  }

  readPinned(address: bigint, into: Uint8Array): boolean {
    if (this.dead) return false;
    return this.memFd === undefined
      ? this.copyIn(address, into)
      : this.host.transfer.readForced(this.memFd, address, into);
  }

  writePinned(address: bigint, from: Uint8Array): boolean {
    this.peekedBytes = 0;
    if (this.dead) return false;
    return this.memFd === undefined
      ? this.copyOut(address, from)
      : this.host.transfer.writeForced(this.memFd, address, from);
  }

  /** Tells the engine that nothing here can be reached any more, once, and closes what we hold. */
  retire(): void {
    this.dead = true;
    this.users.clear();
    this.current = undefined;
    if (this.memFd !== undefined) closeQuietly(this.memFd);
    if (this.mapsFd !== undefined) closeQuietly(this.mapsFd);
    const observer = this.pinObserver;
    this.pinObserver = undefined;
    observer?.gone();
  }
}

/** Undefined where the process may not be traced by us (not dumpable): then only protected copies work. */
function openProc(pid: number, name: 'mem' | 'maps', mode: number): number | undefined {
  try {
    return openSync(`/proc/${pid}/${name}`, mode | O_CLOEXEC);
  } catch {
    return undefined;
  }
}
