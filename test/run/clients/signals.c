// SPDX-License-Identifier: Apache-2.0
// N calls, with a timer signal every 200 us if asked; prints how many results were not what they must be.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/time.h>

static volatile unsigned ticks;
static void tick(int signal) { ticks += (unsigned)signal > 0; }

int main(int argc, char **argv) {
  int calls = atoi(argv[1]), period = argc > 2 ? atoi(argv[2]) : 0, wrong = 0;
  struct { uint32_t size, a; uint64_t b; } s;
  int fd = open("/dev/iommu", O_RDWR);
  if (fd < 0) return 90;
  if (period) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    struct itimerval timer = {{0, period}, {0, period}};
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &timer, 0);
  }
  for (int i = 0; i < calls; i++) {
    s.size = 16;
    s.a = i;
    s.b = 0;
    if (ioctl(fd, 0x3bf0, &s) != 0 || s.size != 16 || s.a != (uint32_t)i || s.b != i + 1ull) wrong++;
  }
  printf("wrong %d\n", wrong);
  fprintf(stderr, "%u\n", ticks);
  return period && ticks < 10;
}
