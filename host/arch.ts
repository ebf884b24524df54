// SPDX-License-Identifier: Apache-2.0
/**
 * What differs between the two machines that the supervisor knows: system call numbers, the word that seccomp checks
 * before them, and where `struct stat` keeps its fields. Source: asm/unistd_64.h, asm-generic/unistd.h,
 * linux/audit.h and asm/stat.h of both. arm64 is data only so far: nothing has run on it.
 */

/** System calls by name; a name that a machine does not have is absent from its table. */
export type Syscalls = Readonly<Record<SyscallName, number>> &
  Readonly<Partial<Record<OldSyscallName, number>>>;

/** Calls that only x86-64 still has. */
export type OldSyscallName = 'open' | 'creat' | 'stat' | 'lstat' | 'access' | 'readlink' | 'dup2';

export type SyscallName = keyof typeof arm64Calls;

/** Offsets in `struct stat`, in bytes; `nlinkBytes` is the width of st_nlink. */
export interface StatLayout {
  readonly size: number;
  readonly mode: number;
  readonly nlink: number;
  readonly nlinkBytes: 4 | 8;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly stSize: number;
  readonly blksize: number;
  readonly times: number;
}

export interface Arch {
  readonly name: 'x86-64' | 'arm64';
  /** AUDIT_ARCH_*: other words (i386 on x86-64) have other numbers and are let through. */
  readonly audit: number;
  readonly calls: Syscalls;
  readonly stat: StatLayout;
}

const x64Calls = {
  read: 0,
  write: 1,
  open: 2,
  close: 3,
  stat: 4,
  fstat: 5,
  lstat: 6,
  lseek: 8,
  mmap: 9,
  munmap: 11,
  brk: 12,
  rt_sigprocmask: 14,
  ioctl: 16,
  pread64: 17,
  pwrite64: 18,
  readv: 19,
  writev: 20,
  access: 21,
  mremap: 25,
  madvise: 28,
  dup: 32,
  dup2: 33,
  execve: 59,
  exit: 60,
  shmdt: 67,
  fcntl: 72,
  fsync: 74,
  fdatasync: 75,
  truncate: 76,
  ftruncate: 77,
  creat: 85,
  readlink: 89,
  getrlimit: 97,
  capget: 125,
  fstatfs: 138,
  prctl: 157,
  setrlimit: 160,
  getxattr: 191,
  lgetxattr: 192,
  listxattr: 194,
  llistxattr: 195,
  exit_group: 231,
  epoll_ctl: 233,
  gettid: 186,
  tgkill: 234,
  inotify_add_watch: 254,
  openat: 257,
  newfstatat: 262,
  readlinkat: 267,
  faccessat: 269,
  fallocate: 285,
  epoll_create1: 291,
  dup3: 292,
  pipe2: 293,
  inotify_init1: 294,
  preadv: 295,
  pwritev: 296,
  prlimit64: 302,
  kcmp: 312,
  seccomp: 317,
  memfd_create: 319,
  execveat: 322,
  preadv2: 327,
  pwritev2: 328,
  statx: 332,
  pidfd_send_signal: 424,
  io_uring_setup: 425,
  pidfd_open: 434,
  close_range: 436,
  openat2: 437,
  pidfd_getfd: 438,
  faccessat2: 439,
  process_madvise: 440,
} as const;

const arm64Calls = {
  getxattr: 8,
  lgetxattr: 9,
  listxattr: 11,
  llistxattr: 12,
  epoll_create1: 20,
  epoll_ctl: 21,
  dup: 23,
  dup3: 24,
  fcntl: 25,
  inotify_init1: 26,
  inotify_add_watch: 27,
  ioctl: 29,
  fstatfs: 44,
  truncate: 45,
  ftruncate: 46,
  fallocate: 47,
  faccessat: 48,
  openat: 56,
  close: 57,
  pipe2: 59,
  lseek: 62,
  read: 63,
  write: 64,
  readv: 65,
  writev: 66,
  pread64: 67,
  pwrite64: 68,
  preadv: 69,
  pwritev: 70,
  readlinkat: 78,
  newfstatat: 79,
  fstat: 80,
  fsync: 82,
  fdatasync: 83,
  capget: 90,
  exit: 93,
  exit_group: 94,
  tgkill: 131,
  rt_sigprocmask: 135,
  getrlimit: 163,
  setrlimit: 164,
  prctl: 167,
  gettid: 178,
  shmdt: 197,
  brk: 214,
  munmap: 215,
  mremap: 216,
  execve: 221,
  mmap: 222,
  madvise: 233,
  prlimit64: 261,
  kcmp: 272,
  seccomp: 277,
  memfd_create: 279,
  execveat: 281,
  preadv2: 286,
  pwritev2: 287,
  statx: 291,
  pidfd_send_signal: 424,
  io_uring_setup: 425,
  pidfd_open: 434,
  close_range: 436,
  openat2: 437,
  pidfd_getfd: 438,
  faccessat2: 439,
  process_madvise: 440,
} as const;

const x64: Arch = {
  name: 'x86-64',
  audit: 0xc000003e,
  calls: x64Calls,
  stat: {
    size: 144,
    mode: 24,
    nlink: 16,
    nlinkBytes: 8,
    uid: 28,
    gid: 32,
    rdev: 40,
    stSize: 48,
    blksize: 56,
    times: 72,
  },
};

const arm64: Arch = {
  name: 'arm64',
  audit: 0xc00000b7,
  calls: arm64Calls,
  stat: {
    size: 128,
    mode: 16,
    nlink: 20,
    nlinkBytes: 4,
    uid: 24,
    gid: 28,
    rdev: 32,
    stSize: 48,
    blksize: 56,
    times: 72,
  },
};

/** The machine by Node's `process.arch`, or undefined where we have no table. */
export function archOf(nodeArch: string): Arch | undefined {
  if (nodeArch === 'x64') return x64;
  if (nodeArch === 'arm64') return arm64;
  return undefined;
}
