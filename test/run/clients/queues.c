// SPDX-License-Identifier: Apache-2.0
// Fault and event queues and shared pages, as a client has them; what it prints is compared with queues.expected.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

struct destroy { uint32_t size, id; };
struct ioas_alloc { uint32_t size, flags, out_ioas_id; };
struct ioas_map { uint32_t size, flags, ioas_id, reserved; uint64_t user_va, length, iova; };
struct hwpt_alloc { uint32_t size, flags, dev_id, pt_id, out_id, reserved, type, data_len; uint64_t data; uint32_t fault_id, reserved2; };
struct fault_alloc { uint32_t size, flags, out_id, out_fd; };
struct viommu_alloc { uint32_t size, flags, type, dev_id, hwpt_id, out_id, data_len, reserved; uint64_t data; };
struct vdevice_alloc { uint32_t size, viommu_id, dev_id, out_id; uint64_t virt_id; };
struct veventq_alloc { uint32_t size, flags, viommu_id, type, depth, out_id, out_fd, reserved; };
struct test_cmd { uint32_t size, op, id, reserved; uint64_t u[6]; uint32_t last; };
struct fault { uint32_t flags, dev_id, pasid, grpid, perm, reserved; uint64_t addr; uint32_t length, cookie; };
struct response { uint32_t cookie, code; };
struct shared { uint32_t in, out; uint64_t offset, length; };

enum { DESTROY = 0x3b80, IOAS_ALLOC, IOAS_MAP = 0x3b85, HWPT_ALLOC = 0x3b89, FAULT_ALLOC = 0x3b8e, VIOMMU_ALLOC = 0x3b90,
       VDEVICE_ALLOC, VEVENTQ_ALLOC = 0x3b93, TEST_CMD = 0x3ba0 };
enum { MOCK_DOMAIN = 2, REPLACE = 10, TRIGGER_IOPF = 15, TRIGGER_VEVENT = 17 };
enum { NEST_PARENT = 1, FAULT_ID_VALID = 4, DATA_SELFTEST = 0xdead, IOTLB = 0xbadbeef };
#define SELFTEST 0xdeadbeef
#define SELFTEST_EVENTS 0xbeefbeef

// Addresses that the compiler does not see through.
static void *volatile nowhere = NULL;

static int fd;
static uint32_t ioas, stdev, idev, parent;

static int call(unsigned long number, void *arg) { return ioctl(fd, number, arg) < 0 ? -errno : 0; }
static long result(long value) { return value < 0 ? -errno : value; }
static int destroy(uint32_t id) { struct destroy cmd = {sizeof cmd, id}; return call(DESTROY, &cmd); }

static void set_up(void) {
  fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
  struct ioas_alloc alloc = {.size = sizeof alloc};
  call(IOAS_ALLOC, &alloc);
  ioas = alloc.out_ioas_id;
  struct test_cmd mock = {.size = sizeof mock, .op = MOCK_DOMAIN, .id = ioas};
  if (call(TEST_CMD, &mock)) exit(1);
  uint32_t out[3];
  memcpy(out, mock.u, sizeof out);
  stdev = out[0], idev = out[2];
  struct hwpt_alloc hwpt = {.size = sizeof hwpt, .flags = NEST_PARENT, .dev_id = idev, .pt_id = ioas};
  if (call(HWPT_ALLOC, &hwpt)) exit(1);
  parent = hwpt.out_id;
}

static uint32_t nested(uint32_t on, uint32_t fault) {
  uint32_t data = IOTLB;
  struct hwpt_alloc hwpt = {.size = sizeof hwpt, .flags = fault ? FAULT_ID_VALID : 0, .dev_id = idev, .pt_id = on,
    .type = DATA_SELFTEST, .data_len = sizeof data, .data = (uintptr_t)&data, .fault_id = fault};
  int error = call(HWPT_ALLOC, &hwpt);
  if (error) printf("nested: %d\n", error);
  return hwpt.out_id;
}

static int replace(uint32_t pt) {
  struct test_cmd cmd = {.size = sizeof cmd, .op = REPLACE, .id = stdev, .u = {pt}};
  return call(TEST_CMD, &cmd);
}

static int trigger(uint64_t address) {
  struct test_cmd cmd = {.size = sizeof cmd, .op = TRIGGER_IOPF, .id = 0, .u = {idev | 0xffffffffull << 32, 0x7 | 1ull << 32, address}};
  return call(TEST_CMD, &cmd);
}

