// SPDX-License-Identifier: Apache-2.0
// Two processes and one open file.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void calls(int fd) {
  struct { uint32_t size, a; uint64_t b; } s;
  int wrong = 0;
  for (int i = 0; i < 5000; i++) {
    s.size = 16;
    s.a = i;
    s.b = 0;
    if (ioctl(fd, 0x3bf0, &s) || s.b != i + 1ull) wrong++;
  }
  printf("wrong %d\n", wrong);
  fflush(stdout);
}

static void say(const char *who, int result) {
  printf("%s%s\n", who, result < 0 ? strerrorname_np(errno) : "ok");
  fflush(stdout);
}

static void status(const char *path) {
  char line[256];
  FILE *file = fopen(path, "r");
  while (fgets(line, sizeof line, file)) if (!strncmp(line, "VmPin", 5)) printf("%s", line);
  fflush(stdout);
  fclose(file);
}

int main(int argc, char **argv) {
  int fd = open("/dev/iommu", O_RDWR);
  if (fd < 0) return 90;
  if (!strcmp(argv[1], "reuse")) {
    dup2(1, fd);
    int saved = ioctl(fd, 0x3bf0, 0);
    say("", saved);
    return 0;
  }
  if (!strcmp(argv[1], "status")) {
    ioctl(fd, 0x3bf5, 10L);
    status("/proc/self/status");
  }
  pid_t parent = getpid(), child = fork();
  if (!child) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", parent);
    if (!strcmp(argv[1], "calls")) calls(fd);
    if (!strcmp(argv[1], "status")) status(path);
    if (!strcmp(argv[1], "close")) {
      close(fd);
      say("child ", ioctl(fd, 0x3bf4, 0L));
    }
    _exit(0);
  }
  if (!strcmp(argv[1], "calls")) calls(fd);
  waitpid(child, 0, 0);
  if (!strcmp(argv[1], "close")) say("parent ", ioctl(fd, 0x3bf4, 0L));
  return 0;
}
