// SPDX-License-Identifier: Apache-2.0
/**
 * The processes that have called us, and which address space each of them uses. Everything is held by pidfd, so that a
 * number that Linux gives to another task is noticed; nothing is remembered of tasks that never called.
 */
import { closeSync } from 'node:fs';
import type { User } from '../src/memory/accounting.ts';
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import { ClientProcess } from './client_process.ts';
import { ClientTask, type TaskHost } from './client_task.ts';
import { parentOf, tgidOf } from './proc_read.ts';
import type { Libc } from './libc.ts';
import { type MmHost, ProcessMm } from './process_mm.ts';
import {
  EPOLL_CTL_ADD,
  EPOLL_EVENT_BYTES,
  EPOLL_EVENT_DATA,
  KCMP_VM,
  O_CLOEXEC,
  PIDFD_THREAD,
  POLLIN,
} from './uapi.ts';

const EVENTS = 32;
const EINVAL = 22;

export class Clients {
  private readonly libc: Libc;
  private readonly arena: Arena;
  private readonly arch: Arch;
  private readonly tasks = new Map<number, ClientTask>();
  private readonly processes = new Map<number, ClientProcess>();
  private readonly mms = new Set<ProcessMm>();
  private readonly users = new Map<number, User>();
  private readonly taskHost: Omit<TaskHost, 'clients'>;
  private readonly mmHost: MmHost;
  private readonly onMm: (mm: ProcessMm) => void;
  private readonly probe: number;
  private readonly events: number;
  /** An epoll instance that is readable when a client task has ended. */
  readonly deaths: number;
  /** Linux 6.9 has pidfds of threads; before, a thread borrows its process's. */
  private threadPidfds = true;
  private entered: ProcessMm | undefined;

  constructor(taskHost: Omit<TaskHost, 'clients'>, mmHost: MmHost, onMm: (mm: ProcessMm) => void) {
    this.libc = taskHost.libc;
    this.arena = taskHost.arena;
    this.arch = taskHost.arch;
    this.taskHost = taskHost;
    this.mmHost = mmHost;
    this.onMm = onMm;
    this.probe = this.arena.take(8);
    this.events = this.arena.take(EVENTS * 16);
    this.deaths = this.libc.call2(this.arch.calls.epoll_create1, O_CLOEXEC, 0);
  }

  /** Every address space known; one that has just died may still be among them. */
  allMms(): Iterable<ProcessMm> {
    return this.mms;
  }

  /** Whether any address space has pinned pages: lets the memory traps do nothing otherwise. */
  anyPins(): boolean {
    for (const mm of this.mms) if (mm.pinObserver?.hasPins() === true) return true;
    return false;
  }

  process(tgid: number): ClientProcess | undefined {
    return this.processes.get(tgid);
  }

  /**
   * The task with this number, made on first sight; undefined where it died meanwhile. A kept entry is not checked
   * against reuse of the number: that is for the caller, whose pidfd_getfd fails with ESRCH, or for `verified`.
   */
  task(tid: number): ClientTask | undefined {
    const known = this.tasks.get(tid);
    if (known === undefined) return this.meet(tid);
    if (this.threadPidfds || known.tid === known.process.tgid) return known;
    return this.verified(tid);
  }

  /** As `task`, after making sure that a kept entry is about the caller and not about a task that had its number. */
  verified(tid: number): ClientTask | undefined {
    const known = this.tasks.get(tid);
    if (known !== undefined) {
      if (this.exists(known)) return known;
      this.forgetStale(known);
    }
    return this.meet(tid);
  }

  /** Drops what is known of a task that turned out to be gone. */
  forgetStale(task: ClientTask): void {
    if (task.tid === task.process.tgid) this.forgetProcess(task.process);
    else this.forgetTask(task);
  }