static int polled(int queue) {
  struct pollfd p = {queue, POLLIN | POLLOUT, 0};
  poll(&p, 1, 0);
  return p.revents;
}

static void facts(const char *name, int queue) {
  char path[64], target[64] = "";
  struct stat st;
  fstat(queue, &st);
  snprintf(path, sizeof path, "/proc/self/fd/%d", queue);
  if (readlink(path, target, sizeof target - 1) < 0) perror("readlink");
  printf("%s: %s, mode %o, flags %o, cloexec %d\n", name, target, st.st_mode, fcntl(queue, F_GETFL) & (O_ACCMODE | O_NONBLOCK),
         fcntl(queue, F_GETFD));
}

static void faults(void) {
  set_up();
  struct fault_alloc alloc = {.size = sizeof alloc};
  printf("alloc: %d\n", call(FAULT_ALLOC, &alloc));
  int queue = alloc.out_fd;
  struct fault read_[2] = {0};
  facts("queue", queue);
  printf("empty: poll %x", polled(queue));
  printf(", read %ld\n", result(read(queue, read_, sizeof read_)));
  printf("nested: %d\n", replace(nested(parent, alloc.out_id)));

  int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET}, got;
  printf("epoll: %d\n", epoll_ctl(epoll, EPOLL_CTL_ADD, queue, &event));
  printf("trigger: %d\n", trigger(0x1000));
  printf("poll %x", polled(queue));
  printf(", epoll %d", epoll_wait(epoll, &got, 1, 0));
  printf(", again %d", epoll_wait(epoll, &got, 1, 0));
  trigger(0x2000);
  printf(", and after a second fault %d\n", epoll_wait(epoll, &got, 1, 0));

  printf("bad reads: %ld", result(read(queue, nowhere, sizeof *read_)));
  printf(" %ld", result(read(queue, read_, 0)));
  printf(" %ld", result(read(queue, read_, 7)));
  printf(" %ld", result(pread(queue, read_, sizeof *read_, 0)));
  printf(" %ld", result(lseek(queue, 0, SEEK_SET)));
  struct iovec halves[2] = {{read_, sizeof *read_}, {NULL, sizeof *read_}};
  printf(", vector %ld", result(readv(queue, halves, 2)));
  printf(", then %ld", result(read(queue, read_ + 1, sizeof *read_)));
  printf(", poll %x\n", polled(queue));
  printf("faults at %lx and %lx, of device %d, with cookies %u and %u\n", (long)read_[0].addr, (long)read_[1].addr,
         read_[0].dev_id == idev, read_[0].cookie, read_[1].cookie);

  struct response ok = {read_[0].cookie, 0}, bad = {read_[1].cookie, 7}, unknown = {77, 0};
  printf("writes: %ld", result(write(queue, &ok, sizeof ok)));
  printf(" %ld", result(write(queue, &ok, sizeof ok)));
  printf(" %ld", result(write(queue, &bad, sizeof bad)));
  printf(" %ld", result(write(queue, &unknown, sizeof unknown)));
  printf(" %ld", result(write(queue, nowhere, sizeof ok)));
  printf(" %ld\n", result(write(queue, &ok, 7)));

  printf("other calls: mmap %ld", result((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED, queue, 0)));
  printf(", ioctl %d, fsync %ld\n", ioctl(queue, 0x3b80, 0) < 0 ? -errno : 0, result(fsync(queue)));

  // A fault that waits when the device leaves the table is answered by the kernel.
  trigger(0x3000);
  printf("poll %x", polled(queue));
  printf(", detach %d", replace(ioas));
  printf(", poll %x\n", polled(queue));

  int copy = dup(queue);
  close(queue);
  printf("destroy: with a duplicate %d", destroy(alloc.out_id));
  close(copy);
  // The nested table still refers to it.
  printf(", without %d\n", destroy(alloc.out_id));
}

static void *waits(void *queue) {
  struct pollfd p = {*(int *)queue, POLLIN, 0};
  int got = poll(&p, 1, 10000);
  return (void *)(intptr_t)(got == 1 ? p.revents : -1);
}

