// SPDX-License-Identifier: Apache-2.0
// A driver in user space, as small as it can be: find a PCI device, bind it to /dev/iommu, give it a page of our memory, let it
// read and write there, and see what happens where it may not. The device is edu, the educational device of QEMU.
// An ordinary program: it knows nothing of iommulator, and runs on real Linux (6.6 or newer) with such a device as well.
import { closeSync, openSync, readFileSync, readSync, readdirSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
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

const DEVICES = '/sys/bus/pci/devices';
const PAGE = 4096;

// From <linux/iommufd.h> and <linux/vfio.h>. Every request passes one structure, whose first word is its size in bytes.
const IOMMU_IOAS_ALLOC = 0x3b81;
const IOMMU_IOAS_MAP = 0x3b85;
const IOMMU_IOAS_UNMAP = 0x3b86;
const FIXED_IOVA = 1;
const WRITEABLE = 2;
const READABLE = 4;
const VFIO_DEVICE_GET_INFO = 0x3b6b;
const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
const VFIO_DEVICE_SET_IRQS = 0x3b6e;
const VFIO_DEVICE_BIND_IOMMUFD = 0x3b76;
const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;
const BAR0_REGION = 0;
const CONFIG_REGION = 7;
const MSI_IRQ = 1;
const DATA_EVENTFD = 1 << 2;
const ACTION_TRIGGER = 1 << 5;

// The registers of edu in its BAR 0, and its buffer, as its own DMA engine sees it.
const [IDENTIFICATION, LIVENESS, FACTORIAL, STATUS] = [0x00, 0x04, 0x08, 0x20];
const [IRQ_STATUS, IRQ_ACKNOWLEDGE] = [0x24, 0x64];
const [DMA_SOURCE, DMA_DESTINATION, DMA_COUNT, DMA_COMMAND] = [0x80, 0x88, 0x90, 0x98];
const [RUN, TO_MEMORY, INTERRUPT] = [1, 2, 4];
const COMPUTING = 1;
const BUFFER = 0x40000;

const hex = (value) => `0x${value.toString(16)}`;
const say = (text) => console.log(text);
const step = (text) => say(`\n# ${text}`);
const bytesText = (bytes) => bytes.toString('hex').replace(/..\B/g, '$& ');

function die(...lines) {
  for (const line of lines) console.error(line);
  process.exit(1);
}

/** Calls the kernel with a structure of 32-bit fields (numbers) and 64-bit ones (bigints) after its size; returns it as it was left. */
function call(fd, request, ...fields) {
  const words = fields.flatMap((field) =>
    typeof field === 'bigint'
      ? [Number(field & 0xffff_ffffn), Number(field >> 32n)]
      : [field >>> 0],
  );
  const structure = Buffer.from(Uint32Array.of(4 * words.length + 4, ...words).buffer);
  if (ioctl(fd, request, 'void *', structure) === -1) {
    throw new Error(`request ${hex(request)} failed with errno ${koffi.errno()}`);
  }
  return structure;
}

function readLine(bdf, name) {
  try {
    return readFileSync(`${DEVICES}/${bdf}/${name}`, 'utf8').split('\n')[0];
  } catch {
    return '';
  }
}

function open(path) {
  try {
    return openSync(path, 'r+');
  } catch (error) {
    return die(`${path}: ${error.code}`);
  }
}

step('Find the device in sysfs: vendor 0x1234, device 0x11e8.');
let names = [];
try {
  names = readdirSync(DEVICES).toSorted();
} catch {
  // A machine without PCI.
}
const bdf = names.find(
  (name) => readLine(name, 'vendor') === '0x1234' && readLine(name, 'device') === '0x11e8',
);
if (bdf === undefined) {
  die(
    'no such device here.',
    'Try: iommulator run --strace -- node first_dma.mjs',
    'or QEMU with -device edu and an IOMMU, and the device bound to vfio-pci',
  );
}
const linkEnd = (name) => basename(readlinkSync(`${DEVICES}/${bdf}/${name}`));
const cdev = readdirSync(`${DEVICES}/${bdf}/vfio-dev`)[0];
say(
  `${bdf}, in IOMMU group ${linkEnd('iommu_group')}, driver ${linkEnd('driver')}, character device ${cdev}`,
);

step('Open it and /dev/iommu, and bind the one to the other: only now it answers.');
const device = open(`/dev/vfio/devices/${cdev}`);
const iommu = open('/dev/iommu');
call(device, VFIO_DEVICE_BIND_IOMMUFD, 0, iommu, 0); // flags, iommufd, out_devid
const info = call(device, VFIO_DEVICE_GET_INFO, 0, 0, 0, 0); // flags, num_regions, num_irqs, cap_offset
say(`it has ${info.readUInt32LE(8)} regions and ${info.readUInt32LE(12)} kinds of interrupts`);

step('Where its registers are: BAR 0 and config space are places in its file.');
// flags, index, cap_offset, size, offset
const region = (index) => call(device, VFIO_DEVICE_GET_REGION_INFO, 0, index, 0, 0n, 0n);
say(`BAR 0: ${region(BAR0_REGION).readBigUInt64LE(16)} bytes`);
const bar0 = region(BAR0_REGION).readBigUInt64LE(24);
const config = region(CONFIG_REGION).readBigUInt64LE(24);

const word = Buffer.alloc(8);
function readRegister(offset, size = 4) {
  word.fill(0);
  if (pread(device, word, size, bar0 + BigInt(offset)) !== size) die('a register cannot be read');
  return Number(word.readBigUInt64LE());
}
function writeRegister(offset, value, size = 4) {
  word.writeBigUInt64LE(BigInt(value));
  if (pwrite(device, word, size, bar0 + BigInt(offset)) !== size)
    die('a register cannot be written');
}

say(`identification ${hex(readRegister(IDENTIFICATION))}`);
writeRegister(LIVENESS, 0x12345678);
say(`0x12345678 written comes back as ${hex(readRegister(LIVENESS))}`);
writeRegister(FACTORIAL, 10);
while (readRegister(STATUS) & COMPUTING);
say(`10! is ${readRegister(FACTORIAL)}`);

step('An address space for its DMA, and in it two pages of ours at 0x100000.');
const ioas = call(iommu, IOMMU_IOAS_ALLOC, 0, 0).readUInt32LE(8); // flags, out_ioas_id
call(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, 0, ioas); // flags, pt_id
const address = mmap(0, 3 * PAGE, 3, 0x22, -1, 0); // PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS
const memory = Buffer.from(koffi.view(BigInt(address), 3 * PAGE));
/** Maps pages of ours: flags, ioas_id, __reserved, user_va, length, iova. */
const map = (page, pages, iova, access) =>
  call(
    iommu,
    IOMMU_IOAS_MAP,
    FIXED_IOVA | access,
    ioas,
    0,
    BigInt(address) + BigInt(page * PAGE),
    BigInt(pages * PAGE),
    iova,
  );
map(0, 2, 0x100000n, READABLE | WRITEABLE);
say('mapped');

step('Let it do DMA (bus mastering, in config space), and tell us by MSI when it is done.');
if (pread(device, word, 2, config + 4n) !== 2) die('config space cannot be read');
word.writeUInt16LE(word.readUInt16LE() | 4);
if (pwrite(device, word, 2, config + 4n) !== 2) die('config space cannot be written');
const interrupts = eventfd(0, 0);
// flags, index, start, count, then the descriptors
call(device, VFIO_DEVICE_SET_IRQS, DATA_EVENTFD | ACTION_TRIGGER, MSI_IRQ, 0, 1, interrupts);
say('ready');

/** Lets the device move bytes between its buffer and an I/O address, and waits for its interrupt. */
function dma(iova, count, toMemory) {
  writeRegister(DMA_SOURCE, toMemory ? BUFFER : iova, 8);
  writeRegister(DMA_DESTINATION, toMemory ? iova : BUFFER, 8);
  writeRegister(DMA_COUNT, count, 8);
  writeRegister(DMA_COMMAND, RUN | INTERRUPT | (toMemory ? TO_MEMORY : 0), 8);
  const waiting = Buffer.from(Int32Array.of(interrupts, 1).buffer); // POLLIN
  if (poll(waiting, 1, 5000) !== 1) die('no interrupt came within 5 seconds');
  readSync(interrupts, Buffer.alloc(8));
  const status = readRegister(IRQ_STATUS);
  say(`interrupt, status ${hex(status)}`);
  writeRegister(IRQ_ACKNOWLEDGE, status);
}

step('DMA: it reads 64 bytes from our first page, and writes them into the second.');
memory.write('Hello, device!\0');
dma(0x100000, 64, false);
dma(0x101000, 64, true);
say(`the second page says: ${memory.toString('latin1', PAGE, memory.indexOf(0, PAGE))}`);

step('DMA from an address where nothing is mapped.');
dma(0x300000, 8, false);
dma(0x101000, 8, true);
say(`what it read instead: ${bytesText(memory.subarray(PAGE, PAGE + 8))}`);

step('DMA into a page that it may only read.');
memory.fill(0x55, 2 * PAGE);
map(2, 1, 0x200000n, READABLE);
dma(0x200000, 8, true);
say(`the page still has: ${bytesText(memory.subarray(2 * PAGE, 2 * PAGE + 8))}`);

step('Detach: from here on its DMA goes nowhere. Closing its file gives it back.');
call(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, 0); // flags
const all = call(iommu, IOMMU_IOAS_UNMAP, ioas, 0n, 2n ** 64n - 1n); // ioas_id, iova, length
say(`${all.readBigUInt64LE(16)} bytes unmapped`);
closeSync(device);
closeSync(iommu);
