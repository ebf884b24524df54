// SPDX-License-Identifier: Apache-2.0
/** Who has a device, and from when to when: open, bind, attach, detach, close, in every order. */
import { beforeEach, describe, expect, it } from 'vitest';
import * as vfio from '../abi/vfio.ts';
import { type ErrnoName, Errno } from '../base/errno.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { LocalProcess } from '../kernel/local_process.ts';
import { Machine } from '../machine/machine.ts';
import { LocalMm } from '../memory/local_mm.ts';
import { Sim } from '../sim/sim.ts';
import type { VfioCdev } from './cdev.ts';
import { LocalVfioClient } from './local_client.ts';

const wholePage = { offset: 0n, length: 0x1000n, shared: true, executable: false };

const { VFIO_PCI_CONFIG_REGION_INDEX: CONFIG, VFIO_PCI_BAR0_REGION_INDEX: BAR0 } = vfio;

let sim: Sim;
let machine: Machine;
let cdev: VfioCdev;
let iommu: LocalClient;
let device: LocalVfioClient;

beforeEach(() => {
  sim = new Sim({ checkLocks: true });
  machine = new Machine({ sim });
  const first = machine.vfio.cdev('vfio0');
  if (!first) throw new Error('the default machine has no PCI device');
  cdev = first;
  iommu = new LocalClient(machine.iommufd);
  device = new LocalVfioClient(cdev, iommu.process);
  return () => {
    sim.assertNothingHeld();
    expect(machine.iommufd.core.warnings).toEqual([]);
  };
});

const bind = (client = device, iommufd = iommu.fd, more: object = {}) =>
  client.tryCall('VFIO_DEVICE_BIND_IOMMUFD', { iommufd, ...more });

const attach = (pt_id: number, client = device) =>
  client.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id }).pt_id;

const errno = ({ result }: { readonly result: { readonly value: number } }): string =>
  result.value === 0
    ? '0'
    : (Object.entries(Errno).find(([, value]) => value === -result.value)?.[0] ?? '?');

/** What `body` throws, as an errno. */
function thrown(body: () => unknown): ErrnoName | undefined {
  try {
    body();
  } catch (error) {
    return (error as { code: ErrnoName }).code;
  }
  return undefined;
}

const ioas = (): number => iommu.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
const destroy = (id: number) => iommu.tryCall('IOMMU_DESTROY', { id }).result.value;

it('the first device is vfio0, with minor number 0', () => {
  expect([cdev.name, cdev.minor, cdev.path]).toEqual(['vfio0', 0, '/dev/vfio/devices/vfio0']);
  expect(device.file.name).toBe('/dev/vfio/devices/vfio0');
});

