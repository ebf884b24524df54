// SPDX-License-Identifier: Apache-2.0
// What a hypervisor does for a guest that has an IOMMU of its own: the guest's table (first stage) leads from the guest's I/O addresses to
// its physical ones, ours (second stage) from there to our memory, and the device goes through both. The "guest" is this program: its
// memory is 64 KiB of ours, and it writes its own page table into it. The device is edu, behind Intel VT-d in scalable mode.
// An ordinary program: it knows nothing of iommulator, and runs on real Linux (6.7 or newer) with such hardware as well.
import { closeSync, openSync, readSync } from 'node:fs';
import koffi from 'koffi';

// Node has no ioctl(), no mmap() and no positions above 2^53 - 1 in a file: take them from the C library.
const libc = koffi.load(null);
const ioctl = libc.func('int ioctl(int fd, unsigned long request, ...)');
const mmap = libc.func(
  'intptr_t mmap(intptr_t address, size_t length, int prot, int flags, int fd, long offset)',
);
const pread = libc.func('intptr_t pread(int fd, void *into, size_t count, int64_t offset)');
const pwrite = libc.func('intptr_t pwrite(int fd, void *from, size_t count, int64_t offset)');
const eventfd = libc.func('int eventfd(unsigned int initial, int flags)');
const poll = libc.func('int poll(void *fds, unsigned long count, int timeout)');
const strerror = libc.func('const char *strerror(int errno)');

// From <linux/iommufd.h> and <linux/vfio.h>. Every request passes one structure, whose first word is its size in bytes.
const IOMMU_DESTROY = 0x3b80;
const IOMMU_IOAS_ALLOC = 0x3b81;
const IOMMU_IOAS_MAP = 0x3b85;
const IOMMU_HWPT_ALLOC = 0x3b89;
const IOMMU_HWPT_INVALIDATE = 0x3b8d;
const [FIXED_IOVA, WRITEABLE, READABLE] = [1, 2, 4];
const NEST_PARENT = 1;
const HWPT_DATA_VTD_S1 = 1;
const INVALIDATE_DATA_VTD_S1 = 0;
const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
const VFIO_DEVICE_SET_IRQS = 0x3b6e;
const VFIO_DEVICE_BIND_IOMMUFD = 0x3b76;
const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;
const [BAR0_REGION, CONFIG_REGION, MSI_IRQ] = [0, 7, 1];
const [DATA_EVENTFD, ACTION_TRIGGER] = [1 << 2, 1 << 5];

const PAGE = 4096;
// The guest's memory: where it begins for the guest, and which of its pages are what.
const GUEST_MEMORY = 0x100000;
const [PML4, PDPT, PD, PT, FIRST, SECOND, SEEN, PAGES] = [0, 1, 2, 3, 8, 9, 10, 16];
// Where the guest's driver tells the device to read.
const ADDRESS = 0x200000;
// Bits of an entry of a first-stage table: as the processor's own.
const [PRESENT, WRITABLE, USER] = [1, 2, 4];

// Registers of edu, and its buffer.
const [IRQ_STATUS, IRQ_ACKNOWLEDGE] = [0x24, 0x64];
const [DMA_SOURCE, DMA_DESTINATION, DMA_COUNT, DMA_COMMAND] = [0x80, 0x88, 0x90, 0x98];
const [RUN, TO_MEMORY, INTERRUPT, BUFFER] = [1, 2, 4, 0x40000];

const say = (text) => console.log(text);
const step = (text) => say(`\n# ${text}`);

function die(...lines) {
  for (const line of lines) console.error(line);
  process.exit(1);
}

/** Numbers are 32-bit fields, bigints 64-bit ones. */
const bytesOf = (fields) =>
  Buffer.from(
    Uint32Array.from(
      fields.flatMap((field) =>
        typeof field === 'bigint'
          ? [Number(field & 0xffff_ffffn), Number(field >> 32n)]
          : [field >>> 0],
      ),
    ).buffer,
  );

