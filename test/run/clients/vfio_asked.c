// SPDX-License-Identifier: Apache-2.0
// Questions about VFIO (asked.h).
// `groups`: the way by container and group. `events`: eventfds that unmask INTx or write registers, and features.
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

#include "asked.h"

static int device, container, group;
static uint64_t bar0, config;

static int bind_to(int iommu, unsigned flags)
{
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .flags = flags, .iommufd = iommu};
    return ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
}

static void find_regions(void)
{
    struct vfio_region_info info = {.argsz = sizeof info, .index = VFIO_PCI_BAR0_REGION_INDEX};
    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
    bar0 = info.offset;
    info.index = VFIO_PCI_CONFIG_REGION_INDEX;
    ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
    config = info.offset;
}

// Groups.

static const char *group_path(void)
{
    static char path[64];
    char link[256] = "";
    readlink("/sys/bus/pci/devices/" DEVICE "/iommu_group", link, sizeof link - 1);
    snprintf(path, sizeof path, "/dev/vfio/%s", strrchr(link, '/') + 1);
    return path;
}

static int open_group(void)
{
    return open(group_path(), O_RDWR);
}

static unsigned flags;

static int get_status(unsigned argsz)
{
    struct vfio_group_status status = {.argsz = argsz, .flags = 0xff};
    int result = ioctl(group, VFIO_GROUP_GET_STATUS, &status);
    flags = status.flags;
    return result;
}

static int set_container(int fd)
{
    return ioctl(group, VFIO_GROUP_SET_CONTAINER, &fd);
}

static int unset_container(void)
{
    return ioctl(group, VFIO_GROUP_UNSET_CONTAINER);
}

static int device_fd(const char *name)
{
    return ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
}

static unsigned ioas_id;

static int vfio_ioas(int iommu, unsigned op)
{
    struct iommu_vfio_ioas ioas = {.size = sizeof ioas, .op = op};
    int result = ioctl(iommu, IOMMU_VFIO_IOAS, &ioas);
    ioas_id = ioas.ioas_id;
    return result;
}

static int destroy(int iommu, unsigned id)
{
    struct iommu_destroy command = {.size = sizeof command, .id = id};
    return ioctl(iommu, IOMMU_DESTROY, &command);
}

static int map_dma(void)
{
    static char memory[2 * PAGE] __attribute__((aligned(PAGE)));
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof map,
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)memory,
        .iova = 0x100000,
        .size = sizeof memory,
    };
    return ioctl(container, VFIO_IOMMU_MAP_DMA, &map);
}

static int info_of(int fd)
{
    struct vfio_device_info info = {.argsz = sizeof info};
    return ioctl(fd, VFIO_DEVICE_GET_INFO, &info);
}

static int bind_of(int fd)
{
    struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = container};
    return ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind);
}

static int attach_of(int fd)
{
    struct vfio_device_attach_iommufd_pt attach = {.argsz = 12, .pt_id = ioas_id};
    return ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

// Names of every length, where what follows them in memory may be missing.
static void ask_names(void)
{
    char *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 2 * PAGE, PAGE);
    memset(pages, 'a', 2 * PAGE);
    ASK(device_fd(pages));
    ASK(device_fd(pages + 2 * PAGE - 16));
    pages[PAGE] = 0;
    ASK(device_fd(pages));
    ASK(device_fd(pages + 1));
    ASK(device_fd(NULL));
    ASK(device_fd(""));
    ASK(device_fd("0000:00:1e.0"));
    ASK(device_fd(DEVICE "0"));
    ASK(device_fd(DEVICE "\t"));
    ASK(device_fd(DEVICE " x"));
    ASK(device_fd(DEVICE " vf_token=12"));
    ASK(device_fd(DEVICE " vf_token=12345678-1234-1234-1234-123456789abc"));
    ASK(device_fd(DEVICE));
}

