// SPDX-License-Identifier: Apache-2.0
// What first_dma.c uses of <linux/iommufd.h> and <linux/vfio.h>. Where the headers of this machine are recent enough (Linux 6.6), they
// are used; otherwise the few structures are declared here.
#ifndef FIRST_DMA_UAPI_H
#define FIRST_DMA_UAPI_H

#include <linux/types.h>
#include <linux/vfio.h>

#ifdef __has_include
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif
#endif

#ifndef IOMMUFD_TYPE
#define IOMMUFD_TYPE ';'
#define IOMMU_IOAS_ALLOC _IO(IOMMUFD_TYPE, 0x81)
#define IOMMU_IOAS_MAP _IO(IOMMUFD_TYPE, 0x85)
#define IOMMU_IOAS_UNMAP _IO(IOMMUFD_TYPE, 0x86)
#define IOMMU_IOAS_MAP_FIXED_IOVA 1
#define IOMMU_IOAS_MAP_WRITEABLE 2
#define IOMMU_IOAS_MAP_READABLE 4

struct iommu_ioas_alloc {
    __u32 size, flags, out_ioas_id;
};

struct iommu_ioas_map {
    __u32 size, flags, ioas_id, __reserved;
    __aligned_u64 user_va, length, iova;
};

struct iommu_ioas_unmap {
    __u32 size, ioas_id;
    __aligned_u64 iova, length;
};
#endif

#ifndef VFIO_DEVICE_BIND_IOMMUFD
#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
#define VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)

struct vfio_device_bind_iommufd {
    __u32 argsz, flags;
    __s32 iommufd;
    __u32 out_devid;
};

struct vfio_device_attach_iommufd_pt {
    __u32 argsz, flags, pt_id;
};

struct vfio_device_detach_iommufd_pt {
    __u32 argsz, flags;
};
#endif

#endif
