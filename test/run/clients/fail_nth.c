// SPDX-License-Identifier: Apache-2.0
// fail-nth files and debugfs, as a program finds them. What it prints is compared by fail_nth.test.ts.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct ioas_alloc { uint32_t size, flags, out_ioas_id; };
#define IOAS_ALLOC 0x3b81

static int fd;

static long result(long value) { return value < 0 ? -errno : value; }
static int alloc(void) {
  struct ioas_alloc cmd = {.size = sizeof cmd};
  return ioctl(fd, IOAS_ALLOC, &cmd) < 0 ? -errno : 0;
}
static int open_nth(long tid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%ld/fail-nth", tid);
  return open(path, O_RDWR);
}
static int set(int nth, const char *text) { return result(pwrite(nth, text, strlen(text), 0)); }
static int get(int nth) {
  char text[16] = "";
  if (pread(nth, text, sizeof text - 1, 0) < 0) return -errno;
  return atoi(text);
}

static void *other(void *argument) {
  printf("another thread: %d", alloc());
  int own = open_nth(syscall(SYS_gettid));
  printf(", its own file says %d, with 1 %d", get(own), set(own, "1") == 1 ? alloc() : 0);
  printf(", and after it %d\n", alloc());
  return argument;
}

int main(void) {
  fd = open("/dev/iommu", O_RDWR);
  int nth = open_nth(getpid());
  printf("at first: %d\n", get(nth));
  static const char *const texts[] = {"", "x", "-1", "1 2", "4294967296", "0x10", "010", "7\n", "+3", "0"};
  printf("written:");
  for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
    printf(" %d", set(nth, texts[i]));
    printf("=%d", get(nth));
  }
  printf("\nfailing one point after the other:");
  int last = 1;
  for (int n = 1; n < 50 && last != 0; n++) {
    char text[8];
    snprintf(text, sizeof text, "%d", n);
    set(nth, text);
    last = alloc();
    printf(" %d", last);
    if (last != 0 && get(nth) != 0) printf(" and %d left", get(nth));
  }
  printf("; left after all: %s\n", get(nth) > 0 ? "some" : "none");
  set(nth, "1");
  pthread_t thread;
  pthread_create(&thread, NULL, other, NULL);
  pthread_join(thread, NULL);
  printf("this thread: %d\n", alloc());

  set(nth, "1");
  fflush(stdout);
  if (fork() == 0) {
    printf("a child: %d\n", alloc());
    fflush(stdout);
    _exit(0);
  }
  wait(NULL);
  printf("its parent: %d\n", alloc());
  char text[4];
  printf("read %ld", result(read(nth, text, 1)));
  printf(" %ld", result(read(nth, text, 4)));
  printf(" %ld, seek %ld, ioctl %d\n", result(read(nth, text, 4)), result(lseek(nth, 0, SEEK_SET)), ioctl(nth, IOAS_ALLOC, 0) < 0 ? -errno : 0);

  DIR *debugfs = opendir("/sys/kernel/debug");
  int kinds = 0;
  for (struct dirent *entry; (entry = readdir(debugfs)) != NULL;) kinds += strncmp(entry->d_name, "fail", 4) == 0;
  int setting = openat(dirfd(debugfs), "failslab/ignore-gfp-wait", O_RDWR);
  printf("debugfs: %d kinds, write %ld", kinds, result(write(setting, "N", 1)));
  close(setting);
  setting = openat(dirfd(debugfs), "failslab/ignore-gfp-wait", O_RDONLY);
  char value = 0;
  long bytes = result(read(setting, &value, 1));
  printf(", reads back %ld %c\n", bytes, value);
  return 0;
}
