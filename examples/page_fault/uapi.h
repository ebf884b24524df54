// SPDX-License-Identifier: Apache-2.0
// What page_fault.c uses of <linux/iommufd.h> and <linux/vfio.h>. Where the headers of this machine are recent enough (Linux 6.11), they
// are used; otherwise the few structures are declared here.
#ifndef PAGE_FAULT_UAPI_H
#define PAGE_FAULT_UAPI_H

#include "../first_dma/uapi.h"

#ifndef IOMMU_FAULT_QUEUE_ALLOC
#ifdef IOMMU_HWPT_ALLOC
// Headers of a time at which tables could be made, but had no faults: their names are in the way.
#define iommu_hwpt_alloc iommu_hwpt_alloc_with_faults
#undef IOMMU_HWPT_ALLOC
#endif
#define IOMMU_HWPT_ALLOC _IO(IOMMUFD_TYPE, 0x89)
#define IOMMU_FAULT_QUEUE_ALLOC _IO(IOMMUFD_TYPE, 0x8e)
enum { IOMMU_HWPT_FAULT_ID_VALID = 4, IOMMUFD_PAGE_RESP_SUCCESS = 0, IOMMUFD_PAGE_RESP_INVALID = 1 };

struct iommu_hwpt_alloc {
    __u32 size, flags, dev_id, pt_id, out_hwpt_id, __reserved, data_type, data_len;
    __aligned_u64 data_uptr;
    __u32 fault_id, __reserved2;
};

struct iommu_fault_alloc {
    __u32 size, flags, out_fault_id, out_fault_fd;
};

struct iommu_hwpt_pgfault {
    __u32 flags, dev_id, pasid, grpid, perm, __reserved;
    __aligned_u64 addr;
    __u32 length, cookie;
};

struct iommu_hwpt_page_response {
    __u32 cookie, code;
};
#endif

#endif
