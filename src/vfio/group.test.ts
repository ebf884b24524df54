// SPDX-License-Identifier: Apache-2.0
/** Devices by way of their group: the container interface of VFIO, on iommufd. */
import { beforeEach, describe, expect, it } from 'vitest';
import { IOMMU_VFIO_IOAS_GET } from '../abi/iommufd.ts';
import * as vfio from '../abi/vfio.ts';
import { errnoName } from '../base/errno.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { LocalProcess } from '../kernel/local_process.ts';
import { Machine } from '../machine/machine.ts';
import { sweepFaults } from '../sim/faults.ts';
import { Sim } from '../sim/sim.ts';
import { VfioDeviceFile } from './device_file.ts';
import type { VfioGroup } from './group.ts';
import type { VfioGroupFile } from './group_file.ts';
import { LocalVfioClient } from './local_client.ts';

const { VFIO_GROUP_FLAGS_VIABLE: VIABLE, VFIO_GROUP_FLAGS_CONTAINER_SET: SET } = vfio;
const SCRATCH = 0x5000_0000n;
const MEMORY = 0x1000_0000n;
const PAGE = 0x1000;
const NAME = '0000:00:02.0';
const NOWHERE = 0x10n;

let sim: Sim;
let machine: Machine;
let group: VfioGroup;
let container: LocalClient;
let client: LocalProcess;

beforeEach(() => {
  sim = new Sim({ checkLocks: true });
  machine = new Machine({ sim });
  const [first] = machine.vfio.groups;
  if (!first) throw new Error('the default machine has no group');
  group = first;
  container = new LocalClient(machine.iommufd);
  client = container.process;
  client.mm.map(SCRATCH, 4 * PAGE);
  client.mm.map(MEMORY, PAGE);
  return () => {
    sim.assertNothingHeld();
    expect(machine.iommufd.core.warnings).toEqual([]);
  };
});

const text = (value: number): number | string => (value < 0 ? errnoName(-value) : value);

const ioctl = (file: VfioGroupFile | VfioDeviceFile, cmd: number, arg: bigint) =>
  text(file.ioctl(client, cmd, arg).value);

function put(bytes: Uint8Array, at = SCRATCH): bigint {
  client.mm.copyOut(at, bytes);
  return at;
}
const word = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer);
const name = (of: string): Uint8Array => new TextEncoder().encode(`${of}\0`);

const setContainer = (file: VfioGroupFile, fd = container.fd) =>
  ioctl(file, vfio.VFIO_GROUP_SET_CONTAINER, put(word(fd)));
const unsetContainer = (file: VfioGroupFile) => ioctl(file, vfio.VFIO_GROUP_UNSET_CONTAINER, 0n);
const deviceFd = (file: VfioGroupFile, of = NAME) =>
  ioctl(file, vfio.VFIO_GROUP_GET_DEVICE_FD, put(name(of)));

function flags(file: VfioGroupFile): number {
  expect(ioctl(file, vfio.VFIO_GROUP_GET_STATUS, put(word(8, 0x55)))).toBe(0);
  const bytes = new Uint8Array(8);
  client.mm.copyIn(SCRATCH, bytes);
  return new Uint32Array(bytes.buffer)[1] ?? 0;
}

/** Types of the container's objects, in order of their ids. */
const objects = (): string[] => [...container.file.context.objects].map(({ type }) => type);

