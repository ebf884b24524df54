// SPDX-License-Identifier: Apache-2.0
import { expect, vi } from 'vitest';
import type { ErrnoError } from '../../src/base/errno.ts';
import { MockDevice } from '../../src/drivers/mock/mock_device.ts';
import { MOCK_FLAGS_DEVICE_PASID } from '../../src/abi/iommufd_test.ts';
import type { Device } from '../../src/iommu/device.ts';
import type { PageResponse } from '../../src/iommu/fault.ts';
import { ProcessMm } from '../../src/iommu/process_mm.ts';
import { IommufdDevice } from '../../src/iommufd/device.ts';
import { LocalClient } from '../../src/iommufd/local_client.ts';
import type {
  IommuDescription,
  MachineDescription,
  ReservedDescription,
} from '../../src/machine/description.ts';
import { Machine } from '../../src/machine/machine.ts';
import { MachineVtd } from '../../src/machine/vtd.ts';
import { PhysicalMemory } from '../../src/memory/physical_memory.ts';
import { Sim } from '../../src/sim/sim.ts';
import { Endpoint } from './endpoint.ts';
import { BUFFER, FaultReader } from './fault_reader.ts';
import { TestDevice } from './mock_device.ts';
import { IOVA, PAGE, type RuleDevice } from './rule_device.ts';
import type { Hardware } from './rules.ts';

const MEMORY = 0x1000_0000n;
/** Pages of a client, one for each address space. */
const PAGES = 32;
const FIXED_READ_WRITE = 7;
const [DIRTY_TRACKING, FAULT_ID_VALID, PASID_FLAG] = [2, 4, 8];

/** A device as a test wants it. */
export interface Shape {
  /** Devices with the same one share a group. */
  readonly group?: string;
  readonly reserved?: readonly ReservedDescription[];
  /** Default true; the test driver's always can. */
  readonly canFault?: boolean;
  readonly pasidBits?: number;
  /** Page requests that it can have outstanding; not for the test driver. 32 unless told. */
  readonly pageRequestCapacity?: number;
  /** It has a virtual function, which is the next device. */
  readonly hasVirtualFunction?: boolean;
  /** Its interrupts can be forged by other devices. */
  readonly isForgeable?: boolean;
}

export interface RigOptions {
  /** One plain device, unless told. */
  readonly devices?: readonly Shape[];
  readonly sim?: Sim;
  readonly pageResponseTimeoutMs?: number;
  readonly vfPageRequests?: MachineDescription['vfPageRequests'];
  /** Page requests can have private data. */
  readonly privateData?: boolean;
}

export interface TableOptions {
  readonly faults?: FaultReader;
  readonly dirty?: boolean;
  /** For use beside PASIDs. Default true. */
  readonly pasid?: boolean;
}

/** A machine of one hardware, a client of it, and its devices. */
export class Rig {
  readonly hardware: Hardware;
  readonly sim: Sim;
  readonly machine: Machine;
  readonly client: LocalClient;
  /** What core knows, bound or not. */
  readonly cores: readonly Device[];
  /** What the test expects of `IommuCore.warnings` at its end: the rest of the rules are kept. */
  warnings: unknown[] = [];
  readonly #told: () => readonly (readonly [Device, PageResponse])[];
  #pages = 0;

  constructor(hardware: Hardware, options: RigOptions = {}) {
    const { devices = [{}], sim = new Sim({ checkLocks: true }) } = options;
    const { pageResponseTimeoutMs = 0, vfPageRequests = 'refuse' } = options;
    this.hardware = hardware;
    this.sim = sim;
    this.machine = new Machine({
      sim,
      description: {
        ...{ name: 'rules', summary: '', pageResponseTimeoutMs, vfPageRequests },
        iommus: [describe(hardware, devices, options)],
      },
    });
    this.cores = hardware === 'mock' ? this.#makeMocks(devices) : this.#functions(devices);
    this.client = this.newClient();
    const ops = this.cores[0]?.iommu?.ops;
    if (!ops?.pageResponse) throw new Error('a driver that answers nothing');
    const { calls } = vi.spyOn(ops as Required<typeof ops>, 'pageResponse').mock;
    this.#told = () => calls;
  }

