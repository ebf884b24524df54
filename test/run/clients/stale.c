// SPDX-License-Identifier: Apache-2.0
// A device (iommu_test) that says it has forgotten a translation, and has not: it writes to memory that was unmapped.
// Built with the headers of abi_headers.ts.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

enum { ADDRESS = 0x1008, LENGTH = 0x1010, ANSWERS = 0x1024, COMMAND = 0x1030, STATE = 0x1080 };
enum { CACHED_WRITE = 4, LIE = 4 };
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
static unsigned cached_write(void) {
  uint32_t state = 0;
  set(ADDRESS, IOVA, 8);
  set(LENGTH, 16, 4);
  set(COMMAND, CACHED_WRITE, 4);
  for (int i = 0; i < 1000 && state < 3; i++)
    if (pread(device, &state, 4, STATE) != 4) exit(1);
  return state;
}

int main(void) {
  device = open("/dev/vfio/devices/vfio0", O_RDWR);
  iommu = open("/dev/iommu", O_RDWR);
  struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommu};
  must(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
  struct iommu_ioas_alloc ioas = {.size = sizeof ioas};
  must(iommu, IOMMU_IOAS_ALLOC, &ioas);
  struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach, .pt_id = ioas.out_ioas_id};
  must(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
  uint16_t command = 6;
  if (pwrite(device, &command, 2, (7ull << 40) + 4) != 2) exit(1);
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct iommu_ioas_map map = {.size = sizeof map, .flags = 7, .ioas_id = ioas.out_ioas_id, .user_va = (uintptr_t)page,
    .length = 4096, .iova = IOVA};
  must(iommu, IOMMU_IOAS_MAP, &map);
  printf("mapped: state %u\n", cached_write());
  set(ANSWERS, LIE, 4);
  struct iommu_ioas_unmap unmap = {.size = sizeof unmap, .ioas_id = ioas.out_ioas_id, .iova = IOVA, .length = 4096};
  must(iommu, IOMMU_IOAS_UNMAP, &unmap);
  printf("unmapped: state %u\n", cached_write());
  return 0;
}
