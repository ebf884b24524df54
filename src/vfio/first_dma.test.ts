// SPDX-License-Identifier: Apache-2.0
/** The whole loop of a user-space driver, in process: bind, attach, map, tell the device, see the bytes arrive or why not. */
import { beforeEach, describe, expect, it } from 'vitest';
import * as vfio from '../abi/vfio.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { Machine } from '../machine/machine.ts';
import type { DmaEvent } from '../pci/dma.ts';
import { exploreOrThrow } from '../sim/explore.ts';
import { Sim } from '../sim/sim.ts';
import { LocalEventFd, LocalVfioClient } from './local_client.ts';

const { VFIO_PCI_CONFIG_REGION_INDEX: CONFIG, VFIO_PCI_BAR0_REGION_INDEX: BAR0 } = vfio;
const { VFIO_PCI_MSI_IRQ_INDEX: MSI, VFIO_PCI_INTX_IRQ_INDEX: INTX } = vfio;

const MEMORY = 0x1000_0000n;
const PAGE = 0x1000;
const IOVA = 0x10_0000n;
const PAINT = 0xa5;
const [FIXED, WRITEABLE, READABLE] = [1, 2, 4];
/** Registers of edu, and its buffer. */
const [FACTORIAL, STATUS, IRQ_STATUS, IRQ_RAISE, IRQ_ACK] = [0x08, 0x20, 0x24, 0x60, 0x64];
const [SOURCE, DESTINATION, COUNT, COMMAND] = [0x80, 0x88, 0x90, 0x98];
const BUFFER = 0x4_0000n;
const [RUN, TO_MEMORY, IRQ] = [1n, 2n, 4n];

let machine: Machine;
let iommu: LocalClient;
let device: LocalVfioClient;
let ioas: number;
let dma: DmaEvent[];

/** A program that has the device, and three painted pages of which the middle one is mapped where it says. */
function setUp(sim: Sim): void {
  machine = new Machine({ sim });
  dma = [];
  machine.dmaObserver = { dma: (event) => dma.push(event) };
  iommu = new LocalClient(machine.iommufd);
  const cdev = machine.vfio.cdev('vfio0');
  if (!cdev) throw new Error('the default machine has no edu device');
  device = new LocalVfioClient(cdev, iommu.process);
  device.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: iommu.fd });
  ioas = iommu.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  device.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: ioas });
  iommu.process.mm.map(MEMORY, 3 * PAGE);
  iommu.process.mm.copyOut(MEMORY, new Uint8Array(3 * PAGE).fill(PAINT));
  device.set(CONFIG, 4, device.get(CONFIG, 4, 2) | 4n, 2);
}

beforeEach(() => {
  const sim = new Sim({ checkLocks: true });
  setUp(sim);
  return () => sim.assertNothingHeld();
});

const map = (flags = FIXED | WRITEABLE | READABLE) =>
  iommu.call('IOMMU_IOAS_MAP', {
    flags,
    ioas_id: ioas,
    user_va: MEMORY + BigInt(PAGE),
    length: BigInt(PAGE),
    iova: IOVA,
  });

function memory(): Uint8Array {
  const bytes = new Uint8Array(3 * PAGE);
  iommu.process.mm.copyIn(MEMORY, bytes);
  return bytes;
}

function write(offset: number, bytes: Uint8Array): void {
  iommu.process.mm.copyOut(MEMORY + BigInt(PAGE + offset), bytes);
}

/** Which bytes of the three pages are no longer painted: first and last. */
function changed(): number[] {
  const bytes = memory();
  const isChanged = (byte: number): boolean => byte !== PAINT;
  return [bytes.findIndex(isChanged), bytes.findLastIndex(isChanged)];
}

function transfer(source: bigint, destination: bigint, count: number, command: bigint): void {
  device.set(BAR0, SOURCE, source, 8);
  device.set(BAR0, DESTINATION, destination, 8);
  device.set(BAR0, COUNT, BigInt(count), 8);
  device.set(BAR0, COMMAND, command);
}

const toDevice = (iova: bigint, count: number) => transfer(iova, BUFFER, count, RUN | IRQ);
const toMemory = (iova: bigint, count: number) =>
  transfer(BUFFER, iova, count, RUN | TO_MEMORY | IRQ);

function enable(index: number): LocalEventFd {
  const event = new LocalEventFd();
  device.setEventFds(index, [iommu.process.add(event)]);
  return event;
}

const message = new TextEncoder().encode('see the bytes arrive');

