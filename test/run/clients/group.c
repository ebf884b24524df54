// SPDX-License-Identifier: Apache-2.0
// A client of VFIO's older interface: container and group, found as such programs find them. The device (an edu) copies a buffer.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/vfio.h>

#define DEVICE "0000:00:02.0"
#define PAGE 4096

static long say(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: %ld\n", what, result);
    return result;
}

static uint64_t bar0, config;

static uint64_t find(int device, unsigned index)
{
    struct vfio_region_info info = {.argsz = sizeof info, .index = index};
    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
    return info.offset;
}

static void copy(int device, uint64_t from, uint64_t to, uint64_t command)
{
    uint64_t values[] = {from, to, 64, command};
    for (int i = 0; i < 4; i++)
        pwrite(device, &values[i], 8, bar0 + 0x80 + 8 * i);
    do
        pread(device, values, 8, bar0 + 0x98);
    while (values[0] & 1);
}

int main(void)
{
    char link[256] = "", path[300];
    readlink("/sys/bus/pci/devices/" DEVICE "/iommu_group", link, sizeof link - 1);
    snprintf(path, sizeof path, "/dev/vfio/%s", strrchr(link, '/') + 1);
    printf("group: %s\n", path);
    struct stat st;
    say("stat", stat(path, &st));
    printf("a character device of mode %o\n", st.st_mode & 0777);

    int group = open(path, O_RDWR);
    say("open again", open(path, O_RDWR));
    char byte;
    say("read", read(group, &byte, 1));
    say("mmap", (long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, group, 0));
    struct vfio_group_status status = {.argsz = sizeof status};
    say("status", ioctl(group, VFIO_GROUP_GET_STATUS, &status));
    printf("flags: %u\n", status.flags);
    say("device without container", ioctl(group, VFIO_GROUP_GET_DEVICE_FD, DEVICE));

    int container = open("/dev/vfio/vfio", O_RDWR);
    say("version", ioctl(container, VFIO_GET_API_VERSION));
    say("type 1", ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU));
    say("type without group", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    say("container", ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
    say("type", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    say("another device", ioctl(group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:1f.0"));

    char *memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof map,
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)memory,
        .iova = 0x100000,
        .size = 2 * PAGE,
    };
    say("map", ioctl(container, VFIO_IOMMU_MAP_DMA, &map));

    int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, DEVICE);
    printf("close on exec: %d\n", fcntl(device, F_GETFD));
    struct vfio_device_info info = {.argsz = sizeof info};
    say("info", ioctl(device, VFIO_DEVICE_GET_INFO, &info));
    printf("regions: %u\n", info.num_regions);
    bar0 = find(device, VFIO_PCI_BAR0_REGION_INDEX);
    config = find(device, VFIO_PCI_CONFIG_REGION_INDEX);
    uint16_t command = 6;
    pwrite(device, &command, 2, config + 4);

    strcpy(memory, "Hello, group!");
    copy(device, 0x100000, 0x40000, 1);
    copy(device, 0x40000, 0x101000, 3);
    printf("the second page says: %s\n", memory + PAGE);

    // The group's file goes first: its device stays.
    say("close group", close(group));
    say("reset", ioctl(device, VFIO_DEVICE_RESET));
    say("close device", close(device));
    group = open(path, O_RDWR);
    say("container again", ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
    return 0;
}
