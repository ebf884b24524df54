// SPDX-License-Identifier: Apache-2.0
// Waits for a signal; says which. Prints "ready" when it can be sent.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void say(int signal) {
  dprintf(1, "got %d\n", signal);
  _exit(10 + signal);
}

int main(int argc, char **argv) {
  int fd = open("/dev/iommu", O_RDWR);
  if (argc > 1) ioctl(fd, strtoul(argv[1], 0, 0), 0L);
  signal(SIGTERM, say);
  signal(SIGINT, say);
  signal(SIGHUP, say);
  dprintf(1, "ready\n");
  for (;;) pause();
}
