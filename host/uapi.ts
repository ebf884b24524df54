// SPDX-License-Identifier: Apache-2.0
/** Numbers of the Linux interfaces that the supervisor itself uses. Names are the headers'. */

// asm-generic/fcntl.h. O_DIRECTORY, O_NOFOLLOW and O_DIRECT differ between machines.
export const O_RDONLY = 0;
export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_ACCMODE = 0o3;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;
const isArm = process.arch === 'arm64';
export const O_DIRECTORY = isArm ? 0o40000 : 0o200000;
export const O_NOFOLLOW = isArm ? 0o100000 : 0o400000;
export const O_DIRECT = isArm ? 0o200000 : 0o40000;
export const F_DUPFD = 0;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_DUPFD_CLOEXEC = 1030;
export const F_OFD_GETLK = 36;
export const F_OFD_SETLK = 37;
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
export const AT_FDCWD = -100;
export const AT_EMPTY_PATH = 0x1000;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_EACCESS = 0x200;

// linux/stat.h
export const S_IFMT = 0o170000;
export const S_IFREG = 0o100000;
export const S_IFCHR = 0o020000;
export const STATX_BASIC_STATS = 0x7ff;

// linux/mman.h
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_TYPE = 0xf;
export const MAP_PRIVATE = 2;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
export const MREMAP_FIXED = 2;
/** Advice that throws pages away: DONTNEED, FREE, REMOVE, DONTNEED_LOCKED. */
export const discardingAdvice: readonly number[] = [4, 8, 9, 24];
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_COLLAPSE_RANGE = 8;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const FALLOC_FL_INSERT_RANGE = 0x20;

// linux/seccomp.h
export const SECCOMP_SET_MODE_FILTER = 1;
export const SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4;
export const SECCOMP_FILTER_FLAG_NEW_LISTENER = 8;
export const SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32;
export const SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1;
export const SECCOMP_ADDFD_FLAG_SETFD = 1;
export const SECCOMP_ADDFD_FLAG_SEND = 2;
export const SECCOMP_IOCTL_NOTIF_RECV = 0xc0502100;
export const SECCOMP_IOCTL_NOTIF_SEND = 0xc0182101;
export const SECCOMP_IOCTL_NOTIF_ID_VALID = 0x40082102;
export const SECCOMP_IOCTL_NOTIF_ADDFD = 0x40182103;
export const SECCOMP_IOCTL_NOTIF_SET_FLAGS = 0x40082104;
export const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1;

// linux/prctl.h
export const PR_SET_CHILD_SUBREAPER = 36;
export const PR_SET_NO_NEW_PRIVS = 38;

// poll.h, sys/epoll.h, sys/inotify.h
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLHUP = 16;
export const IN_CLOSE = 0x18;
export const IN_Q_OVERFLOW = 0x4000;
export const IN_IGNORED = 0x8000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
/** `struct epoll_event` is packed on x86-64 alone: its bytes, and where the user's data begin. */
export const EPOLL_EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
export const EPOLL_EVENT_DATA = EPOLL_EVENT_BYTES - 8;
/** preadv2: what would block is EAGAIN. */
export const RWF_NOWAIT = 8;

// linux/kcmp.h, linux/pidfd.h, asm-generic/resource.h, linux/magic.h
export const KCMP_VM = 1;
export const PIDFD_THREAD = O_EXCL;
export const PIDFD_GET_INFO = 0xc040ff0b;
export const PIDFD_INFO_CREDS = 2;
export const RLIMIT_NOFILE = 7;
export const RLIMIT_MEMLOCK = 8;
export const TMPFS_MAGIC = 0x01021994;
export const HUGETLBFS_MAGIC = 0x958458f6;
export const MFD_CLOEXEC = 1;

// Errors that the host gives and the engine's table does not name.
export const EINTR = 4;
export const ENOEXEC = 8;
export const ENODEV = 19;
export const EXDEV = 18;
export const ELOOP = 40;