static void ask_group(void)
{
    char byte = 0;
    ASK(open_group());
    ASK(read(group, &byte, 1));
    ASK(write(group, &byte, 1));
    ASK(pread(group, &byte, 1, 0));
    ASK(lseek(group, 0, SEEK_SET));
    ASK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, group, 0));
    ASK(bind_to(container, 0));
    ASK(bind_to(container, 8));
    ASK(bind_to(999, 0));
    ASK(get_status(8));
    SHOW(flags);
    ASK(get_status(7));
    ASK(get_status(100));
    ASK(ioctl(group, VFIO_GROUP_GET_STATUS, NULL));
    ASK(ioctl(group, VFIO_DEVICE_GET_INFO, NULL));
    ASK(ioctl(group, VFIO_GET_API_VERSION));
}

static void ask_container(void)
{
    ASK(unset_container());
    ASK(set_container(999));
    ASK(set_container(-1));
    ASK(set_container(open("/dev/null", O_RDWR)));
    ASK(set_container(device));
    ASK(ioctl(group, VFIO_GROUP_SET_CONTAINER, NULL));
    ASK(vfio_ioas(container, IOMMU_VFIO_IOAS_GET));
    ASK(set_container(container));
    ASK(vfio_ioas(container, IOMMU_VFIO_IOAS_GET));
    SHOW(ioas_id);
    ASK(set_container(container));
    ASK(set_container(999));
    ASK(set_container(device));
    ASK(get_status(8));
    SHOW(flags);
    ASK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    ASK(map_dma());
}

static void ask_device(int one, int two)
{
    char link[32], name[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", one);
    readlink(link, name, sizeof name - 1);
    printf("it is %s\n", name);
    SHOW(fcntl(one, F_GETFD));
    SHOW(fcntl(two, F_GETFL) & O_ACCMODE);
    ASK(bind_of(one));
    ASK(ioctl(one, VFIO_DEVICE_BIND_IOMMUFD, NULL));
    ASK(attach_of(one));
    ASK(ioctl(one, VFIO_DEVICE_DETACH_IOMMUFD_PT, NULL));
    ASK(info_of(one));
    for (unsigned id = 1; id < 5; id++)
        ASK(destroy(container, id));
}

static void groups(void)
{
    int other = open("/dev/iommu", O_RDWR);
    device = open(CDEV, O_RDWR);
    container = open("/dev/iommu", O_RDWR);
    ASK(group = open_group());
    ask_group();
    ask_names();
    ask_container();
    int one, two, three;
    ASK(one = device_fd(DEVICE));
    ASK(two = device_fd(DEVICE " "));
    ask_device(one, two);
    ASK(unset_container());
    ASK(get_status(8));
    SHOW(flags);
    ASK(device_fd(DEVICE));
    ASK(set_container(other));
    ASK(three = device_fd(DEVICE));
    for (unsigned id = 1; id < 4; id++)
        ASK(destroy(other, id));
    ASK(close(group));
    ASK(info_of(three));
    ASK(bind_to(container, 0));
    ASK(group = open_group());
    ASK(close(group));
    ASK(close(one));
    ASK(close(two));
    ASK(bind_to(container, 0));
    ASK(close(three));
    ASK(bind_to(999, 0));
    ASK(group = open_group());
    ASK(close(group));
    ASK(bind_to(container, 0));
    ASK(open_group());
    ASK(close(device));
    ASK(group = open_group());
    ASK(set_container(other));
    ASK(vfio_ioas(other, IOMMU_VFIO_IOAS_CLEAR));
    ASK(device_fd(DEVICE));
}

// Events.

#define BY_EVENTFD(action) (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_##action)
#define TiB (1ull << 40)
enum { LIVENESS = 4, RAISE = 0x60, ACKNOWLEDGE = 0x64 };

static int set_irqs(unsigned irq_flags, unsigned count, int fd)
{
    struct {
        struct vfio_irq_set set;
        int32_t fds[2];
    } irqs = {
        .set = {.argsz = sizeof irqs, .flags = irq_flags, .index = VFIO_PCI_INTX_IRQ_INDEX, .count = count},
        .fds = {fd, fd},
    };
    return ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs);
}

static int ioeventfd(unsigned size, uint64_t offset, uint64_t data, int fd)
{
    struct vfio_device_ioeventfd io = {
        .argsz = sizeof io, .flags = size, .offset = offset, .data = data, .fd = fd};
    return ioctl(device, VFIO_DEVICE_IOEVENTFD, &io);
}