function thrown(body: () => unknown): string | undefined {
  try {
    body();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return undefined;
}

function open(): { file: VfioGroupFile; close: () => void } {
  const file = group.open();
  const fd = client.add({ kind: 'device', file });
  return { file, close: () => client.close(fd) };
}

function deviceFile(fd: number | string): VfioDeviceFile {
  const found = typeof fd === 'number' ? client.get(fd) : undefined;
  if (found?.kind !== 'device' || !(found.file instanceof VfioDeviceFile))
    throw new Error(`no device file: ${fd}`);
  return found.file;
}

describe('a group', () => {
  it('is /dev/vfio/N with the number of the IOMMU group, and opens once at a time', () => {
    expect([group.path, group.minor]).toEqual([`/dev/vfio/${group.iommuGroup.id}`, 0]);
    const first = open();
    expect(thrown(() => group.open())).toBe('EBUSY');
    first.close();
    open().close();
  });

  it('and its devices one by one exclude each other', () => {
    const cdev = machine.vfio.cdev('vfio0');
    if (!cdev) throw new Error('no vfio0');
    const iommu = new LocalClient(machine.iommufd);
    const device = new LocalVfioClient(cdev, iommu.process);
    const bind = () =>
      device.tryCall('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: iommu.fd }).result.value;
    const { close } = open();
    expect(text(bind())).toBe('EBUSY');
    close();
    // What fails to be bound does not keep the group.
    expect(text(device.tryCall('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: 77 }).result.value)).toBe(
      'EBADF',
    );
    open().close();
    expect(bind()).toBe(0);
    expect(thrown(() => group.open())).toBe('EBUSY');
    device.close();
    open().close();
  });

  it('tells whether it is viable and has a container', () => {
    const { file, close } = open();
    expect(flags(file)).toBe(VIABLE);
    expect(setContainer(file)).toBe(0);
    expect(flags(file)).toBe(VIABLE | SET);
    deviceFd(file);
    expect(flags(file)).toBe(VIABLE | SET);
    expect(unsetContainer(file)).toBe(0);
    // The device is still in its user's hands.
    expect(flags(file)).toBe(0);
    const get = vfio.VFIO_GROUP_GET_STATUS;
    expect(ioctl(file, get, put(word(7, 0)))).toBe('EINVAL');
    expect(ioctl(file, get, NOWHERE)).toBe('EFAULT');
    expect(ioctl(file, get, put(word(9, 0)))).toBe(0);
    close();
  });

  it('has one container, a descriptor of iommufd', () => {
    const { file, close } = open();
    expect(ioctl(file, vfio.VFIO_GROUP_SET_CONTAINER, NOWHERE)).toBe('EFAULT');
    expect(setContainer(file, 77)).toBe('EBADF');
    expect(setContainer(file, -1)).toBe('EBADF');
    const own = client.add({ kind: 'other' });
    expect(setContainer(file, own)).toBe('EBADFD');
    expect(unsetContainer(file)).toBe('EINVAL');
    expect(setContainer(file)).toBe(0);
    expect(setContainer(file)).toBe('EINVAL');
    // What is wrong with the descriptor comes first, where it is none at all.
    expect(setContainer(file, 77)).toBe('EBADF');
    expect(setContainer(file, own)).toBe('EINVAL');
    expect(unsetContainer(file)).toBe(0);
    expect(unsetContainer(file)).toBe('EINVAL');
    close();
  });

  it('makes the address space of its container, where that has none', () => {
    const { file, close } = open();
    expect(
      container.tryCall('IOMMU_VFIO_IOAS', { op: IOMMU_VFIO_IOAS_GET }).result.value,
    ).toBeLessThan(0);
    setContainer(file);
    const made = container.call('IOMMU_VFIO_IOAS', { op: IOMMU_VFIO_IOAS_GET }).ioas_id;
    unsetContainer(file);
    setContainer(file);
    expect(container.call('IOMMU_VFIO_IOAS', { op: IOMMU_VFIO_IOAS_GET }).ioas_id).toBe(made);
    close();
  });

  it('knows its own ioctls and no others', () => {
    const { file, close } = open();
    expect(ioctl(file, vfio.VFIO_DEVICE_GET_INFO, 0n)).toBe('ENOTTY');
    expect(ioctl(file, vfio.VFIO_GET_API_VERSION, 0n)).toBe('ENOTTY');
    close();
  });
});

describe('a device that its group is asked for', () => {
  it('is named by its address, with a container', () => {
    const { file, close } = open();
    const get = vfio.VFIO_GROUP_GET_DEVICE_FD;
    expect(ioctl(file, get, NOWHERE)).toBe('EFAULT');
    expect(ioctl(file, get, put(new Uint8Array(2 * PAGE).fill(65)))).toBe('EINVAL');
    const end = SCRATCH + BigInt(4 * PAGE) - 4n;
    expect(ioctl(file, get, put(new Uint8Array(4).fill(65), end))).toBe('EFAULT');
    for (const other of ['', '0000:00:02', '0000:00:03.0', `${NAME}0`, '00:02.0'])
      expect(deviceFd(file, other), other).toBe('ENODEV');
    expect(deviceFd(file, `${NAME} vf_token=x`)).toBe('EINVAL');
    expect(deviceFd(file)).toBe('EINVAL');
    setContainer(file);
    // The end of a string may be the last byte of memory.
    const last = SCRATCH + BigInt(4 * PAGE - NAME.length - 1);
    expect(deviceFile(ioctl(file, get, put(name(NAME), last))).isBound).toBe(true);
    expect(deviceFile(deviceFd(file, `${NAME}  `)).name).toBe('anon_inode:[vfio-device]');
    close();
  });

  it('is attached to the container’s address space: what is mapped there, its DMA reaches', () => {
    const { file } = open();
    setContainer(file);
    const iova = 0x10_0000n;
    const map = { argsz: 32, flags: 3, vaddr: MEMORY, iova, size: BigInt(PAGE) };
    const bytes = new Uint8Array(32);
    vfio.vfio_iommu_type1_dma_map.write(new DataView(bytes.buffer), 0, map);
    const mapped = container.file.ioctl(client, vfio.VFIO_IOMMU_MAP_DMA, put(bytes));
    expect(mapped.value).toBe(0);
    deviceFd(file);
    const [fn] = machine.pciDevices;
    if (!fn) throw new Error('no function');
    fn.config.write(4, 2, 6);
    client.mm.copyOut(MEMORY, Uint8Array.of(1, 2, 3, 4));
    const into = new Uint8Array(4);
    expect(fn.dma.read(iova, into)).toBeUndefined();
    expect([...into]).toEqual([1, 2, 3, 4]);
    expect(fn.dma.read(iova + 0x1000n, into)).toBeDefined();
  });

  it('can be had several times, and is closed with the last of them', () => {
    const { file, close } = open();
    setContainer(file);
    const [one, two] = [deviceFd(file), deviceFd(file)];
    expect(objects()).toEqual(['IOAS', 'DEVICE', 'HWPT_PAGING']);
    client.close(one as number);
    expect(objects()).toEqual(['IOAS', 'DEVICE', 'HWPT_PAGING']);
    expect(ioctl(deviceFile(two), vfio.VFIO_DEVICE_RESET, 0n)).toBe(0);
    client.close(two as number);
    expect(objects()).toEqual(['IOAS']);
    close();
  });

  it('outlives its group’s file and its container’s descriptor', () => {
    const { file, close } = open();
    setContainer(file);
    const fd = deviceFd(file) as number;
    close();
    client.close(container.fd);
    expect(machine.iommufd.contexts).toHaveLength(1);
    expect(ioctl(deviceFile(fd), vfio.VFIO_DEVICE_RESET, 0n)).toBe(0);
    client.close(fd);
    expect(machine.iommufd.contexts).toHaveLength(0);
  });

  it('is bound for good: BIND is EINVAL, and attaching by hand unknown', () => {
    const { file } = open();
    setContainer(file);
    const device = deviceFile(deviceFd(file));
    const bind = word(24, 0, container.fd, 0, 0, 0);
    expect(ioctl(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, put(bind))).toBe('EINVAL');
    expect(ioctl(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, NOWHERE)).toBe('EFAULT');
    expect(ioctl(device, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, put(word(12, 0, 1)))).toBe('ENOTTY');
    expect(ioctl(device, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, put(word(8, 0)))).toBe('ENOTTY');
    // It does not let the group be bound by itself either: the device is in use.
    const cdev = machine.vfio.cdev('vfio0');
    if (!cdev) throw new Error('no vfio0');
    const iommu = new LocalClient(machine.iommufd);
    const other = new LocalVfioClient(cdev, iommu.process);
    const { result } = other.tryCall('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: iommu.fd });
    expect(text(result.value)).toBe('EBUSY');
  });

  it('is not to be had where the container has lost its address space: nothing stays behind', () => {
    const { file } = open();
    setContainer(file);
    const { ioas_id: id } = container.call('IOMMU_VFIO_IOAS', { op: IOMMU_VFIO_IOAS_GET });
    container.call('IOMMU_DESTROY', { id });
    expect(deviceFd(file)).toBe('ENODEV');
    expect(objects()).toEqual([]);
  });

  it('needs a descriptor: EMFILE comes before what is wrong with the container', () => {
    const poor = new LocalProcess({ maxFiles: 4 });
    poor.mm.map(SCRATCH, PAGE);
    poor.mm.copyOut(SCRATCH, name(NAME));
    poor.add({ kind: 'other' });
    const file = group.open();
    expect(text(file.ioctl(poor, vfio.VFIO_GROUP_GET_DEVICE_FD, SCRATCH).value)).toBe('EMFILE');
    file.release();
  });

  it('is taken or not, whatever fails on the way', () => {
    const { file } = open();
    const failed = sweepFaults(
      () => {
        const set = setContainer(file);
        const fd = set === 0 ? deviceFd(file) : set;
        if (sim.faults.injected === undefined) return void deviceFile(fd);
        expect(fd).toBe('ENOMEM');
        if (set === 0) unsetContainer(file);
        expect(objects().filter((type) => type !== 'IOAS')).toEqual([]);
      },
      { faults: sim.faults },
    );
    expect(failed).toBeGreaterThan(3);
  });
});
