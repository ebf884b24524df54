// SPDX-License-Identifier: Apache-2.0
// A page is pinned, filled with 0x5a, and given up in some way; the engine must still find 0x5a in it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };
static int device;

static int pin(void *page, int pages) {
  struct { uint32_t size, pages; uint64_t address; } s = {16, pages, (uintptr_t)page};
  return ioctl(device, 0x3bf1, &s);
}
static int first(int index) { return ioctl(device, 0x3bf2, (long)index); }
static char *fresh(int flags, int fd) {
  char *page = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
  memset(page, 0x5a, 4 * PAGE);
  return page;
}

int main(int argc, char **argv) {
  const char *how = argv[1];
  int anonymous = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
  device = open("/dev/iommu", O_RDWR);
  if (device < 0) return 90;
  char *page;
  if (!strcmp(how, "brk")) {
    char *old = sbrk(0);
    page = (char *)(((uintptr_t)old + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    brk(page + 4 * PAGE);
    memset(page, 0x5a, 4 * PAGE);
  } else if (!strcmp(how, "ftruncate") || !strcmp(how, "punch") || !strcmp(how, "shared unmap") || !strcmp(how, "truncate")) {
    fd = memfd_create("pages", 0);
    if (ftruncate(fd, 4 * PAGE)) return 91;
    page = fresh(MAP_SHARED, fd);
    if (pin(page, 4) != 1) return 92;
  } else if (!strcmp(how, "shmdt")) {
    int id = shmget(IPC_PRIVATE, 4 * PAGE, 0600);
    page = shmat(id, 0, 0);
    shmctl(id, IPC_RMID, 0);
    memset(page, 0x5a, 4 * PAGE);
  } else if (!strcmp(how, "anonymous shared")) {
    page = fresh(MAP_SHARED | MAP_ANONYMOUS, -1);
  } else {
    page = fresh(anonymous, -1);
  }
  if (fd < 0 && pin(page, 4) < 0) return 93;
  pid_t child = 0;
  if (!strcmp(how, "munmap") || !strcmp(how, "shared unmap")) munmap(page, 4 * PAGE);
  else if (!strcmp(how, "map over")) { if (mmap(page, PAGE, PROT_READ, anonymous | MAP_FIXED, -1, 0) != page) return 94; }
  else if (!strcmp(how, "mremap")) { if (mremap(page, 4 * PAGE, 1 << 20, MREMAP_MAYMOVE) == MAP_FAILED) return 94; }
  else if (!strcmp(how, "dontneed")) madvise(page, PAGE, MADV_DONTNEED);
  else if (!strcmp(how, "free")) madvise(page, PAGE, MADV_FREE);
  else if (!strcmp(how, "brk")) brk(page);
  else if (!strcmp(how, "shmdt")) shmdt(page);
  else if (!strcmp(how, "ftruncate")) { if (ftruncate(fd, 0)) return 94; }
  else if (!strcmp(how, "truncate")) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (truncate(link, 0)) return 94;
  } else if (!strcmp(how, "punch")) fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
  else if (!strcmp(how, "misaligned")) { munmap(page + 1, PAGE); page[0] = 0x5b; printf("%x\n", first(0)); return 0; }
  else if (!strcmp(how, "vfork")) {
    /* The child shares the address space: its end must not take the pages from it. */
    if (!(child = vfork())) _exit(0);
    waitpid(child, 0, 0);
    page[0] = 0x5b;
    printf("%x\n", first(0));
    return 0;
  } else if (!strcmp(how, "fork")) {
    /* The child has a copy: what it does to it is its own business. */
    if (!(child = fork())) { munmap(page, 4 * PAGE); _exit(0); }
    waitpid(child, 0, 0);
    page[0] = 0x5b;
    printf("%x\n", first(0));
    return 0;
  } else if (!strcmp(how, "parent exits") || !strcmp(how, "parent execs") || !strcmp(how, "parent is killed")) {
    int wake[2];
    if (pipe(wake)) return 95;
    pid_t parent = getpid();
    if (!fork()) {
      char byte;
      close(wake[1]);
      /* Reads 0 when the parent is gone, or has executed something else. */
      if (read(wake[0], &byte, 1) != 0) return 96;
      if (!strcmp(how, "parent is killed")) usleep(1000);
      int value = first(0);
      printf("%x\n", value);
      return 0;
    }
    fcntl(wake[1], F_SETFD, FD_CLOEXEC);
    if (!strcmp(how, "parent exits")) _exit(0);
    if (!strcmp(how, "parent is killed")) kill(parent, SIGKILL);
    execlp("/nonexistent/program", "program", (char *)0);
    execlp("sleep", "sleep", "0.1", (char *)0);
    return 97;
  } else if (!strcmp(how, "failed exec")) {
    execl("/nonexistent/program", "program", (char *)0);
    page[0] = 0x5b;
  } else if (!strcmp(how, "anonymous shared")) {
    if (!(child = fork())) { page[0] = 0x5c; _exit(0); }
    waitpid(child, 0, 0);
  }
  printf("%x\n", first(0));
  return 0;
}