static int short_ioeventfd(unsigned argsz, int fd)
{
    struct vfio_device_ioeventfd io = {.argsz = argsz, .flags = 4, .offset = bar0 + 4, .fd = fd};
    return ioctl(device, VFIO_DEVICE_IOEVENTFD, &io);
}

static uint32_t get(unsigned at)
{
    uint32_t value = 0;
    pread(device, &value, 4, bar0 + at);
    return value;
}

static void set(unsigned at, uint32_t value)
{
    pwrite(device, &value, 4, bar0 + at);
}

static void command(uint16_t value)
{
    pwrite(device, &value, 2, config + 4);
}

// What an eventfd has counted, and takes that away; waits a little.
static uint64_t counted(int fd, int ms)
{
    struct pollfd waiting = {fd, POLLIN, 0};
    uint64_t value = 0;
    if (poll(&waiting, 1, ms) == 1)
        read(fd, &value, 8);
    return value;
}

static void signal_it(int fd)
{
    uint64_t one = 1;
    write(fd, &one, 8);
    usleep(50000);
}

static void ask_ioeventfd(int event, int other, int pipe_end)
{
    ASK(ioctl(device, VFIO_DEVICE_IOEVENTFD, NULL));
    ASK(short_ioeventfd(27, event));
    ASK(short_ioeventfd(28, -1));
    ASK(ioeventfd(0, bar0 + 4, 7, event));
    ASK(ioeventfd(3, bar0 + 4, 7, event));
    ASK(ioeventfd(16, bar0 + 4, 7, event));
    ASK(ioeventfd(4, bar0 + 4, 7, -2));
    ASK(ioeventfd(4, bar0 + 4, 7, -1));
    ASK(ioeventfd(4, config, 7, event));
    ASK(ioeventfd(4, bar0 + TiB, 7, event));
    ASK(ioeventfd(4, bar0 + 6 * TiB, 7, event));
    ASK(ioeventfd(4, ~0ull, 7, event));
    ASK(ioeventfd(4, bar0 + 0x100000 - 3, 7, event));
    ASK(ioeventfd(4, bar0 + 0x100000 - 4, 7, event));
    ASK(ioeventfd(4, bar0 + 0x100000 - 4, 7, -1));
    ASK(ioeventfd(8, bar0 + 0x80, 7, event));
    ASK(ioeventfd(4, bar0 + 4, 7, 999));
    ASK(ioeventfd(4, bar0 + 4, 7, pipe_end));
    ASK(ioeventfd(4, bar0 + 4, 0x12345678, event));
    ASK(ioeventfd(4, bar0 + 4, 0x12345678, event));
    ASK(ioeventfd(4, bar0 + 4, 0x12345678, 999));
    ASK(ioeventfd(4, bar0 + 4, 0x100000001, other));
    ASK(ioeventfd(4, bar0 + 4, 1, -1));
    ASK(ioeventfd(4, bar0 + 4, 0x100000001, -1));
    set(LIVENESS, 0);
    SHOW(get(LIVENESS));
    signal_it(event);
    SHOW(get(LIVENESS));
    SHOW(counted(event, 0));
    command(4);
    signal_it(event);
    SHOW(counted(event, 0));
    command(6);
    set(LIVENESS, 0x55);
    signal_it(event);
    SHOW(get(LIVENESS));
    ASK(ioeventfd(4, bar0 + 4, 0x12345678, -1));
    ASK(ioeventfd(4, bar0 + 4, 0x12345678, -1));
    set(LIVENESS, 0x66);
    signal_it(event);
    SHOW(get(LIVENESS));
    SHOW(counted(event, 0));
    // The device answers accesses of 4 bytes only.
    ASK(ioeventfd(1, bar0 + 4, 0xff, event));
    signal_it(event);
    SHOW(get(LIVENESS));
    ASK(ioeventfd(1, bar0 + 4, 0xff, -1));
    ASK(ioeventfd(4, bar0 + 5, 0xff, event));
    ASK(ioeventfd(4, bar0 + 5, 0xff, -1));
    signal_it(event);
    ASK(ioeventfd(4, bar0 + 4, 0x77, event));
    usleep(50000);
    SHOW(get(LIVENESS));
    ASK(ioeventfd(4, bar0 + 4, 0x77, -1));
    counted(event, 0);
}

