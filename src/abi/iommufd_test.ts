// SPDX-License-Identifier: Apache-2.0
/**
 * The ioctl of the kernel's test driver, which makes mock devices and looks inside. Source: Linux 7.2
 * drivers/iommu/iommufd/iommufd_test.h. One number, {@link IOMMU_TEST_CMD}; `op` chooses the command and with it the
 * member of the union.
 */
import { ioctlNumber } from './ioctl.ts';
import { IOMMUFD_CMD_BASE, IOMMUFD_TYPE } from './iommufd_cmd.ts';
import { iommu_hwpt_pgfault_perm } from './iommufd_fault.ts';
import {
  fd,
  flagsOf,
  hex,
  id,
  oneOf,
  pointer,
  reserved,
  s32,
  struct,
  u32,
  u64,
  union,
} from './struct.ts';
import type { CType } from './struct.ts';

export * from './iommufd_test_types.ts';

/** A descriptor in a signed field. */
const signedFd: CType<number> = { ...s32, show: { as: 'fd' } };

/** The kernel gives this enumeration no name. */
export const iommu_test_op = {
  IOMMU_TEST_OP_ADD_RESERVED: 1,
  IOMMU_TEST_OP_MOCK_DOMAIN: 2,
  IOMMU_TEST_OP_MD_CHECK_MAP: 3,
  IOMMU_TEST_OP_MD_CHECK_REFS: 4,
  IOMMU_TEST_OP_CREATE_ACCESS: 5,
  IOMMU_TEST_OP_DESTROY_ACCESS_PAGES: 6,
  IOMMU_TEST_OP_ACCESS_PAGES: 7,
  IOMMU_TEST_OP_ACCESS_RW: 8,
  IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT: 9,
  IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE: 10,
  IOMMU_TEST_OP_ACCESS_REPLACE_IOAS: 11,
  IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS: 12,
  IOMMU_TEST_OP_DIRTY: 13,
  IOMMU_TEST_OP_MD_CHECK_IOTLB: 14,
  IOMMU_TEST_OP_TRIGGER_IOPF: 15,
  IOMMU_TEST_OP_DEV_CHECK_CACHE: 16,
  IOMMU_TEST_OP_TRIGGER_VEVENT: 17,
  IOMMU_TEST_OP_PASID_ATTACH: 18,
  IOMMU_TEST_OP_PASID_REPLACE: 19,
  IOMMU_TEST_OP_PASID_DETACH: 20,
  IOMMU_TEST_OP_PASID_CHECK_HWPT: 21,
  IOMMU_TEST_OP_DMABUF_GET: 22,
  IOMMU_TEST_OP_DMABUF_REVOKE: 23,
} as const;
export const {
  IOMMU_TEST_OP_ADD_RESERVED,
  IOMMU_TEST_OP_MOCK_DOMAIN,
  IOMMU_TEST_OP_MD_CHECK_MAP,
  IOMMU_TEST_OP_MD_CHECK_REFS,
  IOMMU_TEST_OP_CREATE_ACCESS,
  IOMMU_TEST_OP_DESTROY_ACCESS_PAGES,
  IOMMU_TEST_OP_ACCESS_PAGES,
  IOMMU_TEST_OP_ACCESS_RW,
  IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT,
  IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
  IOMMU_TEST_OP_ACCESS_REPLACE_IOAS,
  IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
  IOMMU_TEST_OP_DIRTY,
  IOMMU_TEST_OP_MD_CHECK_IOTLB,
  IOMMU_TEST_OP_TRIGGER_IOPF,
  IOMMU_TEST_OP_DEV_CHECK_CACHE,
  IOMMU_TEST_OP_TRIGGER_VEVENT,
  IOMMU_TEST_OP_PASID_ATTACH,
  IOMMU_TEST_OP_PASID_REPLACE,
  IOMMU_TEST_OP_PASID_DETACH,
  IOMMU_TEST_OP_PASID_CHECK_HWPT,
  IOMMU_TEST_OP_DMABUF_GET,
  IOMMU_TEST_OP_DMABUF_REVOKE,
} = iommu_test_op;

export const MOCK_IOMMUPT_DEFAULT = 0;
export const MOCK_IOMMUPT_HUGE = 1;

