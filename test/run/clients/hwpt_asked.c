// SPDX-License-Identifier: Apache-2.0
// Questions about the page tables of a device behind VT-d (asked.h): which kinds there are, where they can be attached, what guests may ask.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include "asked.h"

enum { FLAGS = 32, RANGES = 16 };

static int device, iommu;
static unsigned dev_id, ioas, fault_id;
// Of the last table that could be made, 0 where the last could not.
static unsigned hwpt;

static int bind_it(void)
{
    struct vfio_device_bind_iommufd bind = {.argsz = 16, .iommufd = iommu};
    int result = ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind);
    dev_id = bind.out_devid;
    return result;
}

static int make_ioas(void)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
    int result = ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc);
    ioas = alloc.out_ioas_id;
    return result;
}

static int make_queue(void)
{
    struct iommu_fault_alloc alloc = {.size = sizeof alloc};
    int result = ioctl(iommu, IOMMU_FAULT_QUEUE_ALLOC, &alloc);
    fault_id = alloc.out_fault_id;
    return result;
}

static struct iommu_hw_info info;
static struct iommu_hw_info_vtd registers;

static int get_info(void)
{
    info = (struct iommu_hw_info){.size = sizeof info, .dev_id = dev_id};
    info.data_len = sizeof registers;
    info.data_uptr = (uintptr_t)&registers;
    return ioctl(iommu, IOMMU_GET_HW_INFO, &info);
}

static int make_viommu(unsigned type, unsigned parent)
{
    struct iommu_viommu_alloc alloc = {.size = sizeof alloc, .type = type, .dev_id = dev_id, .hwpt_id = parent};
    return ioctl(iommu, IOMMU_VIOMMU_ALLOC, &alloc);
}

static int make(unsigned parent, unsigned flags, unsigned type, void *data, unsigned bytes)
{
    struct iommu_hwpt_alloc alloc = {.size = sizeof alloc, .flags = flags, .dev_id = dev_id, .pt_id = parent};
    alloc.data_type = type;
    alloc.data_len = bytes;
    alloc.data_uptr = (uintptr_t)data;
    alloc.fault_id = flags & IOMMU_HWPT_FAULT_ID_VALID ? fault_id : 0;
    int result = ioctl(iommu, IOMMU_HWPT_ALLOC, &alloc);
    hwpt = result < 0 ? 0 : alloc.out_hwpt_id;
    return result;
}

static int destroy(unsigned id)
{
    struct iommu_destroy command = {.size = sizeof command, .id = id};
    return ioctl(iommu, IOMMU_DESTROY, &command);
}

static int attach(unsigned table)
{
    struct vfio_device_attach_iommufd_pt command = {.argsz = 12, .pt_id = table};
    return ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &command);
}

static int attach_at(unsigned pasid, unsigned table)
{
    struct vfio_device_attach_iommufd_pt command = {.argsz = 16, .flags = 1, .pt_id = table, .pasid = pasid};
    return ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &command);
}

static int detach(void)
{
    struct vfio_device_detach_iommufd_pt command = {.argsz = 8};
    return ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &command);
}

static int detach_at(unsigned pasid)
{
    struct vfio_device_detach_iommufd_pt command = {.argsz = 12, .flags = 1, .pasid = pasid};
    return ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &command);
}

static int track(unsigned table, unsigned flags)
{
    struct iommu_hwpt_set_dirty_tracking command = {.size = sizeof command, .flags = flags, .hwpt_id = table};
    return ioctl(iommu, IOMMU_HWPT_SET_DIRTY_TRACKING, &command);
}

static void show_ranges(void)
{
    struct iommu_iova_range ranges[RANGES];
    struct iommu_ioas_iova_ranges command = {.size = sizeof command, .ioas_id = ioas, .num_iovas = RANGES};
    command.allowed_iovas = (uintptr_t)ranges;
    ASK(ioctl(iommu, IOMMU_IOAS_IOVA_RANGES, &command));
    for (unsigned i = 0; i < command.num_iovas; i++)
        printf("  %#llx to %#llx\n", (long long)ranges[i].start, (long long)ranges[i].last);
    SHOW(command.out_iova_alignment);
}

// Every combination of flags; tables that can be made are attached.
static unsigned tables[FLAGS];

static void ask_flags(void)
{
    for (unsigned flags = 0; flags < FLAGS; flags++) {
        SHOW(flags);
        ASK(make(ioas, flags, IOMMU_HWPT_DATA_NONE, NULL, 0));
        tables[flags] = hwpt;
    }
    for (unsigned flags = 0; flags < FLAGS; flags++) {
        if (!tables[flags])
            continue;
        SHOW(flags);
        ASK(attach(tables[flags]));
        show_ranges();
        ASK(track(tables[flags], IOMMU_HWPT_DIRTY_TRACKING_ENABLE));
        ASK(track(tables[flags], 0));
        ASK(detach());
        ASK(attach_at(5, tables[flags]));
        ASK(detach_at(5));
    }
}

static void ask_spaces(void)
{
    ASK(attach(ioas));
    ASK(attach_at(7, ioas));
    ASK(detach_at(7));
    ASK(attach_at(0, ioas));
    ASK(attach_at(1 << 20, ioas));
    ASK(detach());
}

static void ask_nested(unsigned parent)
{
    struct iommu_hwpt_vtd_s1 data = {.pgtbl_addr = 0x1000, .addr_width = 48};
    for (unsigned type = 0; type < 4; type++) {
        SHOW(type);
        ASK(make(parent, 0, type, &data, sizeof data));
        if (!hwpt)
            continue;
        ASK(attach(hwpt));
        ASK(detach());
        ASK(destroy(hwpt));
    }
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    device = open(CDEV, O_RDWR);
    iommu = open("/dev/iommu", O_RDWR);
    ASK(bind_it());
    ASK(make_ioas());
    ASK(get_info());
    SHOW(info.out_data_type);
    SHOW(info.data_len);
    SHOW(info.out_capabilities);
    SHOW(info.out_max_pasid_log2);
    SHOW(registers.cap_reg);
    SHOW(registers.ecap_reg);
    ASK(make_queue());
    ASK(make_viommu(0, ioas));
    ASK(make_viommu(1, ioas));
    ask_flags();
    ask_spaces();
    ask_nested(ioas);
    ask_nested(tables[0]);
    ask_nested(tables[IOMMU_HWPT_ALLOC_NEST_PARENT]);
    return 0;
}
