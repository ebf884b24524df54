// SPDX-License-Identifier: Apache-2.0
// A device that faults, and a program that answers: the device asks for a page that is not there (a page request of PCIe's PRI), the program
// reads the request from a descriptor, maps the page, answers, and the device goes on where it was. Then a request that is turned
// down, one that nobody answers, and a detach while an answer is owed.
// An ordinary program: it knows nothing of iommulator. The device, iommu_test, exists only there; with another device that has PRI only
// the commands to the device differ (Linux 6.11 or newer).
import { openSync, readSync, writeSync } from 'node:fs';
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
const IOMMU_IOAS_ALLOC = 0x3b81;
const IOMMU_IOAS_MAP = 0x3b85;
const IOMMU_HWPT_ALLOC = 0x3b89;
const IOMMU_FAULT_QUEUE_ALLOC = 0x3b8e;
const [FIXED_IOVA, WRITEABLE, READABLE] = [1, 2, 4];
const FAULT_ID_VALID = 4;
const [SUCCESS, INVALID] = [0, 1];
const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
const VFIO_DEVICE_SET_IRQS = 0x3b6e;
const VFIO_DEVICE_BIND_IOMMUFD = 0x3b76;
const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;
const [BAR0_REGION, CONFIG_REGION, MSI_IRQ] = [0, 7, 1];
const [DATA_EVENTFD, ACTION_TRIGGER] = [1 << 2, 1 << 5];

const PAGE = 4096;
// Where the device reads and writes. Only SEEN is mapped from the start.
const [SEEN, LATE, NEVER] = [0x100000, 0x200000, 0x300000];

// Registers of iommu_test, and of the edu that it also is.
const [ADDRESS, LENGTH, GROUP, MODE, COMMAND, OUTSTANDING, STATE] = [
  0x1008, 0x1010, 0x101c, 0x1024, 0x1030, 0x1040, 0x1080,
];
const [IRQ_STATUS, IRQ_ACKNOWLEDGE] = [0x24, 0x64];
const [CACHED_WRITE, FAULTING_READ, FAULTING_WRITE, INTERRUPT] = [4, 8, 9, 8];
const STATES = 'IDLE RUNNING WAITING DONE REFUSED NOT_PRESENT INVALID FAILURE'.split(' ');

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

step('A queue for its page requests, and a table whose faults go there.');
const ioas = call(iommu, IOMMU_IOAS_ALLOC, 0, 0).readUInt32LE(8); // flags, out_ioas_id
const queue = call(iommu, IOMMU_FAULT_QUEUE_ALLOC, 0, 0, 0); // flags, out_fault_id, out_fault_fd
const [queueId, faults] = [queue.readUInt32LE(8), queue.readUInt32LE(12)];
// flags, dev_id, pt_id, out_hwpt_id, __reserved, data_type, data_len, data_uptr, fault_id, __reserved2
const fields = [FAULT_ID_VALID, bound, ioas, 0, 0, 0, 0, 0n, queueId, 0];
const table = call(iommu, IOMMU_HWPT_ALLOC, ...fields).readUInt32LE(16);
// flags, pt_id, pasid
if (!tryCall(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, 0, table, 0)) {
  die(
    `VFIO_DEVICE_ATTACH_IOMMUFD_PT: ${strerror(koffi.errno())}`,
    'This device cannot fault. Try: iommulator run --machine page-faults -- PROGRAM',
  );
}
say(`queue ${queueId}, hardware page table ${table}`);

/** argsz, flags, index, cap_offset, size, offset */
const regionOffset = (index) =>
  call(device, VFIO_DEVICE_GET_REGION_INFO, 0, index, 0, 0n, 0n).readBigUInt64LE(24);
const [bar0, config] = [regionOffset(BAR0_REGION), regionOffset(CONFIG_REGION)];

function writeRegister(offset, value, bytes = 4) {
  const from = bytesOf([BigInt(value)]);
  if (Number(pwrite(device, from, bytes, bar0 + BigInt(offset))) !== bytes)
    die('writing a register');
}

function readRegister(offset) {
  const into = Buffer.alloc(4);
  if (Number(pread(device, into, 4, bar0 + BigInt(offset))) !== 4) die('reading a register');
  return into.readUInt32LE(0);
}

