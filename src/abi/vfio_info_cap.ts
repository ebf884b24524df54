// SPDX-License-Identifier: Apache-2.0
/** The head of the capabilities that VFIO's information calls chain. Source: Linux 7.2 include/uapi/linux/vfio.h. */
import { hex, oneOf, struct, u16, u32 } from './struct.ts';

export const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1;
export const VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2;
export const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3;
const info_cap_id = {
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
} as const;

/** As type 1 numbers them; devices and regions number theirs anew. `next` is the offset of the next capability from the start of the information, 0 at the last. */
export const vfio_info_cap_header = struct('vfio_info_cap_header', {
  id: oneOf(u16, info_cap_id),
  version: u16,
  next: hex(u32),
});