/** The aperture of a mock domain, both ends included, in bytes; for MOCK_IOMMUPT_DEFAULT, as are the page sizes. */
export const MOCK_APERTURE_START = 0x0100_0000;
export const MOCK_APERTURE_LAST = 0x7fff_ffff;
export const MOCK_PAGE_SIZE = 2048;
export const MOCK_HUGE_PAGE_SIZE = 512 * MOCK_PAGE_SIZE;

export const MOCK_FLAGS_ACCESS_WRITE = 1 << 0;
export const MOCK_FLAGS_ACCESS_SYZ = 1 << 16;
const access_flags = { MOCK_FLAGS_ACCESS_WRITE, MOCK_FLAGS_ACCESS_SYZ } as const;

export const MOCK_ACCESS_RW_WRITE = 1 << 0;
export const MOCK_ACCESS_RW_SLOW_PATH = 1 << 2;
const access_rw_flags = { MOCK_ACCESS_RW_WRITE, MOCK_ACCESS_RW_SLOW_PATH } as const;

export const MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES = 1 << 0;

export const MOCK_FLAGS_DEVICE_NO_DIRTY = 1 << 0;
export const MOCK_FLAGS_DEVICE_PASID = 1 << 2;
const device_flags = { MOCK_FLAGS_DEVICE_NO_DIRTY, MOCK_FLAGS_DEVICE_PASID } as const;

export const MOCK_NESTED_DOMAIN_IOTLB_ID_MAX = 3;
export const MOCK_NESTED_DOMAIN_IOTLB_NUM = 4;
export const MOCK_DEV_CACHE_ID_MAX = 3;
export const MOCK_DEV_CACHE_NUM = 4;

export const IOMMU_TEST_PASID_RESERVED = 1024;
export const MOCK_PASID_WIDTH = 20;

/** The member structures have no name in C either; `''` says so. */
const arms = union('', {
  add_reserved: struct('', { start: hex(u64), length: hex(u64) }),
  mock_domain: struct('', { out_stdev_id: id, out_hwpt_id: id, out_idev_id: id }),
  mock_domain_flags: struct('', {
    out_stdev_id: id,
    out_hwpt_id: id,
    out_idev_id: id,
    dev_flags: flagsOf(u32, device_flags),
  }),
  mock_domain_replace: struct('', { pt_id: id }),
  check_map: struct('', { iova: hex(u64), length: hex(u64), uptr: pointer }),
  check_refs: struct('', { length: hex(u64), uptr: pointer, refs: u32 }),
  create_access: struct('', {
    out_access_fd: fd,
    flags: flagsOf(u32, { MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES }),
  }),
  destroy_access_pages: struct('', { access_pages_id: id }),
  access_pages: struct('', {
    flags: flagsOf(u32, access_flags),
    out_access_pages_id: id,
    iova: hex(u64),
    length: hex(u64),
    uptr: pointer,
  }),
  access_rw: struct('', {
    iova: hex(u64),
    length: hex(u64),
    uptr: pointer,
    flags: flagsOf(u32, access_rw_flags),
  }),
  memory_limit: struct('', { limit: u32 }),
  access_replace_ioas: struct('', { ioas_id: id }),
  dirty: struct('', {
    flags: flagsOf(u32, {}),
    iova: hex(u64),
    length: hex(u64),
    page_size: hex(u64),
    uptr: pointer,
    out_nr_dirty: u64,
  }),
  check_iotlb: struct('', { id: u32, iotlb: hex(u32) }),
  trigger_iopf: struct('', {
    dev_id: id,
    pasid: u32,
    grpid: u32,
    perm: flagsOf(u32, iommu_hwpt_pgfault_perm),
    addr: hex(u64),
  }),
  check_dev_cache: struct('', { id: u32, cache: hex(u32) }),
  trigger_vevent: struct('', { dev_id: id }),
  pasid_attach: struct('', { pasid: u32, pt_id: id }),
  pasid_replace: struct('', { pasid: u32, pt_id: id }),
  pasid_detach: struct('', { pasid: u32 }),
  pasid_check: struct('', { pasid: u32, hwpt_id: id }),
  dmabuf_get: struct('', { length: u32, open_flags: hex(u32) }),
  dmabuf_revoke: struct('', { dmabuf_fd: signedFd, revoked: u32 }),
});

/**
 * `u` is C's anonymous union. `id` is the object that the command is about (an IOAS, a mock device, an access...);
 * `last` only makes sure that the structure is larger than every member.
 */
