// SPDX-License-Identifier: Apache-2.0
// Clients of the real engine: each argument is a scenario; what they print is compared by engine.test.ts.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

// The structures as a program would have them from <linux/iommufd.h>, which older distributions lack.
struct destroy { uint32_t size, id; };
struct ioas_alloc { uint32_t size, flags, out_ioas_id; };
struct ioas_map { uint32_t size, flags, ioas_id, reserved; uint64_t user_va, length, iova; };
struct ioas_unmap { uint32_t size, ioas_id; uint64_t iova, length; };
struct test_cmd { uint32_t size, op, id, reserved; uint64_t u[6]; uint32_t last; };

enum { DESTROY = 0x3b80, IOAS_ALLOC, ALLOW, COPY, RANGES, IOAS_MAP, IOAS_UNMAP, TEST_CMD = 0x3ba0 };
enum { CREATE_ACCESS = 5, DESTROY_PAGES, ACCESS_PAGES, ACCESS_RW };
enum { FIXED = 1, WRITEABLE = 2, READABLE = 4, NEEDS_PIN = 1, SLOW = 4 };

static int fd;
static const uint64_t iova = 1 << 24;

static int call(unsigned long number, void *arg) { return ioctl(fd, number, arg) < 0 ? -errno : 0; }

static uint32_t ioas_alloc(void) {
  struct ioas_alloc cmd = {.size = sizeof cmd};
  return call(IOAS_ALLOC, &cmd) ? 0 : cmd.out_ioas_id;
}

static int map(uint32_t ioas, void *address, uint64_t length, uint64_t at) {
  struct ioas_map cmd = {sizeof cmd, FIXED | WRITEABLE | READABLE, ioas, 0, (uintptr_t)address, length, at};
  return call(IOAS_MAP, &cmd);
}

static int unmap(uint32_t ioas, uint64_t at, uint64_t length) {
  struct ioas_unmap cmd = {sizeof cmd, ioas, at, length};
  int error = call(IOAS_UNMAP, &cmd);
  return error ? error : (int)(cmd.length >> 12);
}

static int create_access(uint32_t ioas) {
  struct test_cmd cmd = {.size = sizeof cmd, .op = CREATE_ACCESS, .id = ioas, .u = {(uint64_t)NEEDS_PIN << 32}};
  return call(TEST_CMD, &cmd) ? -1 : (int)(uint32_t)cmd.u[0];
}

static int pin(int access, uint64_t at, uint64_t length) {
  struct test_cmd cmd = {.size = sizeof cmd, .op = ACCESS_PAGES, .id = access, .u = {0, at, length, 0}};
  return call(TEST_CMD, &cmd);
}

static int rw(int access, uint64_t at, uint64_t length, void *data, uint32_t flags) {
  struct test_cmd cmd = {.size = sizeof cmd, .op = ACCESS_RW, .id = access, .u = {at, length, (uintptr_t)data, flags}};
  return call(TEST_CMD, &cmd);
}

static volatile int ticks;
static void tick(int signal) { (void)signal; ticks++; }

// The same 20,000 calls, with and without a timer that interrupts: every result and output goes into a hash.
static void storm(int interrupted) {
  if (interrupted) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    struct itimerval every = {{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &every, 0);
  }
  char *memory = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint64_t hash = 14695981039346656037u, random = 88172645463325252u;
  uint32_t ioas = ioas_alloc();
  for (int i = 0; i < 20000; i++) {
    random ^= random << 13; random ^= random >> 7; random ^= random << 17;
    uint64_t at = (random >> 8) % 64 * 4096, length = (random >> 20) % 4 * 4096;
    int64_t result;
    switch (random % 8) {
      case 0: result = ioas_alloc(); break;
      case 1: { struct destroy cmd = {sizeof cmd, 2 + random % 5}; result = call(DESTROY, &cmd); break; }
      case 2: case 3: result = unmap(ioas, at, length); break;
      default: result = map(ioas, memory + at, length, at);
    }
    hash = (hash ^ (uint64_t)result) * 1099511628211u;
  }
  struct itimerval never = {0};
  setitimer(ITIMER_REAL, &never, 0);
  printf("%016lx\n", hash);
  fprintf(stderr, "%d signals\n", ticks);
}

// What a forked child mapped is there after its end: it can be unmapped, and read only where it was pinned before.
static void orphan(void) {
  uint32_t ioas = ioas_alloc();
  int access = create_access(ioas);
  char *memory = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), seen[8192];
  if (fork() == 0) {
    memset(memory, 0x5a, 16384);
    map(ioas, memory, 16384, iova);
    pin(access, iova, 8192);
    _exit(0);
  }
  wait(0);
  printf("pinned: %d", rw(access, iova, 8192, seen, 0));
  printf(" %x %x; ", seen[0], seen[8191]);
  printf("not pinned: %d; ", rw(access, iova + 8192, 8192, seen, 0));
  printf("unmap: %d pages\n", unmap(ioas, iova, 16384));
}

// A pin holds the page and not the address.
static void identity(void) {
  uint32_t ioas = ioas_alloc();
  int access = create_access(ioas);
  char *memory = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), seen[8192];
  memset(memory, 1, 8192);
  map(ioas, memory, 8192, iova);
  pin(access, iova, 8192);
  mmap(memory, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  memset(memory, 2, 8192);
  rw(access, iova, 8192, seen, SLOW);
  printf("through the pin: %d, at the address: %d\n", seen[0], memory[0]);
}

// Two processes work on one descriptor; each maps its own memory.
static void shared(void) {
  uint32_t ioas = ioas_alloc();
  char *memory = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), seen[2];
  int access = create_access(ioas), ready[2], go[2];
  pipe(ready), pipe(go);
  memory[0] = 'p';
  if (fork() == 0) {
    memory[0] = 'c';
    map(ioas, memory, 4096, iova);
    write(ready[1], "", 1);
    read(go[0], seen, 1);
    _exit(0);
  }
  read(ready[0], seen, 1);
  map(ioas, memory, 4096, iova + 4096);
  rw(access, iova, 1, seen, 0);
  rw(access, iova + 4096, 1, seen + 1, 0);
  printf("%c%c\n", seen[0], seen[1]);
  write(go[1], "", 1);
  wait(0);
}

int main(int argc, char **argv) {
  fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
  if (fd < 0) return perror("/dev/iommu"), 1;
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "quiet storm")) storm(0);
  else if (!strcmp(what, "storm")) storm(1);
  else if (!strcmp(what, "orphan")) orphan();
  else if (!strcmp(what, "identity")) identity();
  else if (!strcmp(what, "shared")) shared();
  else return 2;
  return 0;
}
