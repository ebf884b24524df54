// SPDX-License-Identifier: Apache-2.0
// First steps with /dev/iommu: address spaces for devices, memory mapped into them, and a few mistakes.
// An ordinary program: it knows nothing of iommulator, and runs on real Linux with the iommufd module as well.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/iommufd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int iommu;

static void step(const char *text)
{
    printf("\n# %s\n", text);
}

// For calls that must succeed.
static void must(const char *what, unsigned long request, void *cmd)
{
    if (ioctl(iommu, request, cmd) == 0)
        return;
    fprintf(stderr, "%s failed: %s\n", what, strerror(errno));
    exit(1);
}

// For calls that must fail: shows which error came, and why it is the right one.
#define mistake(what, expected, request, cmd, why) check_mistake(what, expected, #expected, request, cmd, why)

static void check_mistake(const char *what, int expected, const char *name, unsigned long request, void *cmd,
                          const char *why)
{
    int error = ioctl(iommu, request, cmd) == 0 ? 0 : errno;

    if (error != expected) {
        fprintf(stderr, "%s: expected %s, got %s\n", what, name, strerror(error));
        exit(1);
    }
    printf("%s: %s\n    %s\n", what, name, why);
}

static uint32_t ioas_alloc(void)
{
    // Every request passes one structure, whose first field is its size in bytes.
    struct iommu_ioas_alloc cmd = {.size = sizeof(cmd)};

    must("IOMMU_IOAS_ALLOC", IOMMU_IOAS_ALLOC, &cmd);
    return cmd.out_ioas_id;
}

int main(void)
{
    iommu = open("/dev/iommu", O_RDWR);
    if (iommu < 0) {
        perror("cannot open /dev/iommu");
        fputs("Try: iommulator run --strace -- ./first_map\n"
              "or, on Linux 6.2 or newer, as root: modprobe iommufd\n", stderr);
        return 1;
    }

    step("An I/O address space (IOAS) is what devices see in place of physical memory.");
    uint32_t ioas = ioas_alloc();
    printf("IOAS %" PRIu32 " exists.\n", ioas);

    step("Which I/O virtual addresses (IOVAs) may be used? Devices, once attached, narrow them.");
    struct iommu_iova_range ranges[4];
    struct iommu_ioas_iova_ranges query = {
        .size = sizeof(query),
        .ioas_id = ioas,
        .num_iovas = 4,
        .allowed_iovas = (uintptr_t)ranges,
    };
    must("IOMMU_IOAS_IOVA_RANGES", IOMMU_IOAS_IOVA_RANGES, &query);
    for (uint32_t i = 0; i < query.num_iovas; i++)
        printf("0x%" PRIx64 " to 0x%" PRIx64 ", alignment %" PRIu64 "\n", (uint64_t)ranges[i].start,
               (uint64_t)ranges[i].last, (uint64_t)query.out_iova_alignment);

    step("Map 64 KiB of our memory for devices to read and write. The kernel picks the IOVA.");
    const size_t length = 0x10000;
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory,
        .length = length,
    };
    must("IOMMU_IOAS_MAP", IOMMU_IOAS_MAP, &map);
    uint64_t iova = map.iova;
    printf("A device that accesses %#" PRIx64 " reaches our memory at %p.\n", iova, memory);

    step("Map a page of it again, at an IOVA of our own choice.");
    struct iommu_ioas_map page = map;
    page.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_FIXED_IOVA;
    page.length = 0x1000;
    page.iova = 0x100000;
    must("IOMMU_IOAS_MAP", IOMMU_IOAS_MAP, &page);
    printf("%#" PRIx64 " reaches the same page, for reading only.\n", (uint64_t)page.iova);

    step("Share it with a second address space. COPY does not pin the memory a second time.");
    uint32_t other = ioas_alloc();
    struct iommu_ioas_copy copy = {
        .size = sizeof(copy),
        .flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_FIXED_IOVA,
        .dst_ioas_id = other,
        .src_ioas_id = ioas,
        .length = length,
        .dst_iova = 0x200000,
        .src_iova = iova,
    };
    must("IOMMU_IOAS_COPY", IOMMU_IOAS_COPY, &copy);
    printf("IOAS %" PRIu32 " has at 0x200000 what IOAS %" PRIu32 " has at %#" PRIx64 ".\n", other, ioas, iova);

    step("Mistakes, and what the kernel answers.");
    struct iommu_ioas_map wrong = page;
    mistake("Mapping over a mapping", EEXIST, IOMMU_IOAS_MAP, &wrong,
            "A mapping is never replaced: a device may be using it. Unmap first.");

    // Without devices every IOVA will do. Mapping page by page is what most hardware asks for at the least.
    struct iommu_option small_pages = {
        .size = sizeof(small_pages),
        .option_id = IOMMU_OPTION_HUGE_PAGES,
        .op = IOMMU_OPTION_OP_SET,
        .object_id = ioas,
        .val64 = 0,
    };
    must("IOMMU_OPTION", IOMMU_OPTION, &small_pages);
    wrong.iova = 0x1800;
    mistake("Mapping between two pages", EINVAL, IOMMU_IOAS_MAP, &wrong,
            "IOVA, address and length must be multiples of the alignment, now 4096.");

    struct iommu_ioas_unmap half = {.size = sizeof(half), .ioas_id = ioas, .iova = iova, .length = length / 2};
    mistake("Unmapping half of a mapping", ENOENT, IOMMU_IOAS_UNMAP, &half,
            "No mapping lies wholly inside that range, and mappings are never split.");

    wrong = page;
    wrong.flags = IOMMU_IOAS_MAP_READABLE;
    wrong.ioas_id = 99;
    mistake("Naming an object that does not exist", ENOENT, IOMMU_IOAS_MAP, &wrong,
            "Ids are handed out by the kernel: there is no object 99.");

    wrong.ioas_id = ioas;
    wrong.flags |= 0x80;
    mistake("A flag of the future", EOPNOTSUPP, IOMMU_IOAS_MAP, &wrong,
            "The structure is understood, but not this flag: the kernel is too old for it.");

    wrong.flags = IOMMU_IOAS_MAP_READABLE;
    wrong.size = 16;
    mistake("A structure that ends too early", EINVAL, IOMMU_IOAS_MAP, &wrong,
            "Its size must cover at least the fields that the first version had.");

    struct {
        struct iommu_ioas_map map;
        uint64_t future;
    } longer = {.map = wrong, .future = 1};
    longer.map.size = sizeof(longer);
    mistake("A structure with a field of the future", E2BIG, IOMMU_IOAS_MAP, &longer,
            "Longer structures are welcome as long as what the kernel does not know is zero.");

    step("Unmap everything, and give the address spaces back.");
    struct iommu_ioas_unmap all = {.size = sizeof(all), .ioas_id = ioas, .iova = 0, .length = UINT64_MAX};
    must("IOMMU_IOAS_UNMAP", IOMMU_IOAS_UNMAP, &all);
    printf("%#" PRIx64 " bytes unmapped from IOAS %" PRIu32 ".\n", (uint64_t)all.length, ioas);
    struct iommu_destroy destroy = {.size = sizeof(destroy), .id = other};
    must("IOMMU_DESTROY", IOMMU_DESTROY, &destroy);
    destroy.id = ioas;
    must("IOMMU_DESTROY", IOMMU_DESTROY, &destroy);
    mistake("Destroying it once more", ENOENT, IOMMU_DESTROY, &destroy,
            "Destroyed objects are gone at once, and their ids may be given out again.");
    close(iommu);
    return 0;
}
