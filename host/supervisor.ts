// SPDX-License-Identifier: Apache-2.0
/** The loop: one stopped system call after the other, and what happens between them. */
import { closeSync, existsSync } from 'node:fs';
import { Cleanup } from '../src/base/cleanup.ts';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import type { CallHost, Handler, Handlers } from './call_host.ts';
import { Clients } from './clients.ts';
import { dataCalls } from './data_calls.ts';
import type { Served, Timers } from './device.ts';
import { execCalls } from './exec_calls.ts';
import { fdCalls } from './fd_calls.ts';
import { FaultInjection } from './fault_injection.ts';
import { FileMemories } from './file_memories.ts';
import type { FdRange } from './filter.ts';
import { EventFdWatches } from './event_fd_watches.ts';
import { IdentityCache } from './identity_cache.ts';
import { ioctlCall } from './ioctl_call.ts';
import { lockLimitCalls } from './lock_limit.ts';
import type { Libc } from './libc.ts';
import { Mappings } from './mappings.ts';
import { memoryCalls } from './memory_calls.ts';
import { MemoryTransfer } from './memory_transfer.ts';
import { Notification } from './notification.ts';
import type { Observer } from './observer.ts';
import { OpenFiles } from './open_files.ts';
import { pathCalls } from './path_calls.ts';
import type { Permissions } from './permissions.ts';
import { PrivateTree } from './private_tree.ts';
import type { ProcessMm } from './process_mm.ts';
import { isReadable } from './signals.ts';
import { optimizeSooner } from './tiering.ts';
import { EINTR, EPOLL_CTL_ADD, O_CLOEXEC, POLLIN } from './uapi.ts';

const ARENA_BYTES = 2 << 20;
const SCRATCH_BYTES = 512;
/** How soon a close that was seen half done is looked at again, in milliseconds. */
const SETTLE_MS = 1;
/** How often the event loop gets a turn where libuv's signal pipe is not known, in milliseconds. */
const LOOK_MS = 50;
/** The same while the spawning thread is about to end, which nothing announces. */
const START_MS = 5;

export interface SupervisorOptions {
  readonly served: Served;
  readonly observer: Observer;
  readonly range: FdRange;
  readonly permissions: Permissions;
  readonly allowIoUring: boolean;
  /** Which fault point of the run fails; 0: none. */
  readonly failNth: number;
  /** See after each injected failure that nothing has changed. */
  readonly check: boolean;
  /** Capabilities that we lack ourselves count as held by every client. */
  readonly asRoot: boolean;
  /** Soft RLIMIT_NOFILE of the program. */
  readonly nofile: number | undefined;
  readonly timers: Timers | undefined;
  readonly onMm: (mm: ProcessMm) => void;
  /** Whether the event loop may get a turn; asked until it may. */
  readonly mayYield: () => boolean;
}

/** Counts of a run. */
export interface Stats {
  /** Stopped calls, by system call number of this machine. */
  readonly calls: Map<number, number>;
}

export class Supervisor {
  readonly stats: Stats = { calls: new Map() };
  private readonly libc: Libc;
  private readonly notification: Notification;
  private readonly openFiles: OpenFiles;
  private readonly clients: Clients;
  readonly injection: FaultInjection;
  private readonly fileMemories: FileMemories;
  private readonly tree: PrivateTree | undefined;
  private readonly timers: Timers | undefined;
  private readonly watches: EventFdWatches;
  private readonly handlers: Handlers;
  private readonly counts = new Uint32Array(512);
  private readonly arch: Arch;
  private readonly arena: Arena;
  private readonly event: number;
  /** An epoll instance over everything but the listener. */
  private readonly others: number;
  private readonly pollfds: number;
  private readonly signalPipe: number | undefined;
  private readonly mayYield: () => boolean;
  private yields = false;
  private readonly cache: IdentityCache;
  private sequence = 0;
  private readonly i32: Int32Array;
  private readonly base: number;

