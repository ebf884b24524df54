// SPDX-License-Identifier: Apache-2.0
/** The engine's side of a sequence: a machine with two client processes in process, whose locks are checked. */
import { iommu_iova_range } from '../../src/abi/iommufd.ts';
import * as uapi from '../../src/abi/iommufd.ts';
import { IOMMU_TEST_CMD, iommu_test_cmd } from '../../src/abi/iommufd_test.ts';
import type { StructType } from '../../src/abi/struct.ts';
import { MockIommu } from '../../src/drivers/mock/mock_iommu.ts';
import type { MockDevice } from '../../src/drivers/mock/mock_device.ts';
import type { IommufdFile } from '../../src/iommufd/dispatch.ts';
import type { IommufdDevice } from '../../src/iommufd/device.ts';
import type { Device } from '../../src/iommu/device.ts';
import type { IoctlResult } from '../../src/kernel/file.ts';
import { Capability, type Task } from '../../src/kernel/task.ts';
import { LocalProcess } from '../../src/kernel/local_process.ts';
import { Iommufd } from '../../src/iommufd/iommufd.ts';
import type { MmapRegion } from '../../src/iommufd/mmap.ts';
import type { User } from '../../src/memory/accounting.ts';
import { LocalFile, LocalMm } from '../../src/memory/local_mm.ts';
import { Faults } from '../../src/sim/faults.ts';
import { Sim } from '../../src/sim/sim.ts';
import type { By, Setup } from './commands.ts';
import { PAGE, tag } from './memory.ts';
import { FILES, FIRST_FD, WINDOW } from './world.ts';

/** Where a process keeps what it passes to calls: readable and writable at the one address, only readable at the other. */
export const ARG = 0x7000_0000_0000n;
const ARG_READ_ONLY = 0x7100_0000_0000n;
/** Behind the structure: arrays of ranges, driver data, what accesses read. */
export const DATA = ARG + BigInt(PAGE);
const ARG_BYTES = 32 * PAGE;
/** Where what a process passes to calls ends: nothing is mapped from here on. */
export const ARG_END = ARG + BigInt(ARG_BYTES);

interface Client {
  readonly process: LocalProcess;
  readonly mm: LocalMm;
  readonly args: Uint8Array;
}

/** A device of the `device_*` commands. */
export interface EngineDevice {
  readonly device: MockDevice;
  bound: IommufdDevice | undefined;
}

/** An answer to a page fault, at the device. */
export interface EngineAnswer {
  readonly device: Device;
  readonly pasid: number;
  readonly grpid: number;
  readonly code: number;
}

interface Call<S> {
  readonly result: IoctlResult;
  readonly reply: ReturnType<StructType<S>['on']>;
}

export class Engine {
  readonly faults = new Faults();
  readonly sim: Sim;
  readonly iommufd: Iommufd;
  readonly mock: MockIommu;
  readonly file: IommufdFile;
  readonly fd: number;
  readonly files: readonly LocalFile[];
  readonly users: readonly [User, User] = [
    { uid: 1000, lockedPages: 0 },
    { uid: 1001, lockedPages: 0 },
  ];
  readonly clients: [Client, Client];
  readonly devices: EngineDevice[] = [];
  /** Maps of pages that virtual IOMMUs share. */
  readonly maps: { readonly by: By; readonly region: MmapRegion }[] = [];
  /** Answers to page faults that devices have got since they were looked at last. */
  answers: EngineAnswer[] = [];
  /** Makes the calls in the place of its parent. */
  private child: Task | undefined = undefined;
  private readonly setup: Setup;
  private serial = 1;

  constructor(setup: Setup) {
    this.setup = setup;
    this.sim = new Sim({ faults: this.faults, checkLocks: true });
    this.iommufd = new Iommufd({ sim: this.sim });
    // A machine with nothing else in it, on which devices can share groups.
    this.mock = new MockIommu(this.iommufd.core);
    this.iommufd.testHardware = this.mock;
    this.mock.onPageResponse = (device, { pasid, grpid, code }) => {
      this.answers.push({ device, pasid, grpid, code });
    };
    this.file = this.iommufd.open();
    this.files = FILES.map(({ size, pinnable }, index) => this.newFile(size, pinnable, index));
    this.clients = [this.newClient(0), this.newClient(1)];
    this.fd = FIRST_FD;
  }

  private newFile(size: number, pinnable: boolean, index: number): LocalFile {
    const file = new LocalFile(size, { pinnable, name: `memfd:${index}` });
    const whole = new Uint8Array(Math.ceil(size / PAGE) * PAGE);
    this.tagPages(whole);
    file.bytes.set(whole.subarray(0, size));
    return file;
  }

