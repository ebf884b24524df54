// SPDX-License-Identifier: Apache-2.0
// First steps with /dev/iommu: address spaces for devices, memory mapped into them, and a few mistakes.
// An ordinary program: it knows nothing of iommulator, and runs on real Linux with the iommufd module as well.
import { closeSync, openSync } from 'node:fs';
import os from 'node:os';
import koffi from 'koffi';

// Node has no ioctl() and no mmap(): take them from the C library.
const libc = koffi.load(null);
const ioctl = libc.func('int ioctl(int fd, unsigned long request, ...)');
const mmap = libc.func(
  'intptr_t mmap(intptr_t address, size_t length, int prot, int flags, int fd, long offset)',
);

// From <linux/iommufd.h>. Every request passes one structure, whose first word is its size in bytes.
const request = (number) => (0x3b << 8) | number;
const IOMMU_DESTROY = request(0x80);
const IOMMU_IOAS_ALLOC = request(0x81);
const IOMMU_IOAS_COPY = request(0x83);
const IOMMU_IOAS_IOVA_RANGES = request(0x84);
const IOMMU_IOAS_MAP = request(0x85);
const IOMMU_IOAS_UNMAP = request(0x86);
const IOMMU_OPTION = request(0x87);
const FIXED_IOVA = 1;
const WRITEABLE = 2;
const READABLE = 4;
const OPTION_HUGE_PAGES = 1;
const OPTION_SET = 0;

const hex = (value) => `0x${value.toString(16)}`;
const say = (text) => console.log(text);
const step = (text) => say(`\n# ${text}`);

let iommu;
try {
  iommu = openSync('/dev/iommu', 'r+');
} catch (error) {
  console.error(`cannot open /dev/iommu: ${error.code}`);
  console.error('Try: iommulator run --strace -- node first_map.mjs');
  console.error('or, on Linux 6.2 or newer, as root: modprobe iommufd');
  process.exit(1);
}

/** Calls the kernel with a structure. Returns 0, or the error number, which a failed call leaves in errno. */
function call(number, structure) {
  return ioctl(iommu, number, 'void *', structure) === -1 ? koffi.errno() : 0;
}

/** The same for calls that must succeed. */
function must(number, structure) {
  const errno = call(number, structure);
  if (errno !== 0) throw new Error(`request ${hex(number)} failed with errno ${errno}`);
}

/** For calls that must fail: shows which error came, and why it is the right one. */
function mistake(what, expected, number, structure, why) {
  const errno = call(number, structure);
  if (errno !== os.constants.errno[expected]) {
    throw new Error(`${what}: expected ${expected}, got errno ${errno}`);
  }
  say(`${what}: ${expected}\n    ${why}`);
}

/** Builds a structure from its fields in order: a number is 32 bits wide, a bigint 64. */
function struct(...fields) {
  const bytes = Buffer.alloc(fields.reduce((sum, f) => sum + (typeof f === 'bigint' ? 8 : 4), 4));
  let at = bytes.writeUInt32LE(bytes.length, 0);
  for (const field of fields) {
    if (typeof field === 'bigint') at = bytes.writeBigUInt64LE(field, at);
    else at = bytes.writeUInt32LE(field, at);
  }
  return bytes;
}

// { size, flags, out_ioas_id }
function ioasAlloc() {
  const cmd = struct(0, 0);
  must(IOMMU_IOAS_ALLOC, cmd);
  return cmd.readUInt32LE(8);
}
// { size, flags, ioas_id, __reserved, user_va, length, iova }
const ioasMap = (flags, ioas, address, length, iova = 0n) =>
  struct(flags, ioas, 0, address, length, iova);
// { size, ioas_id, iova, length }
const ioasUnmap = (ioas, iova, length) => struct(ioas, iova, length);

step('An I/O address space (IOAS) is what devices see in place of physical memory.');
const ioas = ioasAlloc();
say(`IOAS ${ioas} exists.`);

step('Which I/O virtual addresses (IOVAs) may be used? Devices, once attached, narrow them.');
const ranges = Buffer.alloc(16 * 4);
// { size, ioas_id, num_iovas, __reserved, allowed_iovas, out_iova_alignment }
const query = struct(ioas, 4, 0, koffi.address(ranges), 0n);
must(IOMMU_IOAS_IOVA_RANGES, query);
for (let i = 0; i < query.readUInt32LE(8); i++) {
  const [first, last] = [0, 8].map((at) => ranges.readBigUInt64LE(16 * i + at));
  say(`${hex(first)} to ${hex(last)}, alignment ${query.readBigUInt64LE(24)}`);
}

