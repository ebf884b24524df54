// SPDX-License-Identifier: Apache-2.0
// A client of /dev/vfio/devices/vfio0 (an edu device). `surface`: one line for each thing that a program can notice about the file;
// `interrupts`, `paint`, `chaos SEED TIMES`: eventfds, memory around buffers, clients that end at any moment.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../examples/first_dma/uapi.h"

#define NODE "/dev/vfio/devices/vfio0"
#define PAGE 4096
#define BUFFER 0x40000
#define PAINT 0xa5

enum { RUN = 1, TO_MEMORY = 2, INTERRUPT = 4 };

static const char *name_of(int error)
{
    const char *name = strerrorname_np(error);
    return name ? name : "?";
}

static void say(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s\n", what, name_of(errno));
    else
        printf("%s: %ld\n", what, result);
}

static uint64_t bar0, config;

static int open_node(int flags)
{
    int fd = open(NODE, flags | O_CLOEXEC);
    if (fd < 0) {
        perror(NODE);
        exit(1);
    }
    return fd;
}

static void must(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static int bind_to(int device, int iommu)
{
    struct vfio_device_bind_iommufd bind = {.argsz = 16, .iommufd = iommu};
    return ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
}

static void find_regions(int device)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = VFIO_PCI_BAR0_REGION_INDEX};
    must(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info), "GET_REGION_INFO");
    bar0 = info.offset;
    info = (struct vfio_region_info){.argsz = sizeof(info), .index = VFIO_PCI_CONFIG_REGION_INDEX};
    must(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info), "GET_REGION_INFO");
    config = info.offset;
}

static uint32_t attach(int device, int iommu)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    struct vfio_device_attach_iommufd_pt to = {.argsz = 12};
    uint16_t command = 6;

    must(ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc), "IOAS_ALLOC");
    to.pt_id = alloc.out_ioas_id;
    must(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &to), "ATTACH");
    must(pwrite(device, &command, 2, config + 4), "Command");
    return alloc.out_ioas_id;
}

static int map(int iommu, uint32_t ioas, void *memory, uint64_t length, uint64_t iova, uint32_t access)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | access,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory,
        .length = length,
        .iova = iova,
    };
    return ioctl(iommu, IOMMU_IOAS_MAP, &map);
}

static int set_eventfd(int device, uint32_t index, int fd)
{
    struct {
        struct vfio_irq_set set;
        int32_t fd;
    } irqs = {
        .set = {.argsz = sizeof(irqs),
                .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                .index = index,
                .count = 1},
        .fd = fd,
    };
    return ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs);
}

static long dma(int device, uint64_t iova, uint64_t count, uint64_t command)
{
    int out = (command & TO_MEMORY) != 0;
    uint64_t registers[4] = {out ? BUFFER : iova, out ? iova : BUFFER, count, RUN | command};
    return pwrite(device, registers, sizeof(registers), bar0 + 0x80);
}