  private tagPages(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += PAGE)
      tag(bytes.subarray(at, at + PAGE), this.serial++);
  }

  newClient(by: By): Client {
    const mm = new LocalMm();
    const { SYS_RESOURCE, IPC_LOCK } = Capability;
    const process = new LocalProcess({
      mm,
      user: this.users[by],
      memlockPages: this.setup.memlock[by],
      capabilities: this.setup.ipcLock ? [SYS_RESOURCE, IPC_LOCK] : [SYS_RESOURCE],
      pid: 100 + by,
    });
    if (by === 0) process.add({ kind: 'device', file: this.file });
    for (const memory of this.files) process.add({ kind: 'memory', memory });
    process.add({ kind: 'other' });
    const file = new LocalFile(ARG_BYTES, { name: 'arguments' });
    mm.map(ARG, ARG_BYTES, { file });
    mm.map(ARG_READ_ONLY, ARG_BYTES, { file, writable: false });
    const client = { process, mm, args: file.bytes };
    this.mapMemory(client, WINDOW.first, WINDOW.shared);
    this.mapMemory(client, WINDOW.first + WINDOW.shared, 16, { file: 0, offset: 0 });
    return client;
  }

  mapMemory(
    { mm }: Client,
    first: number,
    pages: number,
    options: { file?: number; offset?: number; writable?: boolean } = {},
  ): void {
    const { offset = 0, writable = true } = options;
    const file = options.file === undefined ? undefined : this.files[options.file];
    const place = { writable, offset: offset * PAGE, ...(file ? { file } : {}) };
    const bytes = mm.map(BigInt(first) * BigInt(PAGE), pages * PAGE, place);
    if (!file) this.tagPages(bytes);
  }

  /** Marks the pages of a new DMA-buf. */
  tagFrames(frame: number, pages: number): void {
    const bytes = new Uint8Array(pages * PAGE);
    this.tagPages(bytes);
    this.iommufd.memory.write(frame, 0, bytes);
  }

  /** Runs `body` with its calls made by a child of a process: memory is a copy, descriptors are the same. */
  inChild<T>(by: By, body: () => T): T {
    const { process, mm } = this.clients[by];
    const childMm = mm.fork();
    const { user, files } = process;
    this.child = {
      pid: process.pid + 100,
      mm: childMm,
      user,
      files,
      process: { memlockPages: () => process.memlockPages() },
      capable: (capability) => process.capable(capability),
    };
    try {
      return body();
    } finally {
      this.child = undefined;
      childMm.exit();
    }
  }

  /** A process ends, and its maps of shared pages with it. */
  unmapShared(by: By): void {
    for (const each of this.maps.filter((map) => map.by === by)) {
      this.maps.splice(this.maps.indexOf(each), 1);
      each.region.closed();
    }
  }

  /** Makes an ioctl of the structure's fields; `reply` is the structure as it came back. */
  ioctl<S>(by: By, number: number, type: StructType<S>, fields: object, readOnly = false): Call<S> {
    return this.sized(by, number, type, { size: type.size, ...fields }, readOnly);
  }

  /** The same for structures of VFIO, which have their size, if any, by another name. */
  sized<S>(by: By, number: number, type: StructType<S>, fields: object, readOnly = false): Call<S> {
    const { args, process } = this.clients[by];
    const caller = this.child ?? process;
    args.fill(0, 0, type.size);
    const view = new DataView(args.buffer, args.byteOffset, args.byteLength);
    writeFields(type, view, 0, fields);
    const result = this.file.ioctl(caller, number, readOnly ? ARG_READ_ONLY : ARG);
    this.sim.assertNothingHeld();
    return { result, reply: type.on(view) };
  }

  test(
    by: By,
    op: number,
    id: number,
    u: object,
    readOnly = false,
  ): { result: IoctlResult; reply: ReturnType<typeof iommu_test_cmd.on> } {
    return this.ioctl(by, IOMMU_TEST_CMD, iommu_test_cmd, { op, id, u }, readOnly);
  }

  /** Writes ranges behind the structure. */
  putRanges(by: By, ranges: readonly (readonly [bigint, bigint])[]): void {
    const view = new DataView(this.clients[by].args.buffer, PAGE);
    for (const [index, [start, last]] of ranges.entries())
      iommu_iova_range.write(view, index * iommu_iova_range.size, { start, last });
  }

  getRanges(by: By, count: number): { start: bigint; last: bigint }[] {
    const view = new DataView(this.clients[by].args.buffer, PAGE);
    return Array.from({ length: count }, (_, index) =>
      iommu_iova_range.on(view, index * iommu_iova_range.size),
    );
  }
}

function writeFields(
  type: StructType<unknown>,
  view: DataView,
  base: number,
  fields: object,
): void {
  for (const [name, value] of Object.entries(fields)) {
    const field = type.fields.find((candidate) => candidate.name === name);
    if (!field) throw new TypeError(`${type.cName} has no field ${name}`);
    if ((field.type as Partial<StructType<unknown>>).fields)
      writeFields(field.type as StructType<unknown>, view, base + field.offset, value as object);
    else field.type.write(view, base + field.offset, value);
  }
}

export { uapi };