  /** Handles the ends of tasks that `deaths` reports. */
  reap(): void {
    const got = this.libc.epollWait(this.deaths, this.arena.base + this.events, EVENTS, 0);
    const ended: ClientTask[] = [];
    const processes: ClientProcess[] = [];
    for (let index = 0; index < got; index += 1) {
      const at = this.events + index * EPOLL_EVENT_BYTES + EPOLL_EVENT_DATA;
      const id = this.arena.view.getUint32(at, true);
      if (this.arena.view.getUint32(at + 4, true) === 0) {
        const owner = this.processes.get(id);
        if (owner !== undefined) processes.push(owner);
      } else {
        const task = this.tasks.get(id);
        if (task !== undefined) ended.push(task);
      }
    }
    for (const task of ended) this.forgetTask(task);
    for (const owner of processes) this.forgetProcess(owner);
    for (const mm of this.mms) if (!mm.alive) this.retire(mm);
  }

  /** The address space of a process now. */
  mmOf(owner: ClientProcess): ProcessMm {
    if (owner.mm !== undefined && !owner.execPending) return owner.mm;
    const before = owner.mm;
    owner.execPending = false;
    if (before !== undefined && before.alive && this.stillIn(owner, before)) return before;
    this.leave(owner);
    const mm = this.findMm(owner.tgid) ?? this.newMm(owner.tgid);
    mm.users.add(owner.tgid);
    owner.mm = mm;
    return mm;
  }

  /** Marks the address space that the current call may reach through its own thread; until `leaveCall`. */
  enterCall(mm: ProcessMm, tid: number): void {
    if (this.entered !== mm) this.leaveCall();
    this.entered = mm;
    mm.enter(tid);
  }

  leaveCall(): void {
    if (this.entered === undefined) return;
    this.entered.leave();
    this.entered = undefined;
  }

  /** The address space of `tid` where it has pinned pages. A stranger that shares it (vfork) is found and not kept. */
  pinnedMmOf(tid: number): ProcessMm | undefined {
    const known = this.tasks.get(tid);
    if (known !== undefined && this.exists(known)) {
      const mm = this.mmOf(known.process);
      return mm.pinObserver?.hasPins() === true ? mm : undefined;
    }
    for (const mm of this.mms) {
      if (mm.pinObserver?.hasPins() !== true) continue;
      for (const user of mm.users) if (this.sameMm(tid, user)) return mm;
    }
    return undefined;
  }

  /** The user of a real uid; one object for all their processes. */
  user(uid: number): User {
    let user = this.users.get(uid);
    if (user === undefined) {
      user = { uid, lockedPages: 0 };
      this.users.set(uid, user);
    }
    return user;
  }

  /** An exec of `tid` was let through: which address space it uses has to be found out again. */
  execStarts(tid: number): void {
    if (this.processes.size === 0) return;
    const tgid = this.tasks.get(tid)?.process.tgid ?? tgidOf(tid);
    const owner = tgid === undefined ? undefined : this.processes.get(tgid);
    if (owner !== undefined) owner.execPending = true;
  }

  /** Whether two processes run in one address space; false where it cannot be told. */
  shareMm(a: number, b: number): boolean {
    return a !== b && this.sameMm(a, b);
  }

  /** A number of our range may be free again in any process: look from the top at the next open. */
  numbersChanged(): void {
    for (const owner of this.processes.values()) owner.nextFd = undefined;
  }

  /** Process ids that are known. */
  pids(): number[] {
    return [...this.processes.keys()];
  }

  /** Ends with the run: the engine hears of every address space that is left. */
  close(): void {
    for (const owner of [...this.processes.values()]) this.forgetProcess(owner);
    for (const mm of [...this.mms]) this.retire(mm);
    closeSync(this.deaths);
  }

  private meet(tid: number): ClientTask | undefined {
    const tgid = tgidOf(tid);
    if (tgid === undefined) return undefined;
    const owner = this.meetProcess(tgid);
    if (owner === undefined) return undefined;
    let { pidfd } = owner;
    if (tid !== tgid && this.threadPidfds) {
      pidfd = this.libc.call2(this.arch.calls.pidfd_open, tid, PIDFD_THREAD);
      if (pidfd < 0 && this.libc.errno() !== EINVAL) return undefined;
      if (pidfd < 0) {
        this.threadPidfds = false;
        pidfd = owner.pidfd;
      } else {
        this.watch(pidfd, tid, 1);
      }
    }
    const task = new ClientTask({ ...this.taskHost, clients: this }, tid, owner, pidfd);
    owner.tasks.set(tid, task);
    this.tasks.set(tid, task);
    return task;
  }