static void surface(void)
{
    int device = open_node(O_RDWR), iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC), other, i;
    unsigned char bytes[64];
    struct stat st;
    uint32_t word = 0;

    fstat(device, &st);
    printf("fstat: mode %o, %u:%u\n", st.st_mode, major(st.st_rdev), minor(st.st_rdev));
    stat(NODE, &st);
    printf("stat: mode %o, %u:%u\n", st.st_mode, major(st.st_rdev), minor(st.st_rdev));
    say("read before bind", read(device, bytes, 4));
    say("write before bind", write(device, bytes, 4));
    say("bind", bind_to(device, iommu));
    find_regions(device);
    other = open_node(O_RDWR);
    say("second bind", bind_to(other, iommu));
    say("read of a second file", pread(other, bytes, 4, 0));
    close(other);

    say("lseek", lseek(device, 0, SEEK_SET));
    word = 0x12345678;
    say("pwrite", pwrite(device, &word, 4, bar0 + 4));
    say("read", read(device, &word, 4));
    printf("it is %#x\n", word);
    other = dup(device);
    say("read of a duplicate", read(other, &word, 4));
    printf("it goes on with %#x\n", word);
    close(other);
    say("pread of nothing", pread(device, bytes, 0, bar0));
    say("pread with a negative offset", pread(device, bytes, 4, -1));
    say("pread into nowhere", pread(device, (void *)8, 4, bar0));
    say("pwrite from nowhere", pwrite(device, (void *)8, 4, bar0 + 4));
    say("pread off the end of BAR 0", pread(device, bytes, 64, bar0 + 0x100000 - 16));
    say("pread behind BAR 0", pread(device, bytes, 4, bar0 + 0x100000));
    say("pread of BAR 1", pread(device, bytes, 4, bar0 + (1ull << 40)));
    say("pread of region 20", pread(device, bytes, 4, bar0 + (20ull << 40)));
    say("pread beyond config space", pread(device, bytes, 4, config + 4094));
    memset(bytes, 0, sizeof(bytes));
    say("pread of 3 bytes of config space", pread(device, bytes, 3, config + 1));
    printf("they are %02x %02x %02x\n", bytes[0], bytes[1], bytes[2]);
    say("pread of half a register", pread(device, bytes, 2, bar0));
    printf("it is %02x%02x\n", bytes[1], bytes[0]);

    struct iovec two[2] = {{bytes, 4}, {bytes + 8, 4}};
    memset(bytes, PAINT, sizeof(bytes));
    say("preadv", preadv(device, two, 2, bar0));
    for (i = 0; i < 16; i++)
        printf("%02x%s", bytes[i], i < 15 ? " " : "\n");
    say("preadv2 with flags", preadv2(device, two, 2, bar0, RWF_NOWAIT));
    say("preadv2 at the position", preadv2(device, two, 2, -1, 0));
    say("readv of 1025 elements", readv(device, two, 1025));
    memset(bytes, 0, sizeof(bytes));
    say("pwritev", pwritev(device, two, 2, bar0 + 4));

    other = open_node(O_RDONLY);
    say("pwrite of a file for reading", pwrite(other, bytes, 4, bar0));
    close(other);
    other = open_node(O_WRONLY);
    say("pread of a file for writing", pread(other, bytes, 4, bar0));
    close(other);
    say("fsync", fsync(device));
    say("ftruncate", ftruncate(device, 0));
    say("mmap", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, device, bar0) == MAP_FAILED ? -1 : 0);
    struct pollfd waiting = {.fd = device, .events = POLLIN | POLLOUT};
    poll(&waiting, 1, 0);
    printf("poll: %#x\n", waiting.revents);
    struct epoll_event event = {.events = EPOLLIN};
    say("epoll", epoll_ctl(epoll_create1(EPOLL_CLOEXEC), EPOLL_CTL_ADD, device, &event));
    word = 0;
    say("Command", pwrite(device, &word, 2, config + 4));
    say("pread with memory space off", pread(device, bytes, 4, bar0));
}

static uint64_t counter(int fd)
{
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    uint64_t value = 0;
    if (poll(&waiting, 1, 0) == 1 && read(fd, &value, 8) != 8)
        value = 0;
    return value;
}

static void interrupts(void)
{
    int device = open_node(O_RDWR), iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    int blocking = eventfd(0, EFD_CLOEXEC), pipes[2];
    uint64_t full = 0xfffffffffffffffeull, value;

    must(bind_to(device, iommu), "bind");
    find_regions(device);
    attach(device, iommu);
    must(pipe(pipes), "pipe");
    say("a pipe", set_eventfd(device, VFIO_PCI_MSI_IRQ_INDEX, pipes[0]));
    say("a closed descriptor", set_eventfd(device, VFIO_PCI_MSI_IRQ_INDEX, 900));
    say("an eventfd", set_eventfd(device, VFIO_PCI_MSI_IRQ_INDEX, blocking));
    dma(device, 0, 0, INTERRUPT);
    dma(device, 0, 0, INTERRUPT);
    printf("two interrupts: %llu\n", (unsigned long long)counter(blocking));
    dma(device, 0, 0, 0);
    printf("none was asked for: %llu\n", (unsigned long long)counter(blocking));

    // Linux holds the eventfd, not its number.
    int kept = fcntl(blocking, F_DUPFD_CLOEXEC, 100);
    close(blocking);
    dma(device, 0, 0, INTERRUPT);
    printf("after its number was closed: %llu\n", (unsigned long long)counter(kept));

    must(write(kept, &full, 8), "fill");
    dma(device, 0, 0, INTERRUPT);
    must(read(kept, &value, 8), "drain");
    printf("with a full counter: %#llx\n", (unsigned long long)value);
    say("INTx beside MSI", set_eventfd(device, VFIO_PCI_INTX_IRQ_INDEX, kept));
    close(device);
    close(iommu);

    device = open_node(O_RDWR);
    iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    must(bind_to(device, iommu), "bind");
    attach(device, iommu);
    dma(device, 0, 0, INTERRUPT);
    printf("a new owner's interrupt reaches the old one's eventfd: %llu\n", (unsigned long long)counter(kept));
}