/** Calls the kernel with a structure of these fields after its size: it as it was left, or undefined. */
function tryCall(fd, request, ...fields) {
  const rest = bytesOf(fields);
  const structure = Buffer.concat([bytesOf([rest.length + 4]), rest]);
  return ioctl(fd, request, 'void *', structure) === -1 ? undefined : structure;
}

function call(fd, request, ...fields) {
  const structure = tryCall(fd, request, ...fields);
  return structure ?? die(`request 0x${request.toString(16)}: ${strerror(koffi.errno())}`);
}

const addressOf = (buffer) => koffi.address(buffer);

function open(path) {
  try {
    return openSync(path, 'r+');
  } catch (error) {
    return die(`${path}: ${error.code}`);
  }
}

step('The device, bound to /dev/iommu.');
const device = open(process.argv[2] ?? '/dev/vfio/devices/vfio0');
const iommu = open('/dev/iommu');
// flags, iommufd, out_devid
const bound = call(device, VFIO_DEVICE_BIND_IOMMUFD, 0, iommu, 0).readUInt32LE(12);
say(`bound as device ${bound}`);

step(
  "The guest's memory: 64 KiB of ours, which the guest knows as 0x100000. This map is the second stage.",
);
const address = mmap(0, PAGES * PAGE, 3, 0x22, -1, 0); // PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS
const memory = Buffer.from(koffi.view(BigInt(address), PAGES * PAGE));
const ioas = call(iommu, IOMMU_IOAS_ALLOC, 0, 0).readUInt32LE(8); // flags, out_ioas_id
// flags, ioas_id, __reserved, user_va, length, iova
const flags = FIXED_IOVA | READABLE | WRITEABLE;
const mapped = [BigInt(address), BigInt(PAGES * PAGE), BigInt(GUEST_MEMORY)];
call(iommu, IOMMU_IOAS_MAP, flags, ioas, 0, ...mapped);

/** flags, dev_id, pt_id, out_hwpt_id, __reserved, data_type, data_len, data_uptr, fault_id, __reserved2 */
const allocTable = (allocFlags, on, type, data) =>
  tryCall(
    iommu,
    IOMMU_HWPT_ALLOC,
    ...[allocFlags, bound, on, 0, 0, type, data?.length ?? 0, data ? addressOf(data) : 0n, 0, 0],
  )?.readUInt32LE(16);
const parent = allocTable(NEST_PARENT, ioas, 0);
if (parent === undefined) {
  die(
    `IOMMU_HWPT_ALLOC with NEST_PARENT: ${strerror(koffi.errno())}`,
    'The IOMMU of this device does not nest.',
    'Try: iommulator run --machine vtd --strace -- node nested.mjs',
  );
}
say(`second stage: hardware page table ${parent}`);

step(
  "The guest's own table, in its memory: 0x200000 leads to its page 8. This is the first stage.",
);
/** An entry of one of the guest's tables, which leads to another of its pages. */
function setEntry(table, index, page) {
  const entry = page === undefined ? 0 : (GUEST_MEMORY + page * PAGE) | PRESENT | WRITABLE | USER;
  memory.writeBigUInt64LE(BigInt(entry), table * PAGE + index * 8);
}
memory.write('the first page\0', FIRST * PAGE);
memory.write('the second page\0', SECOND * PAGE);
setEntry(PML4, 0, PDPT);
setEntry(PDPT, 0, PD);
setEntry(PD, 1, PT);
setEntry(PT, 0, FIRST);
setEntry(PT, 1, SEEN);
// struct iommu_hwpt_vtd_s1: flags, pgtbl_addr, addr_width, __reserved
const vtd = bytesOf([0n, BigInt(GUEST_MEMORY + PML4 * PAGE), 48, 0]);
const nested = allocTable(0, parent, HWPT_DATA_VTD_S1, vtd);
if (nested === undefined) die(`IOMMU_HWPT_ALLOC: ${strerror(koffi.errno())}`);
call(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, 0, nested); // flags, pt_id
say(`first stage: hardware page table ${nested}, and the device is attached to it`);