export const iommu_test_cmd = struct('iommu_test_cmd', {
  size: u32,
  op: oneOf(u32, iommu_test_op),
  id: id,
  __reserved: reserved(u32),
  u: arms,
  last: reserved(u32),
});
export const IOMMU_TEST_CMD = ioctlNumber(IOMMUFD_TYPE, IOMMUFD_CMD_BASE + 32);

/** Which member of `iommu_test_cmd.u` a command uses. */
export const iommu_test_op_member: Readonly<Record<number, keyof ReturnType<typeof arms.on>>> = {
  [IOMMU_TEST_OP_ADD_RESERVED]: 'add_reserved',
  [IOMMU_TEST_OP_MOCK_DOMAIN]: 'mock_domain',
  [IOMMU_TEST_OP_MD_CHECK_MAP]: 'check_map',
  [IOMMU_TEST_OP_MD_CHECK_REFS]: 'check_refs',
  [IOMMU_TEST_OP_CREATE_ACCESS]: 'create_access',
  [IOMMU_TEST_OP_DESTROY_ACCESS_PAGES]: 'destroy_access_pages',
  [IOMMU_TEST_OP_ACCESS_PAGES]: 'access_pages',
  [IOMMU_TEST_OP_ACCESS_RW]: 'access_rw',
  [IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT]: 'memory_limit',
  [IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE]: 'mock_domain_replace',
  [IOMMU_TEST_OP_ACCESS_REPLACE_IOAS]: 'access_replace_ioas',
  [IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS]: 'mock_domain_flags',
  [IOMMU_TEST_OP_DIRTY]: 'dirty',
  [IOMMU_TEST_OP_MD_CHECK_IOTLB]: 'check_iotlb',
  [IOMMU_TEST_OP_TRIGGER_IOPF]: 'trigger_iopf',
  [IOMMU_TEST_OP_DEV_CHECK_CACHE]: 'check_dev_cache',
  [IOMMU_TEST_OP_TRIGGER_VEVENT]: 'trigger_vevent',
  [IOMMU_TEST_OP_PASID_ATTACH]: 'pasid_attach',
  [IOMMU_TEST_OP_PASID_REPLACE]: 'pasid_replace',
  [IOMMU_TEST_OP_PASID_DETACH]: 'pasid_detach',
  [IOMMU_TEST_OP_PASID_CHECK_HWPT]: 'pasid_check',
  [IOMMU_TEST_OP_DMABUF_GET]: 'dmabuf_get',
  [IOMMU_TEST_OP_DMABUF_REVOKE]: 'dmabuf_revoke',
};

export const IOMMU_HW_INFO_SELFTEST_REGVAL = 0xdeadbeef;

export const iommu_test_hw_info = struct('iommu_test_hw_info', {
  flags: flagsOf(u32, {}),
  test_reg: hex(u32),
});

export const IOMMU_TEST_IOTLB_DEFAULT = 0xbadbeef;
export const IOMMU_TEST_DEV_CACHE_DEFAULT = 0xbaddad;

export const iommu_hwpt_selftest = struct('iommu_hwpt_selftest', {
  iotlb: hex(u32),
  pagetable_type: oneOf(u32, { MOCK_IOMMUPT_DEFAULT, MOCK_IOMMUPT_HUGE }),
});

export const IOMMU_TEST_INVALIDATE_FLAG_ALL = 1 << 0;

export const iommu_hwpt_invalidate_selftest = struct('iommu_hwpt_invalidate_selftest', {
  flags: flagsOf(u32, { IOMMU_TEST_INVALIDATE_FLAG_ALL }),
  iotlb_id: u32,
});

/** `out_mmap_offset` and `out_mmap_length` are for an mmap of the iommufd descriptor, in bytes. */
export const iommu_viommu_selftest = struct('iommu_viommu_selftest', {
  in_data: hex(u32),
  out_data: hex(u32),
  out_mmap_offset: hex(u64),
  out_mmap_length: hex(u64),
});

export const iommu_viommu_invalidate_selftest = struct('iommu_viommu_invalidate_selftest', {
  flags: flagsOf(u32, { IOMMU_TEST_INVALIDATE_FLAG_ALL }),
  vdev_id: u32,
  cache_id: u32,
});

export const iommu_viommu_event_selftest = struct('iommu_viommu_event_selftest', {
  virt_id: hex(u32),
});

export const IOMMU_TEST_HW_QUEUE_MAX = 2;