describe('before it is bound', () => {
  it('every ioctl but BIND is EINVAL, known or not', () => {
    expect(errno(device.tryCall('VFIO_DEVICE_GET_INFO', {}))).toBe('EINVAL');
    expect(errno(device.tryCall('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: 1 }))).toBe('EINVAL');
    expect(device.file.ioctl(device.process, 0x1234, 0n).value).toBe(-Errno.EINVAL);
    expect(thrown(() => device.reset())).toBe('EINVAL');
  });

  it('regions are EINVAL, and the reason says what to do', () => {
    expect(thrown(() => device.read(CONFIG, 0, 4))).toBe('EINVAL');
    expect(thrown(() => device.write(BAR0, 0, new Uint8Array(4)))).toBe('EINVAL');
    expect(device.file.mmap(device.process, wholePage)).toBe(-Errno.EINVAL);
    expect(device.file.refusal).toContain('VFIO_DEVICE_BIND_IOMMUFD comes first');
  });

  it('its Command register is as firmware left it', () => {
    expect(machine.pciDevices[0]?.isBusMaster).toBe(false);
    device.close();
    expect(cdev.openFiles).toBe(0);
  });
});

describe('BIND', () => {
  it('gives the id of the device object in the context', () => {
    const { result, reply } = bind();
    expect(result).toMatchObject({ value: 0, why: '' });
    expect(reply.out_devid).toBe(1);
    expect(iommu.call('IOMMU_GET_HW_INFO', { dev_id: reply.out_devid })).toBeDefined();
  });

  it('writes out_devid back and nothing else', () => {
    expect(bind(device, iommu.fd, { token_uuid_ptr: 0n }).reply).toMatchObject({
      argsz: 24,
      flags: 0,
      iommufd: iommu.fd,
    });
  });

  it('checks in order: argsz, tail, descriptor and flags, what the descriptor is', () => {
    expect(errno(bind(device, -1, { argsz: 15 }))).toBe('EINVAL');
    const long = new Uint8Array(8);
    long[7] = 1;
    const tail = device.tryCall('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: -1, argsz: 32 }, undefined);
    expect(errno(tail)).toBe('EINVAL');
    device.process.mm.copyOut(0x7ffe_0000_0000n + 24n, long);
    expect(
      device.file.ioctl(device.process, vfio.VFIO_DEVICE_BIND_IOMMUFD, 0x7ffe_0000_0000n).value,
    ).toBe(-Errno.E2BIG);
    expect(errno(bind(device, -1))).toBe('EINVAL');
    expect(errno(bind(device, 99, { flags: 2 }))).toBe('EINVAL');
    expect(errno(bind(device, 99))).toBe('EBADF');
    expect(errno(bind(device, device.fd))).toBe('EBADFD');
    expect(errno(bind(device, iommu.process.add({ kind: 'other' })))).toBe('EBADFD');
    expect(device.file.ioctl(device.process, vfio.VFIO_DEVICE_BIND_IOMMUFD, 8n).value).toBe(
      -Errno.EFAULT,
    );
    expect(cdev.device.isBound).toBe(false);
    expect(errno(bind())).toBe('0');
  });

  it('the first version of the structure, without the token, is enough', () => {
    expect(errno(bind(device, iommu.fd, { argsz: 16 }))).toBe('0');
  });

  it('a token is read, and refused for a device without virtual functions', () => {
    expect(errno(bind(device, 99, { flags: 1, token_uuid_ptr: 8n }))).toBe('EFAULT');
    expect(errno(bind(device, 99, { flags: 1, token_uuid_ptr: 0x7ffe_0000_0000n }))).toBe('EINVAL');
  });

  it('a second bind of the same file is EINVAL, before its token or descriptor is looked at', () => {
    bind();
    expect(errno(bind(device, 99))).toBe('EINVAL');
    expect(errno(bind())).toBe('EINVAL');
  });

  it('another file, of this process or another, is EINVAL until the first is closed', () => {
    bind();
    const second = new LocalVfioClient(cdev, iommu.process);
    expect(errno(bind(second))).toBe('EINVAL');
    const other = new LocalClient(machine.iommufd, new LocalProcess({ pid: 2, mm: new LocalMm() }));
    const theirs = new LocalVfioClient(cdev, other.process);
    expect(errno(bind(theirs, other.fd))).toBe('EINVAL');
    expect(errno(bind(theirs, 99))).toBe('EBADF');
    device.close();
    expect(errno(bind(theirs, other.fd))).toBe('0');
  });

  it('where the answer can not be written it is not bound: EFAULT', () => {
    const { mm } = device.process;
    const page = 0x5000_0000n;
    mm.map(page, 4096);
    const bytes = new DataView(new ArrayBuffer(24));
    bytes.setUint32(0, 24, true);
    bytes.setInt32(8, iommu.fd, true);
    mm.copyOut(page, new Uint8Array(bytes.buffer));
    mm.protect(page, 4096, { readable: true, writable: false });
    const answer = device.file.ioctl(device.process, vfio.VFIO_DEVICE_BIND_IOMMUFD, page);
    expect(answer.value).toBe(-Errno.EFAULT);
    expect(cdev.device.isBound).toBe(false);
    expect(machine.iommufd.contexts[0]?.objects.isEmpty).toBe(true);
    expect(errno(bind())).toBe('0');
  });

  it('keeps the device object from being destroyed', () => {
    expect(destroy(bind().reply.out_devid)).toBe(-Errno.EBUSY);
  });
});

describe('ATTACH and DETACH', () => {
  beforeEach(() => void bind());

  it('attaching to an IOAS answers the table that was made; again to the same changes nothing', () => {
    const id = ioas();
    const table = attach(id);
    expect(table).not.toBe(id);
    expect(attach(id)).toBe(table);
    expect(attach(table)).toBe(table);
  });

  it('attaching to another moves it, and the old table goes', () => {
    const [first, second] = [ioas(), ioas()];
    const old = attach(first);
    expect(destroy(first)).toBe(-Errno.EBUSY);
    const table = attach(second);
    expect(destroy(old)).toBe(-Errno.ENOENT);
    expect(destroy(first)).toBe(0);
    device.call('VFIO_DEVICE_DETACH_IOMMUFD_PT', {});
    expect(destroy(table)).toBe(-Errno.ENOENT);
    expect(destroy(second)).toBe(0);
  });

  it('detaching what is not attached is no error', () => {
    expect(errno(device.tryCall('VFIO_DEVICE_DETACH_IOMMUFD_PT', {}))).toBe('0');
  });

  it('ids that are not there or nothing to attach to are refused, and what was attached stays', () => {
    const table = attach(ioas());
    expect(errno(device.tryCall('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: 99 }))).toBe('ENOENT');
    expect(errno(device.tryCall('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: 1 }))).toBe('EINVAL');
    expect(attach(table)).toBe(table);
  });

  it('argsz and flags', () => {
    const pt_id = ioas();
    const tried = (fields: object) =>
      errno(device.tryCall('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id, ...fields }));
    expect(tried({ argsz: 11 })).toBe('EINVAL');
    expect(tried({ flags: 2 })).toBe('EINVAL');
    expect(tried({ flags: 1, argsz: 12 })).toBe('EINVAL');
    expect(errno(device.tryCall('VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 7 }))).toBe('EINVAL');
    expect(errno(device.tryCall('VFIO_DEVICE_DETACH_IOMMUFD_PT', { flags: 2 }))).toBe('EINVAL');
    expect(errno(device.tryCall('VFIO_DEVICE_DETACH_IOMMUFD_PT', { flags: 1, argsz: 8 }))).toBe(
      'EINVAL',
    );
    expect(tried({ argsz: 12 })).toBe('0');
  });

  it('a PASID is refused for a device whose IOMMU has none, and detaching one is no error', () => {
    const pt_id = ioas();
    const tried = (pasid: number) =>
      errno(device.tryCall('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id, flags: 1, pasid }));
    expect(tried(1)).toBe('EINVAL');
    expect(tried(0x8000_0000)).toBe('ENOSPC');
    expect(errno(device.tryCall('VFIO_DEVICE_DETACH_IOMMUFD_PT', { flags: 1, pasid: 1 }))).toBe(
      '0',
    );
    expect(destroy(pt_id)).toBe(0);
  });
});

describe('closing', () => {
  const isFree = () => {
    const [context] = machine.iommufd.contexts;
    return context === undefined || [...context.objects].every((object) => object.type === 'IOAS');
  };

  it('detaches, unbinds and resets; the device can be had again', () => {
    bind();
    attach(ioas());
    device.set(CONFIG, 4, 6n, 2);
    device.set(BAR0, 4, 0x1234n);
    const [fn] = machine.pciDevices;
    expect(fn?.isBusMaster).toBe(true);
    device.close();
    expect([fn?.isBusMaster, cdev.device.isBound, isFree()]).toEqual([false, false, true]);
    expect(fn?.interrupts.sink).toBeUndefined();
    const again = new LocalVfioClient(cdev, iommu.process);
    expect(errno(bind(again))).toBe('0');
    expect(again.get(BAR0, 4)).toBe(0n); // the liveness register as after power-on
  });

  it('/dev/iommu first: its objects live until the device is closed', () => {
    bind();
    attach(ioas());
    iommu.close();
    expect(machine.iommufd.contexts).toHaveLength(1);
    expect(device.call('VFIO_DEVICE_GET_INFO', {}).num_regions).toBe(9);
    device.close();
    expect(machine.iommufd.contexts).toHaveLength(0);
  });

  it('a process that ends without closing leaves nothing behind', () => {
    bind();
    attach(ioas());
    iommu.process.exit();
    expect(machine.iommufd.contexts).toHaveLength(0);
    expect([cdev.openFiles, cdev.device.isBound]).toEqual([0, false]);
    const [fn] = machine.pciDevices;
    expect(fn?.device.group?.ownerCount).toBe(0);
  });

  it('a file that was never bound changes nothing', () => {
    bind();
    const waiting = new LocalVfioClient(cdev, iommu.process);
    waiting.close();
    expect(cdev.device.isBound).toBe(true);
    expect(device.call('VFIO_DEVICE_GET_INFO', {}).num_irqs).toBe(5);
  });
});

describe('a recorded call', () => {
  it('has the name, and the structure before and after', () => {
    device.file.recording = true;
    const { call } = bind().result;
    expect(call?.name).toBe('VFIO_DEVICE_BIND_IOMMUFD');
    const values = (bytes: Uint8Array = new Uint8Array()) =>
      vfio.vfio_device_bind_iommufd.on(new DataView(bytes.buffer));
    expect([values(call?.before).out_devid, values(call?.after).out_devid]).toEqual([0, 1]);
  });

  it('has what follows the structure: the eventfds of SET_IRQS', () => {
    device.file.recording = true;
    bind();
    const flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER;
    const data = Uint8Array.of(99, 0, 0, 0);
    const { call } = device.tryCall(
      'VFIO_DEVICE_SET_IRQS',
      { flags, index: 1, count: 1 },
      data,
    ).result;
    expect(call?.arrays?.get('data')).toEqual(data);
  });

  it('without an argument or with one that can not be read has no structure', () => {
    device.file.recording = true;
    bind();
    const reset = device.file.ioctl(device.process, vfio.VFIO_DEVICE_RESET, 0n);
    expect(reset.call).toMatchObject({ name: 'VFIO_DEVICE_RESET', type: undefined });
    const bad = device.file.ioctl(device.process, vfio.VFIO_DEVICE_GET_INFO, 8n);
    expect([bad.value, bad.call?.before.length]).toEqual([-Errno.EFAULT, 0]);
    expect(device.file.ioctl(device.process, 0x3b00, 0n)).toMatchObject({
      value: -Errno.ENOTTY,
      call: { name: undefined },
    });
  });
});