step("DMA through both stages: 0x200000, by the guest's table to 0x108000, by ours to our memory.");
// flags, index, cap_offset, size, offset
const regionOffset = (index) =>
  call(device, VFIO_DEVICE_GET_REGION_INFO, 0, index, 0, 0n, 0n).readBigUInt64LE(24);
const [bar0, config] = [regionOffset(BAR0_REGION), regionOffset(CONFIG_REGION)];
const word = Buffer.alloc(8);
function writeRegister(offset, value, size = 8) {
  word.writeBigUInt64LE(BigInt(value));
  if (pwrite(device, word, size, bar0 + BigInt(offset)) !== size)
    die('a register cannot be written');
}
// Bus mastering, and MSI into an eventfd.
if (pread(device, word, 2, config + 4n) !== 2) die('config space cannot be read');
word.writeUInt16LE(word.readUInt16LE() | 4);
if (pwrite(device, word, 2, config + 4n) !== 2) die('config space cannot be written');
const interrupts = eventfd(0, 0);
// flags, index, start, count, then the descriptors
call(device, VFIO_DEVICE_SET_IRQS, DATA_EVENTFD | ACTION_TRIGGER, MSI_IRQ, 0, 1, interrupts);

function transfer(from, to, command) {
  writeRegister(DMA_SOURCE, from);
  writeRegister(DMA_DESTINATION, to);
  writeRegister(DMA_COUNT, 16);
  writeRegister(DMA_COMMAND, RUN | INTERRUPT | command);
  const waiting = Buffer.from(Int32Array.of(interrupts, 1).buffer); // POLLIN
  if (poll(waiting, 1, 5000) !== 1) die('no interrupt came within 5 seconds');
  readSync(interrupts, Buffer.alloc(8));
  if (pread(device, word, 4, bar0 + BigInt(IRQ_STATUS)) !== 4) die('a register cannot be read');
  writeRegister(IRQ_ACKNOWLEDGE, word.readUInt32LE(), 4);
}

/** The device reads 16 bytes at ADDRESS, and writes them to the page after it, which the guest's table leads to page 10. */
function readByDevice() {
  const seen = memory.subarray(SEEN * PAGE, SEEN * PAGE + 16).fill(0);
  transfer(ADDRESS, BUFFER, 0);
  transfer(BUFFER, ADDRESS + PAGE, TO_MEMORY);
  const text = seen.toString('latin1').split('\0')[0];
  say(`the device reads: ${seen[0] === 0xff ? 'nothing (all ones)' : text}`);
}
readByDevice();

/** hwpt_id, data_uptr, data_type, entry_len, entry_num, __reserved; an entry is addr, npages, flags, __reserved */
function invalidate() {
  const range = bytesOf([BigInt(ADDRESS), 1n, 0, 0]);
  const what = [INVALIDATE_DATA_VTD_S1, range.length, 1, 0];
  call(iommu, IOMMU_HWPT_INVALIDATE, nested, addressOf(range), ...what);
}

step('The guest changes its table: 0x200000 leads to its page 9 now. It tells nobody.');
setEntry(PT, 0, SECOND);
readByDevice();

step('It invalidates: what the hardware has cached of that page is gone.');
invalidate();
readByDevice();

step('It takes the entry away, and invalidates.');
setEntry(PT, 0, undefined);
invalidate();
readByDevice();

step('The end: detach, and the tables in the order in which one stands on the other.');
call(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, 0);
const isGone = tryCall(iommu, IOMMU_DESTROY, parent) !== undefined;
say(`the second stage first: ${isGone ? 'destroyed' : strerror(koffi.errno())}`);
call(iommu, IOMMU_DESTROY, nested);
call(iommu, IOMMU_DESTROY, parent);
say('both destroyed');
closeSync(device);
closeSync(iommu);