  private meetProcess(tgid: number): ClientProcess | undefined {
    const known = this.processes.get(tgid);
    if (known !== undefined) {
      if (this.pidfdExists(known.pidfd)) return known;
      this.forgetProcess(known);
    }
    const pidfd = this.libc.call2(this.arch.calls.pidfd_open, tgid, 0);
    if (pidfd < 0) return undefined;
    this.watch(pidfd, tgid, 0);
    const owner = new ClientProcess(this.taskHost, tgid, pidfd);
    if (this.taskHost.asRoot) owner.ownLockLimit = this.processes.get(parentOf(tgid))?.ownLockLimit;
    this.processes.set(tgid, owner);
    return owner;
  }

  private forgetTask(task: ClientTask): void {
    this.tasks.delete(task.tid);
    task.process.tasks.delete(task.tid);
    if (task.pidfd !== task.process.pidfd) closeSync(task.pidfd);
  }

  private forgetProcess(owner: ClientProcess): void {
    for (const task of [...owner.tasks.values()]) this.forgetTask(task);
    this.processes.delete(owner.tgid);
    closeSync(owner.pidfd);
    this.leave(owner);
  }

  private watch(pidfd: number, id: number, kind: 0 | 1): void {
    this.arena.view.setUint32(this.events, POLLIN, true);
    this.arena.view.setUint32(this.events + EPOLL_EVENT_DATA, id, true);
    this.arena.view.setUint32(this.events + EPOLL_EVENT_DATA + 4, kind, true);
    const event = this.arena.base + this.events;
    this.libc.call6(this.arch.calls.epoll_ctl, this.deaths, EPOLL_CTL_ADD, pidfd, event, 0, 0);
  }

  private exists(task: ClientTask): boolean {
    if (!this.pidfdExists(task.pidfd)) return false;
    const { tgid } = task.process;
    return (
      this.threadPidfds ||
      task.tid === tgid ||
      this.libc.call3(this.arch.calls.tgkill, tgid, task.tid, 0) === 0
    );
  }

  /** Signal 0 asks whether the task that the pidfd was made for is still there. */
  private pidfdExists(pidfd: number): boolean {
    return this.libc.call6(this.arch.calls.pidfd_send_signal, pidfd, 0, 0, 0, 0, 0) === 0;
  }

  private findMm(tgid: number): ProcessMm | undefined {
    for (const mm of this.mms) {
      for (const user of mm.users) if (this.sameMm(tgid, user)) return mm;
    }
    return undefined;
  }

  private newMm(tgid: number): ProcessMm {
    const mm = new ProcessMm(this.mmHost, tgid, this.probe);
    this.mms.add(mm);
    this.onMm(mm);
    return mm;
  }

  /** After an exec of `owner`: whether it failed and left the process where it was. */
  private stillIn(owner: ClientProcess, mm: ProcessMm): boolean {
    let others = 0;
    for (const user of mm.users) {
      if (user === owner.tgid) continue;
      others += 1;
      if (this.sameMm(owner.tgid, user)) return true;
    }
    // Alive without other users: only a process that never left can keep it so.
    return others === 0;
  }

  private sameMm(a: number, b: number): boolean {
    return this.libc.call6(this.arch.calls.kcmp, a, b, KCMP_VM, 0, 0, 0) === 0;
  }

  private leave(owner: ClientProcess): void {
    const { mm } = owner;
    owner.mm = undefined;
    if (mm === undefined) return;
    mm.users.delete(owner.tgid);
    if (!mm.alive) this.retire(mm);
  }

  private retire(mm: ProcessMm): void {
    if (!this.mms.delete(mm)) return;
    if (this.entered === mm) this.entered = undefined;
    for (const owner of this.processes.values()) if (owner.mm === mm) owner.mm = undefined;
    mm.retire();
  }
}
