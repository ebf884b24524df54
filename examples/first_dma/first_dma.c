// SPDX-License-Identifier: Apache-2.0
// A driver in user space, as small as it can be: find a PCI device, bind it to /dev/iommu, give it a page of our memory, let it read and
// write there, and see what happens where it may not. The device is edu, the educational device of QEMU.
// An ordinary program: it knows nothing of iommulator, and runs on real Linux (6.6 or newer) with such a device as well.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uapi.h"

#define DEVICES "/sys/bus/pci/devices"
#define PAGE 4096

// The registers of edu in its BAR 0, and its buffer, as its own DMA engine sees it.
enum { IDENTIFICATION = 0x00, LIVENESS = 0x04, FACTORIAL = 0x08, STATUS = 0x20, IRQ_STATUS = 0x24, IRQ_ACKNOWLEDGE = 0x64 };
enum { DMA_SOURCE = 0x80, DMA_DESTINATION = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98 };
enum { RUN = 1, TO_MEMORY = 2, INTERRUPT = 4 };
enum { COMPUTING = 1 };
#define BUFFER 0x40000

static int iommu, device, interrupts;
static uint64_t bar0, config;

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

// The first line of a file of sysfs.
static int read_line(const char *bdf, const char *name, char *line, int size)
{
    char path[512];

    snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    int found = fgets(line, size, file) != NULL;
    fclose(file);
    line[strcspn(line, "\n")] = 0;
    return found;
}

// The last part of where a symbolic link of sysfs leads.
static void link_end(const char *bdf, const char *name, char *end, int size)
{
    char path[512], target[512];

    snprintf(path, sizeof(path), DEVICES "/%s/%s", bdf, name);
    ssize_t length = readlink(path, target, sizeof(target) - 1);
    target[length < 0 ? 0 : length] = 0;
    char *slash = strrchr(target, '/');
    snprintf(end, size, "%.*s", size - 1, slash ? slash + 1 : target);
}

static uint64_t read_register(unsigned offset, size_t bytes)
{
    uint64_t value = 0;

    if (pread(device, &value, bytes, bar0 + offset) != (ssize_t)bytes)
        fail("reading a register");
    return value;
}

static void write_register(unsigned offset, uint64_t value, size_t bytes)
{
    if (pwrite(device, &value, bytes, bar0 + offset) != (ssize_t)bytes)
        fail("writing a register");
}

// Lets the device move bytes between its buffer and an I/O address, and waits for its interrupt.
static void dma(uint64_t iova, uint64_t count, int to_memory)
{
    struct pollfd waiting = {.fd = interrupts, .events = POLLIN};
    uint64_t times;

    write_register(DMA_SOURCE, to_memory ? BUFFER : iova, 8);
    write_register(DMA_DESTINATION, to_memory ? iova : BUFFER, 8);
    write_register(DMA_COUNT, count, 8);
    write_register(DMA_COMMAND, RUN | INTERRUPT | (to_memory ? TO_MEMORY : 0), 8);
    if (poll(&waiting, 1, 5000) != 1 || read(interrupts, &times, sizeof(times)) != sizeof(times)) {
        fputs("no interrupt came within 5 seconds\n", stderr);
        exit(1);
    }
    uint64_t status = read_register(IRQ_STATUS, 4);
    printf("interrupt, status 0x%" PRIx64 "\n", status);
    write_register(IRQ_ACKNOWLEDGE, status, 4);
}

static void map(uint32_t ioas, void *memory, uint64_t length, uint64_t iova, uint32_t access)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | access,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory,
        .length = length,
        .iova = iova,
    };
    must(iommu, "IOMMU_IOAS_MAP", IOMMU_IOAS_MAP, &map);
}

static void show(const char *what, const unsigned char *bytes)
{
    printf("%s: ", what);
    for (int i = 0; i < 8; i++)
        printf("%02x%s", bytes[i], i < 7 ? " " : "\n");
}