  get core() {
    return this.machine.iommufd.core;
  }

  /** Another open /dev/iommu, of another process. */
  newClient(): LocalClient {
    const client = new LocalClient(this.machine.iommufd);
    client.process.mm.map(MEMORY, PAGES * PAGE);
    client.process.mm.map(BUFFER, PAGE);
    return client;
  }

  /** A client takes a device. Throws ErrnoError. */
  bind(index = 0, client = this.client): RuleDevice {
    const core = this.cores[index];
    if (core instanceof MockDevice) {
      const memory = new PhysicalMemory(this.machine.ram, this.machine.memory);
      return new TestDevice(core, client, memory, () => this.responses(core));
    }
    const fn = this.machine.pciDevices[index];
    const cdev = this.machine.vfio.cdev(`vfio${index}`);
    if (!fn || !cdev) throw new Error(`there is no device ${index}`);
    return new Endpoint(fn, cdev, client);
  }

  /** A device whose requests, with each of the PASIDs, go through tables without faults. */
  attached(...pasids: readonly number[]): RuleDevice {
    const device = this.bind();
    const table = this.table(device, this.space(1));
    for (const pasid of pasids) device.attach(table, pasid);
    return device;
  }

  /** A device with fault-capable tables at PASIDs, all of one address space and one queue. */
  faulting(...pasids: readonly number[]) {
    const device = this.bind();
    const [ioas, faults] = [this.space(1), this.queue()];
    for (const pasid of pasids) device.attach(this.table(device, ioas, { faults }), pasid);
    return { device, ioas, faults };
  }

  /** A client takes two. */
  bindTwo(): [RuleDevice, RuleDevice] {
    return [this.bind(0), this.bind(1)];
  }

  /** An address space with one page at `IOVA`, full of a number. */
  space(fill: number): number {
    const { out_ioas_id: ioas_id } = this.client.call('IOMMU_IOAS_ALLOC', {});
    this.map(ioas_id, IOVA, fill);
    return ioas_id;
  }

  /** Maps a page that is full of a number. Throws ErrnoError. */
  map(ioas_id: number, iova: bigint, fill: number): void {
    const page = this.pageOf(++this.#pages);
    this.client.process.mm.copyOut(page, new Uint8Array(PAGE).fill(fill));
    const range = { iova, length: BigInt(PAGE), user_va: page };
    this.client.call('IOMMU_IOAS_MAP', { ioas_id, flags: FIXED_READ_WRITE, ...range });
  }

  /** Where the client's memory has the n-th page that was mapped; from 1. */
  pageOf(n: number): bigint {
    return MEMORY + BigInt((n - 1) * PAGE);
  }

  unmap(ioas_id: number, iova: bigint): void {
    this.client.call('IOMMU_IOAS_UNMAP', { ioas_id, iova, length: BigInt(PAGE) });
  }

  /** A hardware page table of an address space, for a device. */
  table(device: RuleDevice, pt_id: number, options: TableOptions = {}): number {
    const { faults, dirty = false, pasid = true } = options;
    const flags =
      (faults ? FAULT_ID_VALID : 0) | (dirty ? DIRTY_TRACKING : 0) | (pasid ? PASID_FLAG : 0);
    const wanted = { dev_id: device.id, pt_id, flags, fault_id: faults?.id ?? 0 };
    return this.client.call('IOMMU_HWPT_ALLOC', wanted).out_hwpt_id;
  }

  queue(): FaultReader {
    return new FaultReader(this.client);
  }

  /** OK, or the errno's name. */
  destroy(id: number): string {
    return outcome(() => this.client.call('IOMMU_DESTROY', { id }));
  }

  /** A process whose memory devices can share. */
  process(): ProcessMm {
    const mm = ProcessMm.create(this.machine.ram);
    if (typeof mm === 'number') throw new Error(`no process: ${mm}`);
    mm.mmap(IOVA, PAGE, { readable: true, writable: true });
    return mm;
  }

  /** Page requests that are on their way come to the hardware's queue; its driver has not looked. */
  arrive(): void {
    for (const fn of this.machine.pciDevices) {
      const unit = this.machine.translatorOf(fn);
      if (unit instanceof MachineVtd) this.sim.waitUntil(() => !unit.model.pageRequests.isOnTheWay);
    }
  }

  /** What a client's file has for a device: for calls that VFIO would not make. */
  boundAs({ id }: RuleDevice): IommufdDevice {
    const found = [...this.client.file.context.objects].find((object) => object.id === id);
    if (!(found instanceof IommufdDevice)) throw new Error(`${id} is no device`);
    return found;
  }

  /** What core has told the driver to answer a device. */
  responses(device: Device) {
    return this.#told()
      .filter(([to]) => to === device)
      .map(([, response]) => response);
  }

  /** At the end of a test: nobody broke another rule. */
  checkEnd(): void {
    expect(this.core.warnings).toEqual(this.warnings);
    this.sim.assertNothingHeld();
  }

  #functions(shapes: readonly Shape[]): Device[] {
    const devices = this.machine.pciDevices.map(({ device }) => device);
    let next = 0;
    for (const { isForgeable = false, hasVirtualFunction } of shapes) {
      const device = devices[next];
      if (device) adapt(device, { isolatedMsi: !isForgeable });
      next += hasVirtualFunction ? 2 : 1;
    }
    return devices;
  }

