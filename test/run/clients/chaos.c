// SPDX-License-Identifier: Apache-2.0
// Processes that open, duplicate, pass on, call and fork without end, and are killed at any moment.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *caller(void *fd) {
  struct { uint32_t size, a; uint64_t b; } s = {16, 1, 0};
  for (;;) ioctl((int)(long)fd, 0x3bf0, &s);
  return 0;
}

static void work(unsigned seed) {
  for (;;) {
    int fd = open("/dev/iommu", O_RDWR), twin = dup(fd);
    struct { uint32_t size, pages; uint64_t address; } s = {16, 1, 0};
    s.address = (uintptr_t)mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ioctl(fd, 0x3bf1, &s);
    ioctl(twin, 0x3bf3, 0);
    pthread_t thread;
    if (rand_r(&seed) % 4 == 0) pthread_create(&thread, 0, caller, (void *)(long)fd);
    if (rand_r(&seed) % 4 == 0 && !fork()) { ioctl(fd, 0x3bf1, &s); _exit(0); }
    if (rand_r(&seed) % 2) munmap((void *)s.address, 4096);
    close(fd);
    if (rand_r(&seed) % 2) close(twin);
    if (rand_r(&seed) % 8 == 0) execlp("true", "true", (char *)0);
  }
}

int main(int argc, char **argv) {
  unsigned seed = atoi(argv[1]);
  int rounds = atoi(argv[2]);
  signal(SIGCHLD, SIG_IGN);
  for (int round = 0; round < rounds; round++) {
    pid_t child = fork();
    if (!child) { setpgid(0, 0); work(seed + round); }
    struct timespec pause = {0, (rand_r(&seed) % 6000) * 1000};
    nanosleep(&pause, 0);
    kill(child, SIGKILL);
    kill(-child, SIGKILL);
  }
  return 0;
}
