// SPDX-License-Identifier: Apache-2.0
// What a hypervisor does for a guest that has an IOMMU of its own: the guest's table (first stage) leads from the guest's I/O addresses to
// its physical ones, ours (second stage) from there to our memory, and the device goes through both. The "guest" is this program: its
// memory is 64 KiB of ours, and it writes its own page table into it. The device is edu, behind Intel VT-d in scalable mode.
// An ordinary program: it knows nothing of iommulator, and runs on real Linux (6.7 or newer) with such hardware as well.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uapi.h"

#define PAGE 4096ull
// The guest's memory: where it begins for the guest, and which of its pages are what.
#define GUEST_MEMORY 0x100000ull
enum { PML4 = 0, PDPT = 1, PD = 2, PT = 3, FIRST = 8, SECOND = 9, PAGES = 16 };
// Where the guest's driver tells the device to read.
#define ADDRESS 0x200000ull
// Bits of an entry of a first-stage table: as the processor's own.
enum { PRESENT = 1, WRITABLE = 2, USER = 4 };

// Registers of edu, and its buffer.
enum { IRQ_STATUS = 0x24, IRQ_ACKNOWLEDGE = 0x64, DMA_SOURCE = 0x80, DMA_DESTINATION = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98 };
enum { RUN = 1, TO_MEMORY = 2, INTERRUPT = 4, BUFFER = 0x40000 };

static int iommu, device, interrupts;
static uint64_t bar0, config;
static unsigned char *memory;