  #makeMocks(shapes: readonly Shape[]): Device[] {
    return shapes.flatMap(({ isForgeable = false, hasVirtualFunction = false }) => {
      const device = this.#makeMock();
      adapt(device, { isolatedMsi: !isForgeable });
      if (!hasVirtualFunction) return [device];
      const virtual = this.#makeMock();
      adapt(virtual, { sharesPageRequests: true });
      return [device, virtual];
    });
  }

  #makeMock(): Device {
    const made = this.machine.iommufd.testHardware?.createDevice(MOCK_FLAGS_DEVICE_PASID);
    if (made === undefined || typeof made === 'number') throw new Error(`no device: ${made}`);
    return made;
  }
}

/** What a machine file does not say of a device, and platforms differ in. */
function adapt(
  device: Device,
  facts: { readonly isolatedMsi?: boolean; readonly sharesPageRequests?: boolean },
): void {
  Object.assign(device, facts);
}

function describe(
  hardware: Hardware,
  shapes: readonly Shape[],
  { privateData = false }: RigOptions,
): IommuDescription {
  const name = 'iommu0';
  const common = shapes.map(({ group, reserved }, i) => ({
    name: `device${i}`,
    ...(group !== undefined && { group }),
    ...(reserved && { reserved }),
  }));
  if (hardware === 'mock') {
    const devices = common.flatMap((one, i) =>
      shapes[i]?.hasVirtualFunction ? [one, { name: `virtual${i}` }] : [one],
    );
    return { name, driver: 'mock', devices };
  }
  const devices = common.map((one, i) => {
    const { canFault = true, pageRequestCapacity, pasidBits } = shapes[i] ?? {};
    const { hasVirtualFunction = false } = shapes[i] ?? {};
    return {
      ...{ ...one, model: 'iommu_test' as const, address: `0000:00:0${2 + i}.0` },
      ...(pageRequestCapacity !== undefined && { pageRequests: pageRequestCapacity }),
      ...(!canFault && { pageRequests: 0 }),
      ...(pasidBits !== undefined && { pasidBits }),
      ...(hasVirtualFunction && { vfs: 1 }),
    };
  });
  if (hardware === 'paging') return { name, driver: 'paging', devices };
  return { name, driver: 'intel-vtd', privateData, devices };
}

/** OK, or the name of the errno that is thrown. */
export function outcome(body: () => unknown): string {
  try {
    body();
    return 'OK';
  } catch (error) {
    const { code } = error as Partial<ErrnoError>;
    if (code === undefined) throw error;
    return code;
  }
}
