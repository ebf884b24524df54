// SPDX-License-Identifier: Apache-2.0
// Every way to reach a device node or a descriptor of one; prints one line for each, to compare with what Linux gives.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

static void say(const char *what, long result) {
  if (result < 0) printf("%s: %s\n", what, strerrorname_np(errno));
  else printf("%s: ok\n", what);
}

static void sayOpen(const char *what, int fd) {
  say(what, fd);
  if (fd >= 0) close(fd);
}

static void sayStat(const char *what, int result, const struct stat *st) {
  if (result < 0) return say(what, result);
  printf("%s: %o %u:%u\n", what, st->st_mode, major(st->st_rdev), minor(st->st_rdev));
}

int main(void) {
  struct stat st;
  struct statx sx;
  char buffer[64];
  struct open_how how = {.flags = O_RDWR};
  const char *path = "/dev/iommu";

  sayOpen("open", syscall(SYS_openat, AT_FDCWD, path, O_RDWR));
#ifdef SYS_open
  sayOpen("old open", syscall(SYS_open, path, O_RDWR));
#else
  puts("old open: ok");
#endif
  sayOpen("openat2", syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
  sayOpen("open slash", open("/dev/iommu/", O_RDWR));
  sayOpen("open dots", open("/dev/../dev/./iommu", O_RDWR));
  sayOpen("open other device", open("/dev/vfio/vfio", O_RDWR));
  sayOpen("open nothing", open("/dev/iommu_not", O_RDWR));
  sayOpen("open excl", open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
  sayOpen("open directory", open(path, O_RDONLY | O_DIRECTORY));
  int dev = open("/dev", O_RDONLY | O_DIRECTORY);
  sayOpen("open dirfd", openat(dev, "iommu", O_RDWR));
  if (chdir("/dev")) return 1;
  sayOpen("open relative", open("iommu", O_RDWR));
  sayOpen("open relative dot", open("./iommu", O_RDWR));
  if (chdir("/")) return 1;
  sayOpen("open relative wrong", open("iommu", O_RDWR));

  sayStat("stat", stat(path, &st), &st);
  sayStat("lstat", lstat(path, &st), &st);
  sayStat("fstatat", fstatat(dev, "iommu", &st, 0), &st);
  say("statx", statx(AT_FDCWD, path, 0, STATX_ALL, &sx));
  printf("statx: %o %u:%u\n", sx.stx_mode, sx.stx_rdev_major, sx.stx_rdev_minor);
  say("access rw", access(path, R_OK | W_OK));
  say("access x", access(path, X_OK));
  say("access f", access(path, F_OK));
  say("faccessat", faccessat(dev, "iommu", R_OK, 0));
  say("faccessat2", syscall(SYS_faccessat2, dev, "iommu", R_OK, AT_EACCESS));
  say("readlink", readlink(path, buffer, sizeof buffer));
  say("stat bad pointer", syscall(SYS_newfstatat, AT_FDCWD, path, (void *)8, 0));
  say("open bad pointer", syscall(SYS_openat, AT_FDCWD, (void *)8, O_RDWR));

  int fd = open(path, O_RDWR | O_CLOEXEC);
  printf("flags: %o %x\n", fcntl(fd, F_GETFL) & ~0100000, fcntl(fd, F_GETFD));
  sayStat("fstat", fstat(fd, &st), &st);
  sayStat("fstat raw", syscall(SYS_fstat, fd, &st), &st);
  sayStat("fstat empty path", fstatat(fd, "", &st, AT_EMPTY_PATH), &st);
  say("statx fd", statx(fd, "", AT_EMPTY_PATH, STATX_ALL, &sx));
  printf("statx fd: %o\n", sx.stx_mode);
  struct iovec iov = {buffer, 8};
  say("read", read(fd, buffer, 8));
  say("write", write(fd, buffer, 8));
  say("readv", readv(fd, &iov, 1));
  say("pread", pread(fd, buffer, 8, 0));
  say("pwritev", pwritev(fd, &iov, 1, 0));
  say("lseek", lseek(fd, 0, SEEK_SET));
  say("fsync", fsync(fd));
  say("ftruncate", ftruncate(fd, 4096));
  say("mmap private", (long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0));
  say("mmap exec", (long)mmap(0, 4096, PROT_EXEC | PROT_READ, MAP_SHARED, fd, 0));
  say("mmap", (long)mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0));
  struct pollfd p = {fd, POLLIN | POLLOUT, 0};
  poll(&p, 1, 0);
  printf("poll: %x\n", p.revents);
  struct epoll_event e = {.events = EPOLLIN};
  say("epoll", epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, fd, &e));
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int n = readlink(link, buffer, sizeof buffer - 1);
  buffer[n < 0 ? 0 : n] = 0;
  printf("proc link: %s\n", buffer);
  sayOpen("proc open", open(link, O_RDWR));

  int twin = dup(fd), low = dup2(fd, 100), cloexec = fcntl(fd, F_DUPFD_CLOEXEC, 800);
  printf("dups: %d %d %d %x\n", twin > 700, low, cloexec > 700, fcntl(cloexec, F_GETFD));
  say("dup2 same", dup2(fd, fd) == fd ? 0 : -1);
  say("dup3 same", dup3(fd, fd, 0));
  say("ioctl dup", ioctl(twin, 0x3bf4, fd));
  say("ioctl low", ioctl(low, 0x3bf4, fd));
  close(fd);
  say("ioctl closed", ioctl(fd, 0x3bf4, 0));
  say("read closed", read(fd, buffer, 1));
  printf("still open: %d\n", ioctl(twin, 0x3bf4, twin));
  printf("closed: %d\n", ioctl(twin, 0x3bf4, fd));
  printf("memory: %d\n", ioctl(twin, 0x3bf4, memfd_create("x", 0)));
  printf("pipe: %d\n", ioctl(twin, 0x3bf4, 1));
  int made = ioctl(twin, 0x3bf3, 0);
  printf("made: %d\n", ioctl(made, 0x3bf4, made));
  say("made cloexec", fcntl(made, F_GETFD) == FD_CLOEXEC ? 0 : -1);
  say("wrong command", ioctl(twin, 0x3bff, 0));
  say("other file", ioctl(dev, 0x3bf0, 0));
  say("bad argument", ioctl(twin, 0x3bf0, 8));
  static const char readOnly[16] = {16};
  say("read-only argument", ioctl(twin, 0x3bf0, readOnly));
  int uring = syscall(SYS_io_uring_setup, 0, 0);
  say("io_uring", uring);
  return 0;
}