// Every DMA writes inside what is mapped, and nothing beside it.
static void paint(void)
{
    int device = open_node(O_RDWR), iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC), round, i;
    unsigned char *memory = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static unsigned char mirror[8 * PAGE];
    long refused = 0, done = 0;
    uint32_t ioas;

    must(bind_to(device, iommu), "bind");
    find_regions(device);
    ioas = attach(device, iommu);
    // Pages 1 and 2 are contiguous for the device, 4 is for reading only, 6 stands alone behind a hole.
    must(map(iommu, ioas, memory + PAGE, 2 * PAGE, 0x10000, 6), "map");
    must(map(iommu, ioas, memory + 4 * PAGE, PAGE, 0x12000, 4), "map");
    must(map(iommu, ioas, memory + 6 * PAGE, PAGE, 0x14000, 6), "map");
    srand(7);
    for (round = 0; round < 2000; round++) {
        uint64_t iova = 0xf000 + rand() % (7 * PAGE), count = 1 + rand() % PAGE;

        if (round % 100 == 0) {
            memset(memory, PAINT, sizeof(mirror));
            memset(mirror, PAINT, sizeof(mirror));
        }
        // What the device writes is what it has read before: one of the two pages, repainted.
        memset(memory + PAGE, round, PAGE);
        memset(mirror + PAGE, round, PAGE);
        dma(device, 0x10000, PAGE, 0);
        dma(device, iova, count, TO_MEMORY);
        if (iova >= 0x10000 && iova + count <= 0x12000)
            memset(mirror + PAGE + (iova - 0x10000), round, count), done++;
        else if (iova >= 0x14000 && iova + count <= 0x15000)
            memset(mirror + 6 * PAGE + (iova - 0x14000), round, count), done++;
        else
            refused++;
        for (i = 0; i < 8 * PAGE; i++)
            if (memory[i] != mirror[i]) {
                printf("round %d, iova %#llx+%llu: byte %#x is %#x\n", round, (unsigned long long)iova,
                       (unsigned long long)count, i, memory[i]);
                exit(1);
            }
    }
    printf("%s and %s, memory as it should be\n", done > 100 ? "many done" : "few done",
           refused > 100 ? "many refused" : "few refused");
}

// One life: takes the device, starts DMA, and ends in one of many ways.
static void life(unsigned seed)
{
    int fds[3], order[3] = {0, 1, 2}, i;
    unsigned char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t ioas;

    srand(seed);
    fds[0] = open_node(O_RDWR);
    fds[1] = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    fds[2] = eventfd(0, EFD_CLOEXEC);
    must(bind_to(fds[0], fds[1]), "bind");
    find_regions(fds[0]);
    ioas = attach(fds[0], fds[1]);
    must(map(fds[1], ioas, memory, 4 * PAGE, 0x10000, 6), "map");
    must(set_eventfd(fds[0], VFIO_PCI_MSI_IRQ_INDEX, fds[2]), "SET_IRQS");
    int killed = rand() % 2, times = rand() % 50;
    if (killed && fork() == 0) {
        // Its duplicates would keep the device for a while.
        for (i = 0; i < 3; i++)
            close(fds[i]);
        usleep(rand() % 3000);
        kill(getppid(), SIGKILL);
        _exit(0);
    }
    for (i = 0; i < times; i++)
        dma(fds[0], 0x10000 + PAGE * (i % 4), PAGE, (i & 1 ? TO_MEMORY : 0) | INTERRUPT);
    if (rand() % 2)
        munmap(memory, 4 * PAGE);
    for (i = 2; i > 0; i--) {
        int with = rand() % (i + 1), held = order[i];
        order[i] = order[with];
        order[with] = held;
    }
    int closed = rand() % 4;
    for (i = 0; i < closed; i++) {
        close(fds[order[i]]);
        if (order[i] != 0)
            dma(fds[0], 0x10000, PAGE, TO_MEMORY | INTERRUPT);
    }
    if (killed)
        pause();
    _exit(0);
}

static void chaos(unsigned seed, int times)
{
    int i, killed = 0, exited = 0;

    for (i = 0; i < times; i++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            life(seed * 1000 + i);
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status))
            killed++;
        else if (WEXITSTATUS(status) == 0)
            exited++;
    }
    // Whoever had it before, it can be had again.
    int device = open_node(O_RDWR), iommu = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    must(bind_to(device, iommu), "bind at the end");
    printf("%d lives, device free\n", killed + exited);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(what, "surface") == 0)
        surface();
    else if (strcmp(what, "interrupts") == 0)
        interrupts();
    else if (strcmp(what, "paint") == 0)
        paint();
    else if (strcmp(what, "chaos") == 0)
        chaos(atoi(argv[2]), atoi(argv[3]));
    else
        return 2;
    return 0;
}
