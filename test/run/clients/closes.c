// SPDX-License-Identifier: Apache-2.0
// The last close of an open file, in every way it can happen. Between the steps a marker file is opened, which the supervisor's log
// orders with the releases: each step opens the device, closes it somehow, and then opens it again.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int device(void) { return open("/dev/iommu", O_RDWR | O_CLOEXEC); }
/* Fails with ENODEV and leaves a line in the log. */
static void mark(void) { close(open("/dev/vfio/vfio", O_RDWR)); }

static void sendFd(int socket, int fd) {
  char byte = 0, control[CMSG_SPACE(sizeof fd)];
  struct iovec iov = {&byte, 1};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket, &message, 0) < 0) exit(91);
}

static int receiveFd(int socket) {
  char byte, control[CMSG_SPACE(sizeof(int))];
  struct iovec iov = {&byte, 1};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, 0) < 0) exit(92);
  int fd;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

static void *closer(void *fd) { close((int)(long)fd); return 0; }

int main(int argc, char **argv) {
  const char *step = argv[1];
  int fd = device(), pair[2];
  if (fd < 0) return 90;
  if (!strcmp(step, "close")) {
    close(fd);
  } else if (!strcmp(step, "close_range")) {
    syscall(SYS_close_range, fd, fd, 0);
  } else if (!strcmp(step, "dup")) {
    int twin = dup(fd);
    close(fd);
    mark();
    close(twin);
  } else if (!strcmp(step, "dup2 over")) {
    dup2(1, fd);
  } else if (!strcmp(step, "fork")) {
    pid_t child = fork();
    if (!child) { pause(); _exit(0); }
    close(fd);
    mark();
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
  } else if (!strcmp(step, "exec")) {
    pid_t child = fork();
    if (!child) {
      int own = device();
      (void)own;
      execlp("sleep", "sleep", "0", (char *)0);
      _exit(99);
    }
    waitpid(child, 0, 0);
    mark();
    close(fd);
  } else if (!strcmp(step, "in flight")) {
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    sendFd(pair[0], fd);
    close(fd);
    mark();
    fd = receiveFd(pair[1]);
    if (ioctl(fd, 0x3bf4, fd) != 1) return 93;
    close(fd);
  } else if (!strcmp(step, "in flight dropped")) {
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    sendFd(pair[0], fd);
    close(fd);
    mark();
    close(pair[0]);
    close(pair[1]);
  } else if (!strcmp(step, "reopened")) {
    /* A second description of the same inode, behind the supervisor's back. */
    char link[64];
    snprintf(link, sizeof link, "/proc/self/task/%d/../../fd/%d", getpid(), fd);
    int other = open(link, O_RDWR);
    if (other < 0) return 94;
    close(other);
    mark();
    close(fd);
  } else if (!strcmp(step, "thread")) {
    pthread_t thread;
    pthread_create(&thread, 0, closer, (void *)(long)fd);
    pthread_join(thread, 0);
  } else if (!strcmp(step, "mapped")) {
    close(fd);
  } else if (!strcmp(step, "killed")) {
    pid_t child = fork();
    if (!child) { close(fd); fd = device(); raise(SIGKILL); }
    waitpid(child, 0, 0);
    mark();
    close(fd);
  }
  mark();
  return 0;
}