// Threads and processes at one queue.
static void threads(void) {
  set_up();
  struct fault_alloc alloc = {.size = sizeof alloc};
  call(FAULT_ALLOC, &alloc);
  int queue = alloc.out_fd;
  replace(nested(parent, alloc.out_id));
  pthread_t waiting;
  pthread_create(&waiting, NULL, waits, &queue);
  usleep(20000);
  trigger(0x1000);
  void *woken;
  pthread_join(waiting, &woken);
  printf("a waiting thread is woken with %lx\n", (long)woken);

  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    struct fault fault;
    if (read(queue, &fault, sizeof fault) != sizeof fault) _exit(1);
    raise(SIGKILL); // dies with the fault outstanding
  }
  int status;
  waitpid(child, &status, 0);
  struct fault fault;
  printf("a child that read it was killed by %d; read %ld\n", WTERMSIG(status), result(read(queue, &fault, sizeof fault)));
  struct response answer = {1, 1};
  printf("its parent answers: %ld\n", result(write(queue, &answer, sizeof answer)));
}

static uint32_t race_table, race_queue_id;
static void *closes(void *queue) {
  usleep(20000);
  close(*(int *)queue);
  return (void *)(intptr_t)destroy(race_queue_id);
}

// A queue that goes while a thread waits for it, and while responses are owed.
static void gone(void) {
  set_up();
  struct fault_alloc alloc = {.size = sizeof alloc};
  call(FAULT_ALLOC, &alloc);
  int queue = alloc.out_fd;
  race_queue_id = alloc.out_id;
  race_table = nested(parent, alloc.out_id);
  replace(race_table);
  pthread_t closer;
  pthread_create(&closer, NULL, closes, &queue);
  struct pollfd p = {queue, POLLIN, 0};
  int got = poll(&p, 1, 200);
  void *destroyed;
  pthread_join(closer, &destroyed);
  printf("poll of a queue that is closed meanwhile: %d; destroy then: %ld\n", got, (long)destroyed);

  set_up();
  struct fault_alloc again = {.size = sizeof again};
  call(FAULT_ALLOC, &again);
  queue = again.out_fd;
  uint32_t table = nested(parent, again.out_id);
  replace(table);
  trigger(0x1000);
  trigger(0x2000);
  struct fault fault;
  printf("read %ld; ", result(read(queue, &fault, sizeof fault)));
  printf("destroy a table with faults owed: %d; ", destroy(table));
  printf("detach: %d; ", replace(ioas));
  struct response late = {fault.cookie, 0};
  printf("a late answer: %ld; ", result(write(queue, &late, sizeof late)));
  printf("destroy the table: %d; ", destroy(table));
  printf("read %ld; ", result(read(queue, &fault, sizeof fault)));
  close(queue);
  printf("destroy the queue: %d\n", destroy(again.out_id));
}

struct work { int queue, reads, writes; };
static void *answers(void *argument) {
  struct work *work = argument;
  for (int idle = 0; idle < 200;) {
    struct fault fault[4];
    long got = result(read(work->queue, fault, sizeof fault));
    if (got <= 0) { idle++; usleep(100); continue; }
    idle = 0;
    for (int i = 0; i < got / (int)sizeof *fault; i++) {
      struct response response = {fault[i].cookie, i & 1};
      work->reads++;
      if (write(work->queue, &response, sizeof response) == sizeof response) work->writes++;
    }
  }
  return NULL;
}

// Two threads at one queue: each fault is read once and answered once.
static void both(void) {
  set_up();
  struct fault_alloc alloc = {.size = sizeof alloc};
  call(FAULT_ALLOC, &alloc);
  replace(nested(parent, alloc.out_id));
  struct work work[2] = {{alloc.out_fd}, {alloc.out_fd}};
  pthread_t threads_[2];
  for (int i = 0; i < 2; i++) pthread_create(&threads_[i], NULL, answers, &work[i]);
  for (int i = 0; i < 500; i++) trigger(i << 12);
  for (int i = 0; i < 2; i++) pthread_join(threads_[i], NULL);
  printf("500 faults: %d read, %d answered\n", work[0].reads + work[1].reads, work[0].writes + work[1].writes);
}