static void ask_unmask(int pipe_end)
{
    int told = eventfd(0, EFD_NONBLOCK), unmask = eventfd(0, EFD_NONBLOCK);
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, unmask));
    ASK(set_irqs(BY_EVENTFD(TRIGGER), 1, told));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, -1));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, -5));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, 999));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, pipe_end));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 0, unmask));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 2, unmask));
    ASK(set_irqs(BY_EVENTFD(MASK), 1, unmask));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, unmask));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, unmask));
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, pipe_end));
    set(RAISE, 1);
    SHOW(counted(told, 300));
    set(RAISE, 1);
    SHOW(counted(told, 50));
    signal_it(unmask);
    SHOW(counted(told, 300));
    SHOW(counted(unmask, 0));
    set(ACKNOWLEDGE, 1);
    signal_it(unmask);
    SHOW(counted(told, 50));
    set(RAISE, 2);
    SHOW(counted(told, 300));
    set(ACKNOWLEDGE, 2);
    signal_it(unmask);
    ASK(set_irqs(BY_EVENTFD(UNMASK), 1, -1));
    set(RAISE, 2);
    SHOW(counted(told, 300));
    set(ACKNOWLEDGE, 2);
    signal_it(unmask);
    set(RAISE, 4);
    SHOW(counted(told, 50));
    SHOW(counted(unmask, 0));
    set(ACKNOWLEDGE, 4);
    ASK(set_irqs(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0));
}

static int feature(unsigned feature_flags, unsigned data, int fd)
{
    struct {
        struct vfio_device_feature frame;
        struct vfio_device_low_power_entry_with_wakeup entry;
    } request = {.frame = {.argsz = 8 + data, .flags = feature_flags}, .entry = {.wakeup_eventfd = fd}};
    return ioctl(device, VFIO_DEVICE_FEATURE, &request);
}

#define SET VFIO_DEVICE_FEATURE_SET
#define GET VFIO_DEVICE_FEATURE_GET
#define PROBE VFIO_DEVICE_FEATURE_PROBE
#define ENTRY VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
#define ENTRY_WAKEUP VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
#define EXIT VFIO_DEVICE_FEATURE_LOW_POWER_EXIT

// What wakes a device is not asked: a small kernel has no power management.
static void ask_features(int event, int pipe_end)
{
    for (unsigned number = ENTRY; number <= EXIT; number++) {
        SHOW(number);
        ASK(feature(number | PROBE, 0, -1));
        ASK(feature(number | PROBE | SET, 0, -1));
        ASK(feature(number | PROBE | GET, 0, -1));
        ASK(feature(number | PROBE | GET | SET, 0, -1));
        ASK(feature(number | GET, 8, -1));
        ASK(feature(number, 8, -1));
    }
    ASK(feature(ENTRY_WAKEUP | SET, 4, event));
    ASK(feature(ENTRY_WAKEUP | SET, 8, -1));
    ASK(feature(ENTRY_WAKEUP | SET, 8, 999));
    ASK(feature(ENTRY_WAKEUP | SET, 8, pipe_end));
    ASK(feature(EXIT | SET, 0, -1));
    ASK(feature(ENTRY | SET, 0, -1));
    ASK(feature(ENTRY | SET, 0, -1));
    ASK(feature(ENTRY_WAKEUP | SET, 8, event));
    SHOW(get(0));
    ASK(feature(EXIT | SET, 0, -1));
    ASK(feature(EXIT | SET, 0, -1));
}

static void events(void)
{
    int iommu = open("/dev/iommu", O_RDWR), pipes[2];
    int event = eventfd(0, EFD_NONBLOCK), other = eventfd(0, 0);
    device = open(CDEV, O_RDWR);
    pipe(pipes);
    ASK(ioeventfd(4, 0, 0, -1));
    ASK(bind_to(iommu, 0));
    find_regions();
    command(6);
    ask_ioeventfd(event, other, pipes[0]);
    ask_unmask(pipes[0]);
    ask_features(event, pipes[0]);
    ASK(close(device));
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 2 && !strcmp(argv[1], "groups"))
        groups();
    else if (argc == 2 && !strcmp(argv[1], "events"))
        events();
    else
        return 2;
    return 0;
}