describe('a first DMA', () => {
  it('moves bytes from memory to the device and back, with an interrupt for each', () => {
    map();
    const event = enable(MSI);
    write(0, message);
    toDevice(IOVA, message.length);
    expect([event.count, device.get(BAR0, IRQ_STATUS)]).toEqual([1, 0x100n]);
    device.set(BAR0, IRQ_ACK, 0x100n);
    expect(device.get(BAR0, IRQ_STATUS)).toBe(0n);
    toMemory(IOVA + 0x800n, message.length);
    expect(event.count).toBe(2);
    expect(memory().subarray(PAGE + 0x800, PAGE + 0x800 + message.length)).toEqual(message);
    expect(dma.map(({ access, fault }) => [access, fault])).toEqual([
      ['read', undefined],
      ['write', undefined],
    ]);
  });

  it('to an address that is not mapped changes nothing, and is reported once with its cause', () => {
    map();
    const event = enable(MSI);
    toMemory(IOVA - 8n, 16);
    expect(changed()).toEqual([-1, -1]);
    expect(dma).toMatchObject([
      {
        bdf: '0000:00:02.0',
        access: 'write',
        iova: IOVA - 8n,
        length: 16,
        fault: { cause: 'not mapped' },
      },
    ]);
    expect(event.count).toBe(1); // the device knows of no failure
  });

  it('that reaches over the end of what is mapped writes not even the part that is', () => {
    map();
    toMemory(IOVA + BigInt(PAGE - 8), 16);
    expect(changed()).toEqual([-1, -1]);
    expect(dma[0]?.fault).toEqual({ cause: 'not mapped', at: IOVA + BigInt(PAGE) });
  });

  it('to memory that is mapped for reading only is refused; reading it works', () => {
    map(FIXED | READABLE);
    write(0, message);
    toDevice(IOVA, message.length);
    toMemory(IOVA + 0x800n, message.length);
    expect(memory()[PAGE + 0x800]).toBe(PAINT);
    expect(dma.map(({ fault }) => fault?.cause)).toEqual([undefined, 'not writable']);
  });

  it('a read that is refused gives ones', () => {
    map();
    toDevice(0x55_0000n, 16);
    toMemory(IOVA, 16);
    expect(memory().subarray(PAGE, PAGE + 16)).toEqual(new Uint8Array(16).fill(0xff));
    expect(changed()).toEqual([PAGE, PAGE + 15]);
  });

  it('with bus mastering off does not happen, and no message comes', () => {
    map();
    const event = enable(MSI);
    device.set(CONFIG, 4, 2n, 2);
    toMemory(IOVA, 16);
    expect([changed(), event.count]).toEqual([[-1, -1], 0]);
    expect(dma[0]?.fault?.cause).toBe('bus mastering is off');
  });

  it('after unmap, detach or close does not reach the memory', () => {
    map();
    iommu.call('IOMMU_IOAS_UNMAP', { ioas_id: ioas, iova: IOVA, length: BigInt(PAGE) });
    toMemory(IOVA, 16);
    map();
    device.call('VFIO_DEVICE_DETACH_IOMMUFD_PT', {});
    toMemory(IOVA, 16);
    expect(dma.map(({ fault }) => fault?.cause)).toEqual(['not mapped', 'no table is attached']);
    device.close();
    machine.pciDevices[0]?.bars[0]?.write(COMMAND, 4, RUN | TO_MEMORY);
    expect(changed()).toEqual([-1, -1]);
  });

  it('beyond the width of the device’s addresses wraps to where the low bits say', () => {
    map();
    toMemory(IOVA + 2n ** 28n, 16);
    expect(changed()).toEqual([PAGE, PAGE + 15]);
  });

  it('attached to another address space it sees that one', () => {
    map();
    const other = iommu.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    device.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: other });
    toMemory(IOVA, 16);
    expect(changed()).toEqual([-1, -1]);
    device.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: ioas });
    toMemory(IOVA, 16);
    expect(changed()).toEqual([PAGE, PAGE + 15]);
  });
});

describe('the other registers of the device, through VFIO', () => {
  it('identify it, and compute', () => {
    expect(device.get(BAR0, 0)).toBe(0x0100_00edn);
    device.set(BAR0, 4, 0x1234_5678n);
    expect(device.get(BAR0, 4)).toBe(0xedcb_a987n);
    const event = enable(MSI);
    device.set(BAR0, STATUS, 0x80n);
    device.set(BAR0, FACTORIAL, 5n);
    expect([device.get(BAR0, FACTORIAL), event.count]).toEqual([120n, 1]);
  });

  it('odd widths and offsets below 0x80 give 0 or ones and change nothing', () => {
    expect(device.get(BAR0, 0, 2)).toBe(0n);
    device.set(BAR0, 5, 0n, 1);
    expect(device.get(BAR0, 4)).toBe(0n);
    expect(device.get(BAR0, 0, 8)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('the line interrupts until it is acknowledged', () => {
    const event = enable(INTX);
    device.set(BAR0, IRQ_RAISE, 2n);
    expect(event.count).toBe(1);
    device.set(BAR0, IRQ_ACK, 2n);
    const flags = vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_UNMASK;
    device.call('VFIO_DEVICE_SET_IRQS', { flags, index: INTX, count: 1 });
    expect(event.count).toBe(1);
    device.set(BAR0, IRQ_RAISE, 1n);
    expect(event.count).toBe(2);
  });
});

it('a DMA under way does not land after the close of the device, in every interleaving', () => {
  let [done, stopped] = [0, 0];
  const runs = exploreOrThrow((sim) => {
    setUp(sim);
    map();
    /** What memory held when the descriptor was closed. */
    let closed: Uint8Array | undefined;
    sim.spawn('driver', function* () {
      if (!closed) toMemory(IOVA, 16);
      yield 'the second doorbell';
      if (!closed) toMemory(IOVA + 16n, 16);
    });
    sim.spawn('close', function* () {
      yield 'close';
      device.close();
      closed = memory();
    });
    return () => {
      if (!closed) throw new Error('it was not closed');
      expect(memory()).toEqual(closed);
      if (dma.length === 2) done++;
      else stopped++;
      expect(dma.every(({ fault }) => fault === undefined)).toBe(true);
      iommu.close();
      expect(machine.memory.pinCount).toBe(0);
    };
  });
  expect(runs).toBe(done + stopped);
  expect([done > 0, stopped > 0]).toEqual([true, true]);
});
