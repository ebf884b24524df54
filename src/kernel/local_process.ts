// SPDX-License-Identifier: Apache-2.0
import { ErrnoError } from '../base/errno.ts';
import type { User } from '../memory/accounting.ts';
import { LocalMm } from '../memory/local_mm.ts';
import type { DeviceFile, FileTable, OpenFile } from './file.ts';
import type { Process, Task } from './task.ts';

export interface LocalProcessOptions {
  readonly mm?: LocalMm;
  /** Default: a user of its own with uid 0. */
  readonly user?: User;
  /** Default: all. */
  readonly capabilities?: readonly number[];
  /** Soft RLIMIT_MEMLOCK in pages; default: none. */
  readonly memlockPages?: number;
  readonly pid?: number;
  readonly maxFiles?: number;
}

/** The first descriptor number: 0 to 2 are taken in every process. */
const FIRST_FD = 3;

/** A client inside this program: for tests and the library, where `host/` is for real processes. */
export class LocalProcess implements Task, Process, FileTable {
  readonly pid: number;
  mm: LocalMm;
  user: User;
  capabilities: readonly number[] | undefined;
  memlock: number;
  private readonly open_ = new Map<number, OpenFile | undefined>();
  private readonly maxFiles: number;

  constructor(options: LocalProcessOptions = {}) {
    this.mm = options.mm ?? new LocalMm();
    this.user = options.user ?? { uid: 0, lockedPages: 0 };
    this.capabilities = options.capabilities;
    this.memlock = options.memlockPages ?? Number.POSITIVE_INFINITY;
    this.pid = options.pid ?? 1;
    this.maxFiles = options.maxFiles ?? 1024;
  }

  get process(): Process {
    return this;
  }

  get files(): FileTable {
    return this;
  }

  capable(capability: number): boolean {
    return this.capabilities?.includes(capability) ?? true;
  }

  memlockPages(): number {
    return this.memlock;
  }

  get(fd: number): OpenFile | undefined {
    return this.open_.get(fd);
  }

  reserve(): number {
    for (let fd = FIRST_FD; fd < this.maxFiles; fd++) {
      if (this.open_.has(fd)) continue;
      this.open_.set(fd, undefined);
      return fd;
    }
    throw new ErrnoError('EMFILE', `all ${this.maxFiles} descriptors are in use`);
  }

  install(fd: number, file: DeviceFile): void {
    this.open_.set(fd, { kind: 'device', file });
  }

  cancel(fd: number): void {
    this.open_.delete(fd);
  }

  /** Adds an open file; returns its descriptor. */
  add(file: OpenFile): number {
    const fd = this.reserve();
    this.open_.set(fd, file);
    return fd;
  }

  /** Closes a descriptor, and with it the file: a local process has no duplicates. */
  close(fd: number): void {
    const open = this.open_.get(fd);
    this.open_.delete(fd);
    if (open?.kind === 'device') open.file.release();
  }

  /** Closes everything, as the end of a process does; its memory is gone afterwards. */
  exit(): void {
    for (const fd of this.open_.keys()) this.close(fd);
    this.mm.exit();
  }
}
