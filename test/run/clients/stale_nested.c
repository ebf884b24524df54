// SPDX-License-Identifier: Apache-2.0
// A guest's table on a second stage, with a device (iommu_test) that keeps translations of its own. With an argument the device says that it
// has forgotten, and has not; without, another thread changes the table without a break while the device works and the guest invalidates.
// Built with the headers of abi_headers.ts.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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
enum { READ = 1, CACHED_WRITE = 4, LIE = 4, DONE = 3 };
enum { PAGE = 4096, PAGES = 16, PT = 3, FIRST = 8, SECOND = 9, ROUNDS = 100 };
#define GUEST 0x100000ull
#define IOVA 0x200000ull

static int iommu, device;
static uint64_t (*memory)[PAGE / 8];
static volatile int over;

static void must(int fd, unsigned long request, void *structure) {
  if (ioctl(fd, request, structure) < 0) {
    printf("request %lx: %s\n", request, strerror(errno));
    exit(1);
  }
}
static void set(unsigned offset, uint64_t value, int bytes) {
  if (pwrite(device, &value, bytes, offset) != bytes) exit(1);
}
static unsigned run(unsigned command) {
  uint32_t state = 0;
  set(ADDRESS, IOVA, 8);
  set(LENGTH, 16, 4);
  set(COMMAND, command, 4);
  for (int i = 0; i < 1000 && state < DONE; i++)
    if (pread(device, &state, 4, STATE) != 4) exit(1);
  return state;
}
static void set_entry(int table, int index, int page) {
  ((volatile uint64_t *)memory[table])[index] = (GUEST + (uint64_t)page * PAGE) | 0x67;
}
static uint32_t table_on(uint32_t dev, uint32_t on, uint32_t flags, void *data, uint32_t length) {
  struct iommu_hwpt_alloc alloc = {.size = sizeof alloc, .flags = flags, .dev_id = dev, .pt_id = on, .data_type = length ? 1 : 0,
    .data_len = length, .data_uptr = (uintptr_t)data};
  must(iommu, IOMMU_HWPT_ALLOC, &alloc);
  return alloc.out_hwpt_id;
}
static void invalidate(uint32_t hwpt) {
  struct iommu_hwpt_vtd_s1_invalidate range = {.addr = IOVA, .npages = 1};
  struct iommu_hwpt_invalidate call = {.size = sizeof call, .hwpt_id = hwpt, .data_uptr = (uintptr_t)&range,
    .entry_len = sizeof range, .entry_num = 1};
  must(iommu, IOMMU_HWPT_INVALIDATE, &call);
}
static void *change(void *unused) {
  for (unsigned i = 0; !over; i++) set_entry(PT, 0, FIRST + i % 8);
  return NULL;
}

int main(int argc, char **argv) {
  device = open("/dev/vfio/devices/vfio0", O_RDWR);
  iommu = open("/dev/iommu", O_RDWR);
  struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommu};
  must(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
  struct iommu_ioas_alloc ioas = {.size = sizeof ioas};
  must(iommu, IOMMU_IOAS_ALLOC, &ioas);
  memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct iommu_ioas_map map = {.size = sizeof map, .flags = 7, .ioas_id = ioas.out_ioas_id, .user_va = (uintptr_t)memory,
    .length = PAGES * PAGE, .iova = GUEST};
  must(iommu, IOMMU_IOAS_MAP, &map);
  set_entry(0, 0, 1);
  set_entry(1, 0, 2);
  set_entry(2, 1, PT);
  set_entry(PT, 0, FIRST);
  uint32_t parent = table_on(bind.out_devid, ioas.out_ioas_id, IOMMU_HWPT_ALLOC_NEST_PARENT, NULL, 0);
  struct iommu_hwpt_vtd_s1 table = {.pgtbl_addr = GUEST, .addr_width = 48};
  uint32_t nested = table_on(bind.out_devid, parent, 0, &table, sizeof table);
  struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach, .pt_id = nested};
  must(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
  uint16_t command = 6;
  if (pwrite(device, &command, 2, (7ull << 40) + 4) != 2) exit(1);

  if (argc > 1) {
    printf("mapped: state %u\n", run(CACHED_WRITE));
    set_entry(PT, 0, SECOND);
    printf("changed: state %u\n", run(CACHED_WRITE));
    set(ANSWERS, LIE, 4);
    invalidate(nested);
    printf("invalidated: state %u\n", run(CACHED_WRITE));
    return 0;
  }
  pthread_t guest;
  if (pthread_create(&guest, NULL, change, NULL) != 0) return 1;
  int done = 0;
  for (int i = 0; i < ROUNDS; i++) {
    done += run(CACHED_WRITE) == DONE;
    done += run(READ) == DONE;
    if (i % 2 == 0) invalidate(nested);
  }
  over = 1;
  pthread_join(guest, NULL);
  printf("done: %d of %d\n", done, 2 * ROUNDS);
  return 0;
}
