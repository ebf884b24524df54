// SPDX-License-Identifier: Apache-2.0
// environment: prints what a program inherits. environment prepare COMMAND...: makes it unusual, then executes COMMAND.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static int prepare(char **command) {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGRTMIN + 3);
  sigprocmask(SIG_SETMASK, &blocked, 0);
  signal(SIGHUP, SIG_IGN);
  signal(SIGINT, SIG_IGN);
  signal(SIGUSR2, SIG_IGN);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 600;
  setrlimit(RLIMIT_NOFILE, &limit);
  int ends[2];
  if (pipe2(ends, O_NONBLOCK)) return 90;
  dup2(ends[0], 0);
  close(ends[0]);
  dup2(open("/etc/passwd", O_RDONLY), 9);
  for (int fd = 3; fd < 9; fd++) close(fd);
  umask(027);
  if (nice(3) < 0 || chdir("/usr")) return 91;
  putenv("STRANGE=a\xff\n=b");
  putenv("EMPTY=");
  putenv("PWD=/usr");
  execvp(command[0], command);
  return 92;
}

int main(int argc, char **argv) {
  if (argc > 2 && !strcmp(argv[1], "prepare")) return prepare(argv + 2);
  char line[256], target[256], path[64];
  FILE *status = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, status))
    if (!strncmp(line, "Sig", 3) || !strncmp(line, "Umask", 5) || !strncmp(line, "NoNewPrivs", 10)) {
      if (strncmp(line, "SigQ", 4)) printf("%s", line);
    }
  fclose(status);
  struct rlimit limit;
  for (int i = 0; i < RLIMIT_NLIMITS; i++) {
    getrlimit(i, &limit);
    printf("limit %d: %lu %lu\n", i, limit.rlim_cur, limit.rlim_max);
  }
  for (int fd = 0; fd < 1024; fd++) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) continue;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int n = readlink(path, target, sizeof target - 1);
    target[n < 0 ? 0 : n] = 0;
    if (fd != 1 && fd != 2 && fd != 0) printf("fd %d: %s ", fd, target);
    else printf("fd %d: ", fd);
    printf("%o %d\n", flags, fcntl(fd, F_GETFD));
  }
  printf("cwd %s\n", getcwd(target, sizeof target));
  printf("nice %d\n", nice(0));
  printf("session %d group %d\n", getsid(0) == getsid(getppid()), getpgrp() == getpgid(getppid()));
  for (char **entry = environ; *entry; entry++) printf("env %s\n", *entry);
  for (int i = 1; i < argc; i++) printf("arg %s\n", argv[i]);
  return 0;
}