int main(void)
{
    char bdf[64] = "", text[64], group[64], driver[64], cdev[64] = "", path[512];

    step("Find the device in sysfs: vendor 0x1234, device 0x11e8.");
    DIR *devices = opendir(DEVICES);
    for (struct dirent *entry; devices && bdf[0] == 0 && (entry = readdir(devices)) != NULL;)
        if (read_line(entry->d_name, "vendor", text, sizeof(text)) && strcmp(text, "0x1234") == 0 &&
            read_line(entry->d_name, "device", text, sizeof(text)) && strcmp(text, "0x11e8") == 0)
            snprintf(bdf, sizeof(bdf), "%.63s", entry->d_name);
    if (devices)
        closedir(devices);
    if (bdf[0] == 0) {
        fputs("no such device here.\nTry: iommulator run --strace -- ./first_dma\n"
              "or QEMU with -device edu and an IOMMU, and the device bound to vfio-pci\n", stderr);
        return 1;
    }
    link_end(bdf, "iommu_group", group, sizeof(group));
    link_end(bdf, "driver", driver, sizeof(driver));
    snprintf(path, sizeof(path), DEVICES "/%s/vfio-dev", bdf);
    DIR *cdevs = opendir(path);
    for (struct dirent *entry; cdevs && (entry = readdir(cdevs)) != NULL;)
        if (entry->d_name[0] != '.')
            snprintf(cdev, sizeof(cdev), "%.63s", entry->d_name);
    if (cdevs)
        closedir(cdevs);
    printf("%s, in IOMMU group %s, driver %s, character device %s\n", bdf, group, driver, cdev);

    step("Open it and /dev/iommu, and bind the one to the other: only now it answers.");
    snprintf(path, sizeof(path), "/dev/vfio/devices/%s", cdev);
    device = open(path, O_RDWR | O_CLOEXEC);
    if (device < 0)
        fail(path);
    iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    if (iommu < 0)
        fail("/dev/iommu");
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommu};
    must(device, "VFIO_DEVICE_BIND_IOMMUFD", VFIO_DEVICE_BIND_IOMMUFD, &bind);
    struct vfio_device_info info = {.argsz = sizeof(info)};
    must(device, "VFIO_DEVICE_GET_INFO", VFIO_DEVICE_GET_INFO, &info);
    printf("it has %u regions and %u kinds of interrupts\n", info.num_regions, info.num_irqs);

    step("Where its registers are: BAR 0 and config space are places in its file.");
    struct vfio_region_info region = {.argsz = sizeof(region), .index = VFIO_PCI_BAR0_REGION_INDEX};
    must(device, "VFIO_DEVICE_GET_REGION_INFO", VFIO_DEVICE_GET_REGION_INFO, &region);
    bar0 = region.offset;
    printf("BAR 0: %" PRIu64 " bytes\n", (uint64_t)region.size);
    region = (struct vfio_region_info){.argsz = sizeof(region), .index = VFIO_PCI_CONFIG_REGION_INDEX};
    must(device, "VFIO_DEVICE_GET_REGION_INFO", VFIO_DEVICE_GET_REGION_INFO, &region);
    config = region.offset;
    printf("identification 0x%" PRIx64 "\n", read_register(IDENTIFICATION, 4));
    write_register(LIVENESS, 0x12345678, 4);
    printf("0x12345678 written comes back as 0x%" PRIx64 "\n", read_register(LIVENESS, 4));
    write_register(FACTORIAL, 10, 4);
    while (read_register(STATUS, 4) & COMPUTING)
        usleep(1000);
    printf("10! is %" PRIu64 "\n", read_register(FACTORIAL, 4));

    step("An address space for its DMA, and in it two pages of ours at 0x100000.");
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    must(iommu, "IOMMU_IOAS_ALLOC", IOMMU_IOAS_ALLOC, &alloc);
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = alloc.out_ioas_id};
    must(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
    unsigned char *memory = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    map(alloc.out_ioas_id, memory, 2 * PAGE, 0x100000, IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE);
    puts("mapped");

    step("Let it do DMA (bus mastering, in config space), and tell us by MSI when it is done.");
    uint16_t command;
    if (pread(device, &command, 2, config + 4) != 2)
        fail("reading config space");
    command |= 4;
    if (pwrite(device, &command, 2, config + 4) != 2)
        fail("writing config space");
    interrupts = eventfd(0, EFD_CLOEXEC);
    struct {
        struct vfio_irq_set set;
        int32_t fd;
    } irqs = {
        .set = {
            .argsz = sizeof(irqs),
            .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            .index = VFIO_PCI_MSI_IRQ_INDEX,
            .count = 1,
        },
        .fd = interrupts,
    };
    must(device, "VFIO_DEVICE_SET_IRQS", VFIO_DEVICE_SET_IRQS, &irqs);
    puts("ready");

    step("DMA: it reads 64 bytes from our first page, and writes them into the second.");
    strcpy((char *)memory, "Hello, device!");
    dma(0x100000, 64, 0);
    dma(0x101000, 64, 1);
    printf("the second page says: %s\n", (char *)memory + PAGE);

    step("DMA from an address where nothing is mapped.");
    dma(0x300000, 8, 0);
    dma(0x101000, 8, 1);
    show("what it read instead", memory + PAGE);

    step("DMA into a page that it may only read.");
    memset(memory + 2 * PAGE, 0x55, PAGE);
    map(alloc.out_ioas_id, memory + 2 * PAGE, PAGE, 0x200000, IOMMU_IOAS_MAP_READABLE);
    dma(0x200000, 8, 1);
    show("the page still has", memory + 2 * PAGE);

    step("Detach: from here on its DMA goes nowhere. Closing its file gives it back.");
    struct vfio_device_detach_iommufd_pt detach = {.argsz = sizeof(detach)};
    must(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT", VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
    struct iommu_ioas_unmap all = {.size = sizeof(all), .ioas_id = alloc.out_ioas_id, .length = UINT64_MAX};
    must(iommu, "IOMMU_IOAS_UNMAP", IOMMU_IOAS_UNMAP, &all);
    printf("%" PRIu64 " bytes unmapped\n", (uint64_t)all.length);
    close(device);
    close(iommu);
    return 0;
}