step('Map 64 KiB of our memory for devices to read and write. The kernel picks the IOVA.');
const length = 0x10000n;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const memory = BigInt(mmap(0, Number(length), PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0));
const picked = ioasMap(READABLE | WRITEABLE, ioas, memory, length);
must(IOMMU_IOAS_MAP, picked);
const iova = picked.readBigUInt64LE(32);
say(`A device that accesses ${hex(iova)} reaches our memory at ${hex(memory)}.`);

step('Map a page of it again, at an IOVA of our own choice.');
const chosen = 0x100000n;
must(IOMMU_IOAS_MAP, ioasMap(READABLE | FIXED_IOVA, ioas, memory, 0x1000n, chosen));
say(`${hex(chosen)} reaches the same page, for reading only.`);

step('Share it with a second address space. COPY does not pin the memory a second time.');
const other = ioasAlloc();
// { size, flags, dst_ioas_id, src_ioas_id, length, dst_iova, src_iova }
const copy = struct(READABLE | FIXED_IOVA, other, ioas, length, 0x200000n, iova);
must(IOMMU_IOAS_COPY, copy);
say(`IOAS ${other} has at 0x200000 what IOAS ${ioas} has at ${hex(iova)}.`);

step('Mistakes, and what the kernel answers.');
mistake(
  'Mapping over a mapping',
  'EEXIST',
  IOMMU_IOAS_MAP,
  ioasMap(READABLE | FIXED_IOVA, ioas, memory, 0x1000n, chosen),
  'A mapping is never replaced: a device may be using it. Unmap first.',
);
// Without devices every IOVA will do. Mapping page by page is what most hardware asks for at the least.
// { size, option_id, op (16 bits) and __reserved, object_id, val64 }
must(IOMMU_OPTION, struct(OPTION_HUGE_PAGES, OPTION_SET, ioas, 0n));
mistake(
  'Mapping between two pages',
  'EINVAL',
  IOMMU_IOAS_MAP,
  ioasMap(READABLE | FIXED_IOVA, ioas, memory, 0x1000n, 0x1800n),
  'IOVA, address and length must be multiples of the alignment, now 4096.',
);
mistake(
  'Unmapping half of a mapping',
  'ENOENT',
  IOMMU_IOAS_UNMAP,
  ioasUnmap(ioas, iova, length / 2n),
  'No mapping lies wholly inside that range, and mappings are never split.',
);
mistake(
  'Naming an object that does not exist',
  'ENOENT',
  IOMMU_IOAS_MAP,
  ioasMap(READABLE, 99, memory, 0x1000n),
  'Ids are handed out by the kernel: there is no object 99.',
);
mistake(
  'A flag of the future',
  'EOPNOTSUPP',
  IOMMU_IOAS_MAP,
  ioasMap(READABLE | 0x80, ioas, memory, 0x1000n),
  'The structure is understood, but not this flag: the kernel is too old for it.',
);
const short = ioasMap(READABLE, ioas, memory, 0x1000n);
short.writeUInt32LE(16, 0);
mistake(
  'A structure that ends too early',
  'EINVAL',
  IOMMU_IOAS_MAP,
  short,
  'Its size must cover at least the fields that the first version had.',
);
const long = Buffer.concat([ioasMap(READABLE, ioas, memory, 0x1000n), Buffer.from([1, 0, 0, 0])]);
long.writeUInt32LE(long.length, 0);
mistake(
  'A structure with a field of the future',
  'E2BIG',
  IOMMU_IOAS_MAP,
  long,
  'Longer structures are welcome as long as what the kernel does not know is zero.',
);

step('Unmap everything, and give the address spaces back.');
const all = ioasUnmap(ioas, 0n, 0xffff_ffff_ffff_ffffn);
must(IOMMU_IOAS_UNMAP, all);
say(`${hex(all.readBigUInt64LE(16))} bytes unmapped from IOAS ${ioas}.`);
// { size, id }
must(IOMMU_DESTROY, struct(other));
must(IOMMU_DESTROY, struct(ioas));
mistake(
  'Destroying it once more',
  'ENOENT',
  IOMMU_DESTROY,
  struct(ioas),
  'Destroyed objects are gone at once, and their ids may be given out again.',
);
closeSync(iommu);