  constructor(
    libc: Libc,
    arch: Arch,
    listener: number,
    signalPipe: number | undefined,
    options: SupervisorOptions,
  ) {
    this.libc = libc;
    this.timers = options.timers ?? options.served.timers;
    const arena = libc.newArena(ARENA_BYTES);
    this.i32 = arena.i32;
    this.base = arena.base;
    this.notification = new Notification(libc, arena, arch, listener);
    const transfer = new MemoryTransfer(libc, arena);
    const mappings = new Mappings(libc, arena);
    const { observer, served } = options;
    this.tree = served.tree && new PrivateTree(served.tree);
    this.injection = new FaultInjection({
      points: served.faults,
      nth: options.failNth,
      state: options.check ? served.state : undefined,
      told: observer.injected && ((event) => observer.injected?.(event)),
    });
    this.openFiles = new OpenFiles({ libc, arena, arch }, (file) => {
      this.clients.numbersChanged();
      observer.closed?.(file.file);
    });
    this.fileMemories = new FileMemories({ libc, arena, arch, transfer, mappings }, () =>
      [...this.clients.allMms()].map(({ pid, memFd }) => ({ pid, memFd })),
    );
    this.watches = new EventFdWatches(libc, arena, arch);
    this.cache = new IdentityCache(!options.allowIoUring, (tid) => existsSync(`/proc/${tid}`));
    const taskHost = {
      cache: this.cache,
      permissions: options.permissions,
      asRoot: options.asRoot,
      libc,
      arena,
      arch,
      notification: this.notification,
      openFiles: this.openFiles,
      fileMemories: this.fileMemories,
      range: options.range,
      scratch: arena.take(SCRATCH_BYTES),
      watches: this.watches,
      warn: (pid: number, text: string) => observer.other?.(pid, `warning: ${text}`),
      signalled: (pid: number, fd: number) => observer.signalled?.(pid, fd),
      heard: (pid: number, fd: number) => observer.other?.(pid, `eventfd ${fd} was signalled`),
    };
    this.clients = new Clients(
      taskHost,
      {
        libc,
        arena,
        transfer,
        mappings,
        files: this.fileMemories,
        copyFails: (kind) => served.faults?.point(kind) ?? false,
        isOurs: (device, inode) => this.openFiles.find(Number(device), Number(inode)) !== undefined,
      },
      options.onMm,
    );
    const host: CallHost = {
      ...taskHost,
      clients: this.clients,
      transfer,
      mappings,
      devices: served.devices,
      tree: this.tree,
      observer,
      injection: this.injection,
      owner: { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 },
    };
    this.handlers = [];
    merge(this.handlers, pathCalls(host));
    merge(this.handlers, fdCalls(host));
    merge(this.handlers, dataCalls(host));
    merge(this.handlers, memoryCalls(host, this.handlers));
    merge(this.handlers, execCalls(host, options.nofile));
    if (options.asRoot) merge(this.handlers, lockLimitCalls(host));
    const ioctl = ioctlCall(host);
    this.handlers[arch.calls.ioctl] = ioctl;

    this.signalPipe = signalPipe;
    this.mayYield = options.mayYield;
    this.arch = arch;
    this.arena = arena;
    this.event = arena.take(16);
    // What is rarely ready waits behind one descriptor: poll takes 50 ns for each, every time.
    this.others = libc.call2(arch.calls.epoll_create1, O_CLOEXEC, 0);
    this.waitFor(this.openFiles.queue);
    this.waitFor(this.clients.deaths);
    this.waitFor(this.watches.epoll);
    this.pollfds = arena.take(16);
    [listener, this.others].forEach((fd, index) => {
      this.i32[(this.pollfds >>> 2) + index * 2] = fd;
      this.i32[(this.pollfds >>> 2) + index * 2 + 1] = POLLIN;
    });
    optimizeSooner();
  }