static void events(void) {
  set_up();
  struct viommu_alloc viommu = {.size = sizeof viommu, .type = SELFTEST, .dev_id = idev, .hwpt_id = parent};
  printf("viommu: %d\n", call(VIOMMU_ALLOC, &viommu));
  struct vdevice_alloc vdevice = {sizeof vdevice, viommu.out_id, idev, 0, 0x99};
  printf("vdevice: %d\n", call(VDEVICE_ALLOC, &vdevice));
  printf("attach: %d\n", replace(nested(viommu.out_id, 0)));
  struct veventq_alloc alloc = {.size = sizeof alloc, .viommu_id = viommu.out_id, .type = SELFTEST_EVENTS, .depth = 2};
  printf("alloc: %d\n", call(VEVENTQ_ALLOC, &alloc));
  int queue = alloc.out_fd;
  facts("queue", queue);
  printf("empty: poll %x\n", polled(queue));
  for (int i = 0; i < 3; i++) {
    struct test_cmd cmd = {.size = sizeof cmd, .op = TRIGGER_VEVENT, .u = {idev}};
    printf("trigger: %d", call(TEST_CMD, &cmd));
    printf(", poll %x\n", polled(queue));
  }
  uint32_t words[16];
  long bytes = result(read(queue, words, sizeof words));
  printf("read %ld:", bytes);
  for (int i = 0; i < bytes / 4; i++) printf(" %x", words[i]);
  printf("; write %ld", result(write(queue, words, 8)));
  printf("; poll %x\n", polled(queue));
}

static void maps(void) {
  set_up();
  struct shared data = {.in = 0xbeef};
  struct viommu_alloc viommu = {.size = sizeof viommu, .type = SELFTEST, .dev_id = idev, .hwpt_id = parent,
    .data_len = sizeof data, .data = (uintptr_t)&data};
  printf("viommu: %d", call(VIOMMU_ALLOC, &viommu));
  printf(", pages at %lx+%lx\n", (long)data.offset, (long)data.length);
  char *room = mmap(NULL, 0x10000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static const struct { long offset, length; int prot, flags; } bad[] = {
    {0, 0x2000, 3, MAP_SHARED}, {0x1000, 0x1000, 3, MAP_SHARED}, {0x1000, 0x2000, 3, MAP_PRIVATE}, {0x1000, 0x2000, 7, MAP_SHARED},
    {0x1000, 0x3000, 1, MAP_SHARED}, {0x1001, 0x2000, 1, MAP_SHARED}, {0x1000, 0, 1, MAP_SHARED},
  };
  printf("bad maps:");
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
    printf(" %ld", result((long)mmap(NULL, bad[i].length, bad[i].prot, bad[i].flags, fd, bad[i].offset)));
  int reader = open("/dev/iommu", O_RDONLY);
  printf("; for writing through O_RDONLY %ld\n", result((long)mmap(NULL, 0x2000, 3, MAP_SHARED, reader, 0x1000)));
  uint32_t *page = mmap(room, data.length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, data.offset);
  printf("map: %x %x\n", page[0], page[1]);
  struct ioas_map map = {sizeof map, 7, ioas, 0, (uintptr_t)page, 0x1000, 1 << 24};
  printf("its pages are not pinned: %d\n", call(IOAS_MAP, &map));
  printf("destroy while mapped: %d\n", destroy(viommu.out_id));
  int go[2];
  if (pipe(go)) exit(1);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    close(go[1]);
    char byte;
    if (read(go[0], &byte, 1) < 0) _exit(1);
    _exit(0);
  }
  munmap(page, data.length);
  printf("while a child maps it: %d\n", destroy(viommu.out_id));
  close(go[1]);
  waitpid(child, NULL, 0);
  printf("afterwards: %d\n", destroy(viommu.out_id));
  printf("map: %ld\n", result((long)mmap(NULL, data.length, 3, MAP_SHARED, fd, data.offset)));
}

// A map keeps the file open: its objects go with the last of both.
static void keeps(void) {
  set_up();
  struct shared data = {.in = 1};
  struct viommu_alloc viommu = {.size = sizeof viommu, .type = SELFTEST, .dev_id = idev, .hwpt_id = parent,
    .data_len = sizeof data, .data = (uintptr_t)&data};
  call(VIOMMU_ALLOC, &viommu);
  uint32_t *page = mmap(NULL, data.length, PROT_READ, MAP_SHARED, fd, data.offset);
  close(fd);
  printf("after the close: %x\n", page[0]);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "faults")) faults();
  else if (!strcmp(what, "threads")) threads();
  else if (!strcmp(what, "gone")) gone();
  else if (!strcmp(what, "both")) both();
  else if (!strcmp(what, "events")) events();
  else if (!strcmp(what, "maps")) maps();
  else if (!strcmp(what, "keeps")) keeps();
  else return 2;
}
