// SPDX-License-Identifier: Apache-2.0

/** Linux error numbers (x86-64 and arm64 agree on these), by name. Source: asm-generic/errno*.h. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSPC: 28,
  ESPIPE: 29,
  ERANGE: 34,
  EDEADLK: 35,
  ENOSYS: 38,
  EBADE: 52,
  EOVERFLOW: 75,
  EBADFD: 77,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ETIMEDOUT: 110,
} as const;

export type ErrnoName = keyof typeof Errno;

const names = new Map<number, ErrnoName>(
  Object.entries(Errno).map(([name, value]) => [value, name as ErrnoName]),
);

/** The name of a positive error number: `errnoName(22)` is `'EINVAL'`; unknown numbers read `'E<number>'`. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `E${errno}`;
}

/** V8's and JavaScriptCore's limit for stacks; elsewhere it does nothing. */
const engine = Error as { stackTraceLimit?: number | undefined };

/**
 * A call that Linux would refuse. Thrown where the check fails, caught once, in the dispatcher of the
 * device file; the message says which check failed and with which values.
 */
export class ErrnoError extends Error {
  /**
   * Whether it keeps the stack of where it was thrown, which doubles what it costs. Who serves real programs shows the message
   * and never the stack, and turns this off.
   */
  static keepsStack = true;

  readonly code: ErrnoName;

  constructor(code: ErrnoName, message: string) {
    const { stackTraceLimit } = engine;
    if (!ErrnoError.keepsStack) engine.stackTraceLimit = 0;
    super(message);
    if (!ErrnoError.keepsStack) engine.stackTraceLimit = stackTraceLimit;
    this.code = code;
  }

  /** The positive error number. */
  get errno(): number {
    return Errno[this.code];
  }
}

// One for all: a property of each error would cost more than the rest of it.
Object.defineProperty(ErrnoError.prototype, 'name', { value: 'ErrnoError', configurable: true });
