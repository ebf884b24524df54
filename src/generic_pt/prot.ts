// SPDX-License-Identifier: Apache-2.0

/**
 * What a mapping allows, as the callers of a map say it (the numbers of Linux's IOMMU_READ and so on; source:
 * include/linux/iommu.h). Formats keep READ and WRITE; the others matter where a format has a bit for them.
 */
export const Prot = {
  READ: 1,
  WRITE: 2,
  /** DMA is cache coherent. */
  CACHE: 4,
  NOEXEC: 8,
  /** A device's registers, not memory: an MSI doorbell for example. */
  MMIO: 16,
  PRIV: 32,
} as const;