static void step(const char *text)
{
    printf("\n# %s\n", text);
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void must(int fd, const char *name, unsigned long request, void *structure)
{
    if (ioctl(fd, request, structure) < 0)
        fail(name);
}

static void write_register(unsigned offset, uint64_t value, size_t bytes)
{
    if (pwrite(device, &value, bytes, bar0 + offset) != (ssize_t)bytes)
        fail("writing a register");
}

static uint64_t region_offset(uint32_t index)
{
    struct vfio_region_info region = {.argsz = sizeof(region), .index = index};
    must(device, "VFIO_DEVICE_GET_REGION_INFO", VFIO_DEVICE_GET_REGION_INFO, &region);
    return region.offset;
}

// Bus mastering, and MSI into an eventfd.
static void start_device(void)
{
    uint16_t command;
    struct {
        struct vfio_irq_set set;
        int32_t fd;
    } irqs = {
        .set = {.argsz = sizeof(irqs), .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                .index = VFIO_PCI_MSI_IRQ_INDEX, .count = 1},
    };

    bar0 = region_offset(VFIO_PCI_BAR0_REGION_INDEX);
    config = region_offset(VFIO_PCI_CONFIG_REGION_INDEX);
    if (pread(device, &command, 2, config + 4) != 2)
        fail("reading config space");
    command |= 4;
    if (pwrite(device, &command, 2, config + 4) != 2)
        fail("writing config space");
    interrupts = irqs.fd = eventfd(0, EFD_CLOEXEC);
    must(device, "VFIO_DEVICE_SET_IRQS", VFIO_DEVICE_SET_IRQS, &irqs);
}

static void transfer(uint64_t from, uint64_t to, unsigned command)
{
    struct pollfd waiting = {.fd = interrupts, .events = POLLIN};
    uint64_t times, status = 0;

    write_register(DMA_SOURCE, from, 8);
    write_register(DMA_DESTINATION, to, 8);
    write_register(DMA_COUNT, 16, 8);
    write_register(DMA_COMMAND, RUN | INTERRUPT | command, 8);
    if (poll(&waiting, 1, 5000) != 1 || read(interrupts, &times, sizeof(times)) != sizeof(times)) {
        fputs("no interrupt came within 5 seconds\n", stderr);
        exit(1);
    }
    if (pread(device, &status, 4, bar0 + IRQ_STATUS) != 4)
        fail("reading a register");
    write_register(IRQ_ACKNOWLEDGE, status, 4);
}

// The device reads 16 bytes at ADDRESS, and writes them to the page after it, which the guest's table leads to page 10.
static void read_by_device(void)
{
    char *seen = (char *)memory + 10 * PAGE;

    memset(seen, 0, 16);
    transfer(ADDRESS, BUFFER, 0);
    transfer(BUFFER, ADDRESS + PAGE, TO_MEMORY);
    if ((unsigned char)seen[0] == 0xff)
        puts("the device reads: nothing (all ones)");
    else
        printf("the device reads: %.16s\n", seen);
}

// An entry of one of the guest's tables, which leads to another of its pages.
static void set_entry(int table, int index, int page)
{
    uint64_t entry = page < 0 ? 0 : (GUEST_MEMORY + page * PAGE) | PRESENT | WRITABLE | USER;
    memcpy(memory + table * PAGE + index * 8, &entry, sizeof(entry));
}

static void invalidate(uint32_t hwpt)
{
    struct iommu_hwpt_vtd_s1_invalidate range = {.addr = ADDRESS, .npages = 1};
    struct iommu_hwpt_invalidate cmd = {
        .size = sizeof(cmd),
        .hwpt_id = hwpt,
        .data_uptr = (uintptr_t)&range,
        .data_type = IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
        .entry_len = sizeof(range),
        .entry_num = 1,
    };
    must(iommu, "IOMMU_HWPT_INVALIDATE", IOMMU_HWPT_INVALIDATE, &cmd);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/dev/vfio/devices/vfio0";

    step("The device, bound to /dev/iommu.");
    device = open(path, O_RDWR | O_CLOEXEC);
    if (device < 0)
        fail(path);
    iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    if (iommu < 0)
        fail("/dev/iommu");
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommu};
    must(device, "VFIO_DEVICE_BIND_IOMMUFD", VFIO_DEVICE_BIND_IOMMUFD, &bind);
    printf("bound as device %u\n", bind.out_devid);

    step("The guest's memory: 64 KiB of ours, which the guest knows as 0x100000. This map is the second stage.");
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    must(iommu, "IOMMU_IOAS_ALLOC", IOMMU_IOAS_ALLOC, &ioas);
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas.out_ioas_id,
        .user_va = (uintptr_t)memory,
        .length = PAGES * PAGE,
        .iova = GUEST_MEMORY,
    };
    must(iommu, "IOMMU_IOAS_MAP", IOMMU_IOAS_MAP, &map);
    struct iommu_hwpt_alloc parent = {
        .size = sizeof(parent),
        .flags = IOMMU_HWPT_ALLOC_NEST_PARENT,
        .dev_id = bind.out_devid,
        .pt_id = ioas.out_ioas_id,
    };
    if (ioctl(iommu, IOMMU_HWPT_ALLOC, &parent) < 0) {
        perror("IOMMU_HWPT_ALLOC with NEST_PARENT");
        fputs("The IOMMU of this device does not nest.\nTry: iommulator run --machine vtd --strace -- ./nested\n", stderr);
        return 1;
    }
    printf("second stage: hardware page table %u\n", parent.out_hwpt_id);

    step("The guest's own table, in its memory: 0x200000 leads to its page 8. This is the first stage.");
    strcpy((char *)memory + FIRST * PAGE, "the first page");
    strcpy((char *)memory + SECOND * PAGE, "the second page");
    set_entry(PML4, 0, PDPT);
    set_entry(PDPT, 0, PD);
    set_entry(PD, 1, PT);
    set_entry(PT, 0, FIRST);
    set_entry(PT, 1, 10);
    struct iommu_hwpt_vtd_s1 vtd = {.pgtbl_addr = GUEST_MEMORY + PML4 * PAGE, .addr_width = 48};
    struct iommu_hwpt_alloc nested = {
        .size = sizeof(nested),
        .dev_id = bind.out_devid,
        .pt_id = parent.out_hwpt_id,
        .data_type = IOMMU_HWPT_DATA_VTD_S1,
        .data_len = sizeof(vtd),
        .data_uptr = (uintptr_t)&vtd,
    };
    must(iommu, "IOMMU_HWPT_ALLOC", IOMMU_HWPT_ALLOC, &nested);
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = nested.out_hwpt_id};
    must(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
    printf("first stage: hardware page table %u, and the device is attached to it\n", nested.out_hwpt_id);

    step("DMA through both stages: 0x200000, by the guest's table to 0x108000, by ours to our memory.");
    start_device();
    read_by_device();

    step("The guest changes its table: 0x200000 leads to its page 9 now. It tells nobody.");
    set_entry(PT, 0, SECOND);
    read_by_device();

    step("It invalidates: what the hardware has cached of that page is gone.");
    invalidate(nested.out_hwpt_id);
    read_by_device();

    step("It takes the entry away, and invalidates.");
    set_entry(PT, 0, -1);
    invalidate(nested.out_hwpt_id);
    read_by_device();

    step("The end: detach, and the tables in the order in which one stands on the other.");
    struct vfio_device_detach_iommufd_pt detach = {.argsz = sizeof(detach)};
    must(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT", VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
    struct iommu_destroy destroy = {.size = sizeof(destroy), .id = parent.out_hwpt_id};
    printf("the second stage first: %s\n", ioctl(iommu, IOMMU_DESTROY, &destroy) < 0 ? strerror(errno) : "destroyed");
    destroy.id = nested.out_hwpt_id;
    must(iommu, "IOMMU_DESTROY", IOMMU_DESTROY, &destroy);
    destroy.id = parent.out_hwpt_id;
    must(iommu, "IOMMU_DESTROY", IOMMU_DESTROY, &destroy);
    puts("both destroyed");
    close(device);
    close(iommu);
    return 0;
}
