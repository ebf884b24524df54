// SPDX-License-Identifier: Apache-2.0
/** For tests: a client who has an `iommu_test` device, three pages of memory and a fault queue. Numbers are the interfaces' own, written out. */
import * as vfio from '../abi/vfio.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import type { DmaEvent } from '../pci/dma.ts';
import { LocalVfioClient } from '../vfio/local_client.ts';
import type { Machine } from './machine.ts';

const { VFIO_PCI_CONFIG_REGION_INDEX: CONFIG, VFIO_PCI_BAR0_REGION_INDEX: BAR0 } = vfio;
const BASE = 0x1000;
const MEMORY = 0x1000_0000n;
const BUFFER = 0x2000_0000n;
const IOVA = 0x10_0000n;
const PAGE = 0x1000;
const [FIXED, WRITEABLE, READABLE] = [1, 2, 4];
const FAULT_ID_VALID = 4;
const [FAULT, RESPONSE] = [40, 8];

/** `which`: the name of the character device. */
export function faultClient(machine: Machine, which = 'vfio0') {
  const events: DmaEvent[] = [];
  machine.dmaObserver = { dma: (event) => events.push(event) };
  const client = new LocalClient(machine.iommufd);
  const { mm } = client.process;
  mm.map(MEMORY, 3 * PAGE);
  mm.map(BUFFER, PAGE);
  const cdev = machine.vfio.cdev(which);
  if (!cdev) throw new Error(`no ${which}`);
  const device = new LocalVfioClient(cdev, client.process);
  const { out_devid: dev } = device.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: client.fd });
  device.set(CONFIG, 4, device.get(CONFIG, 4, 2) | 4n, 2);
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const { out_fault_id, out_fault_fd } = client.call('IOMMU_FAULT_QUEUE_ALLOC', {});
  const open = client.process.get(out_fault_fd);
  if (open?.kind !== 'device') throw new Error('no file');
  const { file } = open;
  const hwpt = (flags = FAULT_ID_VALID): number =>
    client.call('IOMMU_HWPT_ALLOC', {
      ...{ dev_id: dev, pt_id: ioas, flags },
      fault_id: flags & FAULT_ID_VALID ? out_fault_id : 0,
    }).out_hwpt_id;
  const attach = (pt_id: number, pasid?: number) =>
    device.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', {
      ...{ pt_id, flags: pasid === undefined ? 0 : 1, pasid: pasid ?? 0 },
    });
  const detach = (pasid?: number) =>
    device.call('VFIO_DEVICE_DETACH_IOMMUFD_PT', {
      ...{ flags: pasid === undefined ? 0 : 1, pasid: pasid ?? 0 },
    });
  const map = (iova = IOVA, flags = FIXED | WRITEABLE | READABLE) =>
    client.call('IOMMU_IOAS_MAP', {
      ...{ flags, ioas_id: ioas, user_va: MEMORY, length: BigInt(PAGE), iova },
    });
  const unmap = () =>
    client.call('IOMMU_IOAS_UNMAP', { ioas_id: ioas, iova: IOVA, length: BigInt(PAGE) });
  const set = (at: number, value: number) => device.set(BAR0, BASE + at, BigInt(value >>> 0), 4);
  const get = (at: number): number => Number(device.get(BAR0, BASE + at, 4));
  const state = (slot = 0): number => get(0x80 + 4 * slot);
  /** The same without looking: for tasks. */
  const start = (command: number, slot: number): void => {
    device.set(BAR0, BASE + 8, IOVA, 8);
    set(0x10, 16);
    set(0x28, slot);
    set(0x30, command);
  };
  const run = (
    command: number,
    options: { slot?: number; pasid?: number; group?: number } = {},
  ) => {
    const { slot = 0, pasid, group = 0 } = options;
    device.set(BAR0, BASE + 8, IOVA, 8);
    set(0x10, 16);
    set(0x18, pasid === undefined ? 0 : 0x8000_0000 | pasid);
    set(0x1c, group);
    set(0x28, slot);
    set(0x30, command);
    return state(slot);
  };
  /** The next fault as words of 32 bits; undefined where there is none. */
  const fault = (count = 1): number[] | undefined => {
    const size = count * FAULT;
    if (file.read?.(client.process, BUFFER, size) !== size) return undefined;
    const bytes = new Uint8Array(size);
    mm.copyIn(BUFFER, bytes);
    return [...new Uint32Array(bytes.buffer)];
  };
  const respond = (cookie: number, code = 0): number => {
    mm.copyOut(BUFFER, new Uint8Array(Uint32Array.of(cookie, code).buffer));
    return file.write?.(client.process, BUFFER, RESPONSE) ?? 0;
  };
  const [fn] = machine.pciDevices;
  if (!fn) throw new Error('no function');
  return {
    ...{ machine, client, mm, device, dev, ioas, events, fn },
    ...{ hwpt, attach, detach, map, unmap, set, get, state, run, start, fault, respond },
  };
}
