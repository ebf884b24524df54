// SPDX-License-Identifier: Apache-2.0
/** The listener of the filter: one stopped system call at a time, and the three ways to answer it. */
import type { Arch } from './arch.ts';
import type { Arena } from './arena.ts';
import type { Libc } from './libc.ts';
import {
  SECCOMP_ADDFD_FLAG_SEND,
  SECCOMP_ADDFD_FLAG_SETFD,
  SECCOMP_IOCTL_NOTIF_ADDFD,
  SECCOMP_IOCTL_NOTIF_ID_VALID,
  SECCOMP_IOCTL_NOTIF_RECV,
  SECCOMP_IOCTL_NOTIF_SEND,
  SECCOMP_IOCTL_NOTIF_SET_FLAGS,
  SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP,
  SECCOMP_USER_NOTIF_FLAG_CONTINUE,
} from './uapi.ts';

const NOTIF_BYTES = 80;
const SIG_SETMASK = 2;
/** The kernel's own sigset_t. */
const SIGSET_BYTES = 8;

/** The stopped call that is being answered. Its arguments stay readable until the next `receive`. */
export class Notification {
  readonly fd: number;
  private readonly libc: Libc;
  private readonly sigprocmask: number;
  /** Two signal masks: all signals, and ours while all are blocked. */
  private readonly masks: number;
  private readonly arena: Arena;
  private readonly notif: number;
  private readonly response: number;
  private readonly addition: number;
  private readonly u32: Uint32Array;
  private readonly i32: Int32Array;
  private readonly u64: BigUint64Array;

  constructor(libc: Libc, arena: Arena, arch: Arch, listener: number) {
    this.libc = libc;
    this.sigprocmask = arch.calls.rt_sigprocmask;
    this.masks = arena.take(16);
    arena.u32.fill(0xffff_ffff, this.masks >>> 2, (this.masks >>> 2) + 2);
    this.arena = arena;
    this.fd = listener;
    this.notif = arena.take(NOTIF_BYTES);
    this.response = arena.take(24);
    this.addition = arena.take(24);
    this.u32 = arena.u32;
    this.i32 = arena.i32;
    this.u64 = arena.u64;
    // Wakes the client on our CPU: without it a reply costs 50 us on an idle machine. Linux before 6.6 refuses; nothing is lost.
    libc.ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
  }

  /** Takes the oldest stopped call; false where a signal or a kill took it away first. */
  receive(): boolean {
    // A loop: fill() costs 50 ns.
    const { u32 } = this;
    for (let at = this.notif >>> 2, end = at + NOTIF_BYTES / 4; at < end; at += 1) u32[at] = 0;
    return this.libc.ioctl(this.fd, SECCOMP_IOCTL_NOTIF_RECV, this.arena.base + this.notif) === 0;
  }

  /** The calling thread, in our pid namespace. */
  get tid(): number {
    return this.u32[(this.notif + 8) >>> 2] as number;
  }

  /** The low half of the call's number: one more than that of the call before it. */
  get sequence(): number {
    return this.u32[this.notif >>> 2] as number;
  }

  get nr(): number {
    return this.i32[(this.notif + 16) >>> 2] as number;
  }

  /** Argument 0-5 as a number: exact below 2^53. */
  word(index: number): number {
    const at = (this.notif + 32 + index * 8) >>> 2;
    return (this.u32[at] as number) + (this.u32[at + 1] as number) * 0x1_0000_0000;
  }

  /** Argument 0-5 as C's int. */
  int(index: number): number {
    return this.i32[(this.notif + 32 + index * 8) >>> 2] as number;
  }

  /** Argument 0-5 as C's unsigned int. */
  uint(index: number): number {
    return this.u32[(this.notif + 32 + index * 8) >>> 2] as number;
  }

  big(index: number): bigint {
    return this.u64[(this.notif + 32 + index * 8) >>> 3] as bigint;
  }

  /** Answers with a result (0 or more) or `-errno`. False where the caller is gone. */
  reply(value: number): boolean {
    const at = this.response >>> 2;
    const failed = value < 0;
    this.arena.writeWord(this.response + 8, failed ? 0 : value);
    this.i32[at + 4] = failed ? value : 0;
    this.u32[at + 5] = 0;
    return this.send();
  }

  /** Lets Linux execute the call as if we had not looked. */
  resume(): boolean {
    const at = this.response >>> 2;
    this.u32.fill(0, at + 2, at + 5);
    this.u32[at + 5] = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    return this.send();
  }

  /**
   * Puts our descriptor into the caller's table and answers the call with its number, in one step.
   * `number` undefined picks the lowest free one. Returns the number or `-errno`; on failure the call is unanswered.
   */
  answerWithFd(source: number, number: number | undefined, cloexec: number): number {
    // Linux marks the call as answered before the descriptor is there. A signal of ours in between would take the descriptor back
    // and leave the answer, so that the client's open returned 0: none is let in.
    const all = this.arena.base + this.masks;
    this.libc.call6(this.sigprocmask, SIG_SETMASK, all, all + 8, SIGSET_BYTES, 0, 0);
    try {
      return this.add(source, number, cloexec, SECCOMP_ADDFD_FLAG_SEND);
    } finally {
      this.libc.call6(this.sigprocmask, SIG_SETMASK, all + 8, 0, SIGSET_BYTES, 0, 0);
    }
  }

  /** Puts our descriptor into the caller's table without answering. Returns the number or `-errno`. */
  addFd(source: number, number: number | undefined, cloexec: number): number {
    return this.add(source, number, cloexec, 0);
  }

  /** Whether the caller still waits: what was found out about its pid until now was about it. */
  valid(): boolean {
    return (
      this.libc.ioctl(this.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, this.arena.base + this.notif) === 0
    );
  }

  private send(): boolean {
    this.copyId(this.response);
    return (
      this.libc.ioctl(this.fd, SECCOMP_IOCTL_NOTIF_SEND, this.arena.base + this.response) === 0
    );
  }

  private add(source: number, number: number | undefined, cloexec: number, flags: number): number {
    const at = this.addition >>> 2;
    this.copyId(this.addition);
    this.u32[at + 2] = flags | (number === undefined ? 0 : SECCOMP_ADDFD_FLAG_SETFD);
    this.u32[at + 3] = source;
    this.u32[at + 4] = number ?? 0;
    this.u32[at + 5] = cloexec;
    const result = this.libc.ioctl(
      this.fd,
      SECCOMP_IOCTL_NOTIF_ADDFD,
      this.arena.base + this.addition,
    );
    return result < 0 ? -this.libc.errno() : result;
  }

  private copyId(offset: number): void {
    const from = this.notif >>> 2;
    this.u32[offset >>> 2] = this.u32[from] as number;
    this.u32[(offset >>> 2) + 1] = this.u32[from + 1] as number;
  }
}
