// SPDX-License-Identifier: Apache-2.0
// What nested.c uses of <linux/iommufd.h> and <linux/vfio.h>. Where the headers of this machine are recent enough (Linux 6.7), they
// are used; otherwise the few structures are declared here.
#ifndef NESTED_UAPI_H
#define NESTED_UAPI_H

#include "../first_dma/uapi.h"

#ifndef IOMMU_HWPT_INVALIDATE
#ifdef IOMMU_HWPT_ALLOC
// Headers of a time at which tables could be made, but had no data: their names are in the way.
#define iommu_hwpt_alloc iommu_hwpt_alloc_with_data
#undef IOMMU_HWPT_ALLOC
#endif
#ifndef IOMMU_DESTROY
#define IOMMU_DESTROY _IO(IOMMUFD_TYPE, 0x80)
struct iommu_destroy {
    __u32 size, id;
};
#endif
#define IOMMU_HWPT_ALLOC _IO(IOMMUFD_TYPE, 0x89)
#define IOMMU_HWPT_INVALIDATE _IO(IOMMUFD_TYPE, 0x8d)
enum { IOMMU_HWPT_ALLOC_NEST_PARENT = 1, IOMMU_HWPT_DATA_VTD_S1 = 1, IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0 };

struct iommu_hwpt_alloc {
    __u32 size, flags, dev_id, pt_id, out_hwpt_id, __reserved, data_type, data_len;
    __aligned_u64 data_uptr;
    __u32 fault_id, __reserved2;
};

struct iommu_hwpt_vtd_s1 {
    __aligned_u64 flags, pgtbl_addr;
    __u32 addr_width, __reserved;
};

struct iommu_hwpt_invalidate {
    __u32 size, hwpt_id;
    __aligned_u64 data_uptr;
    __u32 data_type, entry_len, entry_num, __reserved;
};

struct iommu_hwpt_vtd_s1_invalidate {
    __aligned_u64 addr, npages;
    __u32 flags, __reserved;
};
#endif

#endif