  /** Serves until the last client is gone ('done') or a signal waits for the event loop ('signal'). */
  serve(): 'done' | 'signal' {
    const { libc, notification, openFiles, i32 } = this;
    const poll = this.base + this.pollfds;
    const words = this.pollfds >>> 2;
    for (;;) {
      if (!this.yields && this.mayYield()) {
        this.yields = true;
        if (this.signalPipe !== undefined) this.waitFor(this.signalPipe);
      }
      const ready = libc.poll(poll, 2, this.timeout());
      if (ready < 0) {
        if (libc.errno() === EINTR) continue;
        throw new Error(`poll failed (errno ${libc.errno()})`);
      }
      this.timers?.run();
      const listened = (i32[words + 1] as number) >>> 16;
      // Linux looked at the others after it found a stopped call: what happened before the call is seen.
      const others = (i32[words + 3] as number) >>> 16;
      if (others || openFiles.unsettled) openFiles.drain();
      if (others) {
        this.clients.reap();
        this.fileMemories.sweep();
        this.watches.run();
      }
      if (listened & POLLIN) {
        if (notification.receive()) this.dispatch();
      } else {
        openFiles.drain();
        if (listened) return 'done';
      }
      if (this.yields && this.signalled(others !== 0, ready === 0)) return 'signal';
    }
  }

  private signalled(others: boolean, idle: boolean): boolean {
    if (this.signalPipe === undefined) return idle;
    return others && isReadable(this.libc, this.arena, this.event, this.signalPipe);
  }

  private waitFor(fd: number): void {
    this.arena.u32.fill(0, this.event >>> 2, (this.event >>> 2) + 4);
    this.arena.u32[this.event >>> 2] = POLLIN;
    const event = this.arena.base + this.event;
    this.libc.call6(this.arch.calls.epoll_ctl, this.others, EPOLL_CTL_ADD, fd, event, 0, 0);
  }

  /** Ends every process that has used a device. */
  killClients(): void {
    for (const pid of this.clients.pids()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Gone already.
      }
    }
  }

  /** Ends with the run: what is still open is released, in the engine and here. */
  close(): void {
    const undo = new Cleanup();
    // Last of all, and whatever happens before: nothing may be left in the folder for temporary files.
    undo.defer(() => this.tree?.close());
    undo.defer(() => closeSync(this.others));
    undo.defer(() => this.watches.close());
    undo.defer(() => this.fileMemories.close());
    undo.defer(() => this.clients.close());
    undo.defer(() => this.openFiles.close());
    undo.defer(() => this.openFiles.drain());
    undo.run();
    this.counts.forEach((count, nr) => {
      if (count > 0) this.stats.calls.set(nr, count);
    });
  }

  private dispatch(): void {
    const { nr, tid, sequence } = this.notification;
    if (sequence !== (this.sequence + 1) >>> 0) {
      // Not the call that poll found: that one was taken back, and a close or an end may have come in between.
      this.openFiles.drain();
      this.clients.reap();
      this.cache.forget();
    }
    this.sequence = sequence;
    this.cache.arrives(tid);
    this.counts[nr] = (this.counts[nr] as number) + 1;
    const handler: Handler | undefined = this.handlers[nr];
    if (handler === undefined) this.notification.resume();
    else handler();
    this.clients.leaveCall();
  }

  private timeout(): number {
    if (this.openFiles.unsettled) return SETTLE_MS;
    const due = this.timers?.untilNext();
    if (this.yields && this.signalPipe !== undefined) {
      return due === undefined ? -1 : Math.ceil(due);
    }
    const look = this.yields ? LOOK_MS : START_MS;
    return Math.min(look, due === undefined ? look : Math.ceil(due));
  }
}

function merge(into: Handlers, from: Handlers): void {
  from.forEach((handler, nr) => {
    if (handler !== undefined) into[nr] = handler;
  });
}
