// SPDX-License-Identifier: Apache-2.0
/**
 * Shared virtual addressing, with the library: a device works at the addresses of a process, through the process's own page tables. Nothing
 * is mapped for it and nothing pinned; what is not there it asks for, and waits. The process, its memory and the device are simulated;
 * the tables are real ones (x86-64), and the IOMMU walks them.
 *
 *     npm run build && node dist/examples/sva.js
 */
import { Machine, presets, ProcessMm } from 'iommulator';

const DATA = 0x7000_0000_0000n;
const PAGE = 0x1000;

// Registers of the device, iommu_test: src/pci/endpoints/iommu_test/README.md.
const [ADDRESS_LOW, ADDRESS_HIGH, LENGTH, PASID, COMMAND, STATE] = [
  0x1008, 0x100c, 0x1010, 0x1018, 0x1030, 0x1080,
];
const [READ, FAULTING_READ, FAULTING_WRITE] = [1, 8, 9];
const PASID_PRESENT = 0x8000_0000;
const ENDS: Readonly<Record<number, string>> = { 3: 'done', 4: 'refused', 6: 'turned down' };

const description = presets.find(({ name }) => name === 'page-faults');
if (!description) throw new Error('no such machine');
const machine = new Machine({ description });
const [device] = machine.pciDevices;
const registers = device?.bars[0];
const process = ProcessMm.create(machine.ram);
if (!device || !registers || typeof process === 'number')
  throw new Error('no device, or no memory');
device.config.write(4, 2, 6); // it answers, and may do DMA

const told: string[] = [];
machine.dmaObserver = {
  pageRequest: (_bdf, { address, write }) =>
    told.push(`asks for 0x${address.toString(16)} to ${write ? 'write' : 'read'}`),
  groupResponse: (_bdf, { code }) => told.push(code === 0 ? 'is told to go on' : 'is turned down'),
};

const say = (text: string): void => console.log(text);
const step = (text: string): void => say(`\n# ${text}`);

step('A process maps two pages and writes into the first. The second it does not touch.');
process.mmap(DATA, 2 * PAGE, { readable: true, writable: true });
process.copyOut(DATA, new TextEncoder().encode('hello, device'));
say(`page faults of the process: ${process.pageFaults}`);

step('The device is bound to the process: all it gets is a number for its requests, a PASID.');
const bond = machine.iommufd.core.sva.bind(device.device, process);
if (typeof bond === 'number') throw new Error(`bind: errno ${-bond}`);
say(`PASID ${bond.pasid}`);

/** One DMA of 16 bytes between the device's buffer and the process's memory. */
function transfer(command: number, address: bigint): void {
  told.length = 0;
  registers?.write(ADDRESS_LOW, 4, address & 0xffff_ffffn);
  registers?.write(ADDRESS_HIGH, 4, address >> 32n);
  registers?.write(LENGTH, 4, 16n);
  registers?.write(PASID, 4, BigInt(PASID_PRESENT + (bond as { pasid: number }).pasid));
  registers?.write(COMMAND, 4, BigInt(command));
  machine.iommufd.sim.settle();
  const end = ENDS[Number(registers?.read(STATE, 4))] ?? '?';
  const what = command === FAULTING_WRITE ? 'writes to' : 'reads from';
  say(`the device ${what} 0x${address.toString(16)}: ${[...told, end].join(', ')}`);
}

step('It reads what the process wrote, where the process wrote it: the page is there.');
transfer(FAULTING_READ, DATA);

step('It writes to the page that nobody has touched: it is made present, as for the process.');
transfer(FAULTING_WRITE, DATA + BigInt(PAGE));
const seen = new Uint8Array(13);
process.copyIn(DATA + BigInt(PAGE), seen);
say(`the process finds there: ${new TextDecoder().decode(seen)}`);
say(`page faults: ${process.pageFaults}`);

step('The process unmaps the first page. The device is told nothing, and has nothing any more.');
process.munmap(DATA, PAGE);
transfer(READ, DATA);
transfer(FAULTING_READ, DATA);

step('The process exits while it is bound: its PASID stays, and leads nowhere.');
process.exit();
transfer(FAULTING_READ, DATA + BigInt(PAGE));
machine.iommufd.core.sva.unbind(bond);
say(`PASIDs in use: ${machine.iommufd.core.sva.pasidsInUse}`);
