// SPDX-License-Identifier: Apache-2.0
// A device that faults (iommu_test): the program reads the page request, maps, answers, and waits for nothing but the interrupt.
// Built with the headers of abi_headers.ts.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

enum { ADDRESS = 0x1008, LENGTH = 0x1010, GROUP = 0x101c, MODE = 0x1024, COMMAND = 0x1030, STATE = 0x1080 };
enum { FAULTING_READ = 8, RAISE_IRQ = 8, EDU_STATUS = 0x24, EDU_ACKNOWLEDGE = 0x64 };
#define IOVA 0x100000ull

static int iommu, device;

static void must(int fd, unsigned long request, void *structure) {
  if (ioctl(fd, request, structure) < 0) {
    printf("request %lx: %s\n", request, strerror(errno));
    exit(1);
  }
}
static void set(unsigned offset, uint64_t value, int bytes) {
  if (pwrite(device, &value, bytes, offset) != bytes) exit(1);
}
static uint32_t get(unsigned offset) {
  uint32_t value = 0;
  if (pread(device, &value, 4, offset) != 4) exit(1);
  return value;
}
static int readable(int fd, int milliseconds) {
  struct pollfd p = {fd, POLLIN, 0};
  return poll(&p, 1, milliseconds);
}

int main(void) {
  device = open("/dev/vfio/devices/vfio0", O_RDWR);
  iommu = open("/dev/iommu", O_RDWR);
  struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommu};
  must(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
  struct iommu_ioas_alloc ioas = {.size = sizeof ioas};
  must(iommu, IOMMU_IOAS_ALLOC, &ioas);
  struct iommu_fault_alloc queue = {.size = sizeof queue};
  must(iommu, IOMMU_FAULT_QUEUE_ALLOC, &queue);
  struct iommu_hwpt_alloc hwpt = {.size = sizeof hwpt, .flags = IOMMU_HWPT_FAULT_ID_VALID, .dev_id = bind.out_devid,
    .pt_id = ioas.out_ioas_id, .fault_id = queue.out_fault_id};
  must(iommu, IOMMU_HWPT_ALLOC, &hwpt);
  struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach, .pt_id = hwpt.out_hwpt_id};
  must(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
  struct { uint32_t argsz, flags, index, start, count; int32_t fd; } irqs = {24, 4 | 32, 1, 0, 1, eventfd(0, 0)};
  must(device, VFIO_DEVICE_SET_IRQS, &irqs);
  uint16_t command = 6;
  if (pwrite(device, &command, 2, (7ull << 40) + 4) != 2) exit(1);

  char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  strcpy(page, "late, but here");
  set(ADDRESS, IOVA, 8);
  set(LENGTH, 16, 4);
  set(GROUP, 5, 4);
  set(MODE, RAISE_IRQ, 4);
  set(COMMAND, FAULTING_READ, 4);
  printf("a page request: %d, an interrupt: %d\n", readable(queue.out_fault_fd, 1000), readable(irqs.fd, 0));
  struct iommu_hwpt_pgfault fault;
  ssize_t bytes = read(queue.out_fault_fd, &fault, sizeof fault);
  printf("read %zd: address %llx, group %u, permission %u\n", bytes,
         (unsigned long long)fault.addr, fault.grpid, fault.perm);
  struct iommu_ioas_map map = {.size = sizeof map, .flags = 7, .ioas_id = ioas.out_ioas_id, .user_va = (uintptr_t)page,
    .length = 4096, .iova = IOVA};
  must(iommu, IOMMU_IOAS_MAP, &map);
  struct iommu_hwpt_page_response answer = {.cookie = fault.cookie, .code = 0};
  printf("answered: %zd\n", write(queue.out_fault_fd, &answer, sizeof answer));
  printf("the interrupt of the retry: %d\n", readable(irqs.fd, 2000));
  printf("state %u\n", get(STATE));
  return 0;
}