// Bus mastering, MSI into an eventfd, and an interrupt at the end of each command.
const commandRegister = Buffer.alloc(2);
pread(device, commandRegister, 2, config + 4n);
commandRegister[0] |= 4;
pwrite(device, commandRegister, 2, config + 4n);
const interrupts = eventfd(0, 0o2000000); // EFD_CLOEXEC
const irqFlags = DATA_EVENTFD | ACTION_TRIGGER;
call(device, VFIO_DEVICE_SET_IRQS, irqFlags, MSI_IRQ, 0, 1, interrupts); // flags, index, start, count, data
writeRegister(MODE, INTERRUPT);
writeRegister(LENGTH, 16);

const address = mmap(0, 2 * PAGE, 3, 0x22, -1, 0); // PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS
const memory = Buffer.from(koffi.view(BigInt(address), 2 * PAGE));
memory.write('late, but here', PAGE);

/** Page `page` of our memory at an I/O address. */
function map(page, iova) {
  const flags = FIXED_IOVA | READABLE | WRITEABLE;
  // flags, ioas_id, __reserved, user_va, length, iova
  const where = [BigInt(address) + BigInt(page * PAGE), BigInt(PAGE), BigInt(iova)];
  call(iommu, IOMMU_IOAS_MAP, flags, ioas, 0, ...where);
}
map(0, SEEN);

function start(command, at, group) {
  writeRegister(ADDRESS, at, 8);
  writeRegister(GROUP, group);
  writeRegister(COMMAND, command);
}

const isReadable = (fd, milliseconds) => poll(bytesOf([fd, 1]), 1, milliseconds) === 1; // POLLIN

/** How the command ended, in words. */
function endOfCommand() {
  if (!isReadable(interrupts, 5000)) die('no interrupt came within 5 seconds');
  readSync(interrupts, Buffer.alloc(8));
  writeRegister(IRQ_ACKNOWLEDGE, readRegister(IRQ_STATUS));
  return STATES[readRegister(STATE)] ?? '?';
}

/** The next page request; the cookie is what it is answered by. */
function nextRequest() {
  const fault = Buffer.alloc(40); // flags, dev_id, pasid, grpid, perm, __reserved, addr, length, cookie
  if (!isReadable(faults, 5000) || readSync(faults, fault) !== fault.length) die('no page request');
  const [dev, group, perm] = [4, 12, 16].map((at) => fault.readUInt32LE(at));
  const what = perm & 2 ? 'write' : 'read';
  const at = fault.readBigUInt64LE(24).toString(16);
  say(`page request: device ${dev} wants to ${what} 0x${at}, group ${group}`);
  return fault.readUInt32LE(36);
}

function answer(cookie, code) {
  let how = 'taken';
  try {
    writeSync(faults, bytesOf([cookie, code]));
  } catch (error) {
    how = strerror(-error.errno);
  }
  say(`answered ${code === INVALID ? 'INVALID' : 'SUCCESS'}: ${how}`);
}

step(
  'The device reads where nothing is mapped, and asks for the page. We map it and answer: it tries again.',
);
start(FAULTING_READ, LATE, 5);
let cookie = nextRequest();
map(1, LATE);
answer(cookie, SUCCESS);
say(`the read ends: ${endOfCommand()}`);
start(CACHED_WRITE, SEEN, 0);
endOfCommand();
say(`what it read: ${memory.toString('latin1', 0, memory.indexOf(0))}`);

step('It writes where nothing shall be: we turn it down, and the access ends.');
start(FAULTING_WRITE, NEVER, 6);
answer(nextRequest(), INVALID);
say(`the write ends: ${endOfCommand()}`);

step('It writes there again, and we do not answer: it waits.');
start(FAULTING_WRITE, NEVER, 7);
cookie = nextRequest();
const interrupted = isReadable(interrupts, 50) ? 'yes' : 'no';
const [state, outstanding] = [readRegister(STATE), readRegister(OUTSTANDING)];
say(
  `an interrupt: ${interrupted}; state ${STATES[state]}, ${outstanding} request without an answer`,
);

step('Detach while the answer is owed: it is given in our place, and ours comes too late.');
call(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, 0, 0); // flags, pasid
say(`the write ends: ${endOfCommand()}`);
answer(cookie, SUCCESS);
