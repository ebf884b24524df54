// SPDX-License-Identifier: Apache-2.0
/**
 * Named, ordered locks: the mutexes and rwsems of Linux that matter here. With one thread nothing is ever taken by force;
 * a lock says that its holder may be parked at a preemption point with something half done.
 */

import type { TouchKey } from './footprint.ts';

/** A kind of lock, as lockdep sees it: all mutexes of all page lists are of one class. */
export interface LockClass {
  /** Linux's name: `iopt.iova_rwsem`. */
  readonly name: string;
  /** Locks are taken in ascending order of this. */
  readonly order: number;
  /** Whether one holder may take several locks of the class. */
  readonly nestable: boolean;
}

export function lockClass(
  name: string,
  order: number,
  options: { readonly nestable?: boolean } = {},
): LockClass {
  return { name, order, nestable: options.nestable ?? false };
}

/** Who can hold locks: the foreground or a task. */
export interface Holder {
  readonly name: string;
  /** In the order of taking; kept only where locks are checked. */
  readonly held: Lock[];
}

/** What a lock needs of the world it lives in; `Sim` is one. */
export interface LockHost {
  readonly checkLocks: boolean;
  /** Who runs now. */
  readonly current: Holder;
  /** Told of each lock that is taken or released, where somebody wants to know: see `Sim.touch`. */
  readonly touched: ((key: TouchKey | undefined, write: boolean) => void) | undefined;
  /** A number for each lock, in order of their making. */
  nextLock(): number;
  waitUntil(condition: () => boolean, options: { readonly what: string }): void;
}

/** Locks taken in the wrong order, twice, or released by someone else. A bug in the engine, never a client's fault. */
export class LockError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LockError';
  }
}

/** A lock that a task yields to get: its next step runs when the lock is free and finds it taken. */
export class LockRequest {
  readonly lock: Lock;
  readonly exclusive: boolean;

  constructor(lock: Lock, exclusive: boolean) {
    this.lock = lock;
    this.exclusive = exclusive;
  }

  toString(): string {
    return this.lock.describe(this.exclusive);
  }
}

/** What mutexes and rwsems share. */
export abstract class Lock {
  readonly lockClass: LockClass;
  readonly #host: LockHost;
  readonly #id: number;
  /** 0 free, -1 held exclusively, above 0 the number of readers. In production this is all there is to a lock. */
  #count = 0;

  constructor(host: LockHost, kind: LockClass) {
    this.#host = host;
    this.#id = host.nextLock();
    this.lockClass = kind;
  }

  get name(): string {
    return this.lockClass.name;
  }

  get isLocked(): boolean {
    return this.#count !== 0;
  }

  isFreeFor(exclusive: boolean): boolean {
    return exclusive ? this.#count === 0 : this.#count >= 0;
  }

  /** How a report names taking it. */
  abstract describe(exclusive: boolean): string;

  /** Takes the lock for whoever runs, advancing tasks until it is free. LockError where the order forbids it. */
  take(exclusive: boolean): void {
    const host = this.#host;
    if (host.checkLocks) this.#checkOrder(host.current, exclusive);
    if (!this.isFreeFor(exclusive)) {
      host.waitUntil(() => this.isFreeFor(exclusive), { what: this.describe(exclusive) });
    }
    this.#count += exclusive ? -1 : 1;
    host.touched?.(this.#id, exclusive);
    if (host.checkLocks) host.current.held.push(this);
  }

  /** Takes it if it is free. Any order is right: nobody waits. */
  protected tryTake(exclusive: boolean): boolean {
    this.#host.touched?.(this.#id, exclusive);
    if (!this.isFreeFor(exclusive)) return false;
    this.#count += exclusive ? -1 : 1;
    if (this.#host.checkLocks) this.#host.current.held.push(this);
    return true;
  }

  protected release(exclusive: boolean): void {
    const { checkLocks, current, touched } = this.#host;
    touched?.(this.#id, exclusive);
    if (checkLocks) {
      const at = current.held.lastIndexOf(this);
      if (at < 0) {
        throw new LockError(
          `${current.name} releases ${this.name}, which it does not hold${heldBy(current)}`,
        );
      }
      current.held.splice(at, 1);
    }
    if (exclusive ? this.#count >= 0 : this.#count <= 0) {
      throw new LockError(
        `${current.name} releases ${this.name}, which is not held ${exclusive ? 'exclusively' : 'for reading'}`,
      );
    }
    this.#count += exclusive ? 1 : -1;
  }

  #checkOrder(holder: Holder, exclusive: boolean): void {
    if (holder.held.includes(this)) {
      throw new LockError(
        `${holder.name} takes ${this.describe(exclusive)} again${heldBy(holder)}`,
      );
    }
    for (const { lockClass: before } of holder.held) {
      const { order, nestable } = this.lockClass;
      if (before.order < order || (before === this.lockClass && nestable)) continue;
      let rule = `${this.name} comes first`;
      if (before === this.lockClass) rule = 'the class is not nestable';
      else if (before.order === order) rule = 'equal orders cannot be held together';
      throw new LockError(
        `${holder.name} takes ${this.describe(exclusive)} (order ${order}) ` +
          `while it holds ${before.name} (order ${before.order}): ${rule}`,
      );
    }
  }
}

/** `; it holds a, b`, or that nothing is. */
export function heldBy(holder: Holder): string {
  return `; it holds ${holder.held.map((lock) => lock.name).join(', ') || 'no lock'}`;
}

/** Held by one at a time. Tasks `yield mutex.request()`; plain functions call `lock()`. */
export class Mutex extends Lock {
  lock(): void {
    this.take(true);
  }

  tryLock(): boolean {
    return this.tryTake(true);
  }

  unlock(): void {
    this.release(true);
  }

  /** For a task to yield. */
  request(): LockRequest {
    return new LockRequest(this, true);
  }

  describe(): string {
    return `mutex ${this.name}`;
  }
}

/**
 * Held by one writer or any number of readers. A waiting writer does not keep new readers out, as it does on Linux;
 * reading twice, which deadlocks there for that reason, is refused where locks are checked.
 */
export class RwSem extends Lock {
  downRead(): void {
    this.take(false);
  }

  tryDownRead(): boolean {
    return this.tryTake(false);
  }

  upRead(): void {
    this.release(false);
  }

  downWrite(): void {
    this.take(true);
  }

  tryDownWrite(): boolean {
    return this.tryTake(true);
  }

  upWrite(): void {
    this.release(true);
  }

  /** For a task to yield. */
  requestRead(): LockRequest {
    return new LockRequest(this, false);
  }

  /** For a task to yield. */
  requestWrite(): LockRequest {
    return new LockRequest(this, true);
  }

  describe(exclusive: boolean): string {
    return `rwsem ${this.name} (${exclusive ? 'write' : 'read'})`;
  }
}
