// SPDX-License-Identifier: Apache-2.0
// A device that faults, and a program that answers: the device asks for a page that is not there (a page request of PCIe's PRI), the program
// reads the request from a descriptor, maps the page, answers, and the device goes on where it was. Then a request that is turned
// down, one that nobody answers, and a detach while an answer is owed.
// An ordinary program: it knows nothing of iommulator. The device, iommu_test, exists only there; with another device that has PRI only
// the commands to the device differ (Linux 6.11 or newer).
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
// Where the device reads and writes. Only SEEN is mapped from the start.
#define SEEN 0x100000ull
#define LATE 0x200000ull
#define NEVER 0x300000ull

// Registers of iommu_test, and of the edu that it also is.
enum { ADDRESS = 0x1008, LENGTH = 0x1010, GROUP = 0x101c, MODE = 0x1024, COMMAND = 0x1030, OUTSTANDING = 0x1040, STATE = 0x1080 };
enum { IRQ_STATUS = 0x24, IRQ_ACKNOWLEDGE = 0x64 };
enum { CACHED_WRITE = 4, FAULTING_READ = 8, FAULTING_WRITE = 9, INTERRUPT = 8 };
static const char *const states[] = {"IDLE", "RUNNING", "WAITING", "DONE", "REFUSED", "NOT_PRESENT", "INVALID", "FAILURE"};

static int iommu, device, interrupts, faults;
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

static void write_register(unsigned offset, uint64_t value, size_t bytes)
{
    if (pwrite(device, &value, bytes, bar0 + offset) != (ssize_t)bytes)
        fail("writing a register");
}

static uint32_t read_register(unsigned offset)
{
    uint32_t value;
    if (pread(device, &value, 4, bar0 + offset) != 4)
        fail("reading a register");
    return value;
}

static uint64_t region_offset(uint32_t index)
{
    struct vfio_region_info region = {.argsz = sizeof(region), .index = index};
    must(device, "VFIO_DEVICE_GET_REGION_INFO", VFIO_DEVICE_GET_REGION_INFO, &region);
    return region.offset;
}

// Bus mastering, MSI into an eventfd, and an interrupt at the end of each command.
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
    write_register(MODE, INTERRUPT, 4);
    write_register(LENGTH, 16, 4);
}

static void start(unsigned command, uint64_t address, unsigned group)
{
    write_register(ADDRESS, address, 8);
    write_register(GROUP, group, 4);
    write_register(COMMAND, command, 4);
}

static int is_readable(int fd, int milliseconds)
{
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    return poll(&waiting, 1, milliseconds) == 1;
}

// How the command ended, in words.
static const char *end_of_command(void)
{
    uint64_t times;
    uint32_t state;

    if (!is_readable(interrupts, 5000) || read(interrupts, &times, sizeof(times)) != sizeof(times)) {
        fputs("no interrupt came within 5 seconds\n", stderr);
        exit(1);
    }
    write_register(IRQ_ACKNOWLEDGE, read_register(IRQ_STATUS), 4);
    state = read_register(STATE);
    return state < sizeof(states) / sizeof(*states) ? states[state] : "?";
}

// The next page request; the cookie is what it is answered by.
static uint32_t next_request(void)
{
    struct iommu_hwpt_pgfault fault;

    if (!is_readable(faults, 5000) || read(faults, &fault, sizeof(fault)) != sizeof(fault))
        fail("no page request");
    printf("page request: device %u wants to %s 0x%llx, group %u\n", fault.dev_id, fault.perm & 2 ? "write" : "read",
           (unsigned long long)fault.addr, fault.grpid);
    return fault.cookie;
}

static void answer(uint32_t cookie, uint32_t code)
{
    struct iommu_hwpt_page_response response = {.cookie = cookie, .code = code};
    ssize_t written = write(faults, &response, sizeof(response));

    printf("answered %s: %s\n", code ? "INVALID" : "SUCCESS", written < 0 ? strerror(errno) : "taken");
}

static void map(uint32_t ioas, void *memory, uint64_t iova)
{
    struct iommu_ioas_map cmd = {
        .size = sizeof(cmd),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory,
        .length = PAGE,
        .iova = iova,
    };
    must(iommu, "IOMMU_IOAS_MAP", IOMMU_IOAS_MAP, &cmd);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/dev/vfio/devices/vfio0";
    char *memory;
    uint32_t cookie;

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

    step("A queue for its page requests, and a table whose faults go there.");
    struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
    must(iommu, "IOMMU_IOAS_ALLOC", IOMMU_IOAS_ALLOC, &ioas);
    struct iommu_fault_alloc queue = {.size = sizeof(queue)};
    must(iommu, "IOMMU_FAULT_QUEUE_ALLOC", IOMMU_FAULT_QUEUE_ALLOC, &queue);
    faults = queue.out_fault_fd;
    struct iommu_hwpt_alloc table = {
        .size = sizeof(table),
        .flags = IOMMU_HWPT_FAULT_ID_VALID,
        .dev_id = bind.out_devid,
        .pt_id = ioas.out_ioas_id,
        .fault_id = queue.out_fault_id,
    };
    must(iommu, "IOMMU_HWPT_ALLOC", IOMMU_HWPT_ALLOC, &table);
    struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = table.out_hwpt_id};
    if (ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) < 0) {
        fprintf(stderr, "VFIO_DEVICE_ATTACH_IOMMUFD_PT: %s\n", strerror(errno));
        fputs("This device cannot fault. Try: iommulator run --machine page-faults -- PROGRAM\n", stderr);
        return 1;
    }
    printf("queue %u, hardware page table %u\n", queue.out_fault_id, table.out_hwpt_id);
    start_device();
    memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    strcpy(memory + PAGE, "late, but here");
    map(ioas.out_ioas_id, memory, SEEN);

    step("The device reads where nothing is mapped, and asks for the page. We map it and answer: it tries again.");
    start(FAULTING_READ, LATE, 5);
    cookie = next_request();
    map(ioas.out_ioas_id, memory + PAGE, LATE);
    answer(cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    printf("the read ends: %s\n", end_of_command());
    start(CACHED_WRITE, SEEN, 0);
    end_of_command();
    printf("what it read: %.16s\n", memory);

    step("It writes where nothing shall be: we turn it down, and the access ends.");
    start(FAULTING_WRITE, NEVER, 6);
    answer(next_request(), IOMMUFD_PAGE_RESP_INVALID);
    printf("the write ends: %s\n", end_of_command());

    step("It writes there again, and we do not answer: it waits.");
    start(FAULTING_WRITE, NEVER, 7);
    cookie = next_request();
    printf("an interrupt: %s; state %s, %u request without an answer\n", is_readable(interrupts, 50) ? "yes" : "no",
           states[read_register(STATE)], read_register(OUTSTANDING));

    step("Detach while the answer is owed: it is given in our place, and ours comes too late.");
    struct vfio_device_detach_iommufd_pt detach = {.argsz = sizeof(detach)};
    must(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT", VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
    printf("the write ends: %s\n", end_of_command());
    answer(cookie, IOMMUFD_PAGE_RESP_SUCCESS);
    return 0;
}
