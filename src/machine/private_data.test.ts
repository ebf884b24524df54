// SPDX-License-Identifier: Apache-2.0
/** C9: private data of the hardware goes with a page request and comes back with its answer, and no program sees it. */
import { beforeEach, describe, expect, it } from 'vitest';
import * as vfio from '../abi/vfio.ts';
import { type PageRequest, PageRequestFlags, PageResponseCode } from '../iommu/fault.ts';
import {
  FaultFeature,
  type FaultRegistration,
  registerFaultHandler,
} from '../iommu/fault_registration.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { groupResponseText, pageRequestText } from '../pci/page_request_text.ts';
import { Sim } from '../sim/sim.ts';
import { LocalVfioClient } from '../vfio/local_client.ts';
import type { IommuDescription } from './description.ts';
import { Machine } from './machine.ts';

const { VFIO_PCI_CONFIG_REGION_INDEX: CONFIG } = vfio;
const BASE = 0x1000;
const BUFFER = 0x2000_0000n;
const FAULT = 40;
const FAULT_ID_VALID = 4;
const PAGE_REQUEST = 6;
/** Read, last of its group, with private data. */
const PAGE_FLAGS = 1 + 4 + 8;
const DONE = 3;
const DATA = 0xfedc_ba98_7654_3210_0123_4567_89ab_cdefn;

const devices = [{ name: 'test0', model: 'iommu_test', address: '0000:00:03.0' }] as const;
const hardwares: readonly IommuDescription[] = [
  { name: 'iommu0', driver: 'paging', devices },
  { name: 'dmar0', driver: 'intel-vtd', privateData: true, devices },
];

let machine: Machine;
let lines: string[];

function start(iommu: IommuDescription): void {
  machine = new Machine({
    sim: new Sim({ checkLocks: true }),
    description: { name: 'private data', summary: '', iommus: [iommu] },
  });
  lines = [];
  machine.dmaObserver = {
    dma: () => undefined,
    pageRequest: (...event) => lines.push(pageRequestText(...event)),
    groupResponse: (...event) => lines.push(groupResponseText(...event)),
  };
}

function fn() {
  const [first] = machine.pciDevices;
  if (!first) throw new Error('no device');
  return first;
}
function registers() {
  const bar = fn().bars[0];
  if (!bar) throw new Error('no registers');
  return bar;
}
const set = (at: number, value: bigint, width: 4 | 8 = 4): void =>
  registers().write(BASE + at, width, value);
const get = (at: number, width: 4 | 8 = 4): bigint => registers().read(BASE + at, width);

/** The device asks for a page, with private data. */
function ask(group: number): void {
  set(0xc0, BigInt.asUintN(64, DATA), 8);
  set(0xc8, DATA >> 64n, 8);
  set(0x1c, BigInt(group));
  set(0x20, BigInt(PAGE_FLAGS));
  set(0x30, BigInt(PAGE_REQUEST));
  machine.iommufd.sim.settle();
}
const answered = (): bigint => get(0xd0, 8) | (get(0xd8, 8) << 64n);

describe.each(hardwares)('C9: private data of a page request behind $driver', (iommu) => {
  beforeEach(() => {
    start(iommu);
    return () => expect(machine.iommufd.core.warnings).toEqual([]);
  });

  it('is in no record of a program’s fault queue, and goes back with its answer', () => {
    const client = new LocalClient(machine.iommufd);
    const { mm } = client.process;
    mm.map(BUFFER, 0x1000);
    const cdev = machine.vfio.cdev('vfio0');
    if (!cdev) throw new Error('no vfio0');
    const device = new LocalVfioClient(cdev, client.process);
    const { out_devid } = device.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: client.fd });
    device.set(CONFIG, 4, device.get(CONFIG, 4, 2) | 4n, 2);
    const { out_ioas_id } = client.call('IOMMU_IOAS_ALLOC', {});
    const { out_fault_id, out_fault_fd } = client.call('IOMMU_FAULT_QUEUE_ALLOC', {});
    const ids = { dev_id: out_devid, pt_id: out_ioas_id, fault_id: out_fault_id };
    const hwpt = client.call('IOMMU_HWPT_ALLOC', { ...ids, flags: FAULT_ID_VALID });
    device.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: hwpt.out_hwpt_id });
    ask(5);
    const open = client.process.get(out_fault_fd);
    if (open?.kind !== 'device') throw new Error('no file');
    expect(open.file.read?.(client.process, BUFFER, FAULT)).toBe(FAULT);
    const record = new Uint8Array(FAULT);
    mm.copyIn(BUFFER, record);
    const words = [...new Uint32Array(record.buffer)];
    // Flags (the last of its group), device, no PASID, group, permission, address, length, cookie.
    expect(words).toEqual([2, out_devid, 0, 5, 1, 0, 0, 0, 0, 1]);
    mm.copyOut(BUFFER, new Uint8Array(Uint32Array.of(1, 0).buffer));
    expect(open.file.write?.(client.process, BUFFER, 8)).toBe(8);
    machine.iommufd.sim.settle();
    expect([get(0x80), answered()]).toEqual([BigInt(DONE), DATA]);
    const data = `private data 0x${DATA.toString(16)}`;
    expect(lines).toEqual([
      `page request 0000:00:03.0 read 0x0: group 5, last, ${data}`,
      `page response 0000:00:03.0: group 5, SUCCESS, ${data}`,
    ]);
  });

  it.each([
    ['knows of it is a token, which it sends back', FaultFeature.PRIVATE_DATA],
    ['does not know of it is not there', 0],
  ])('for a registered handler that %s', (_what, features) => {
    const told: PageRequest[] = [];
    fn().config.write(4, 2, 6);
    const registration = registerFaultHandler(fn().device, 0, {
      features,
      report: (records) => {
        for (const one of records) if (one.type === 'page request') told.push(one.request);
        return 0;
      },
    });
    if (!(registration instanceof Object)) throw new Error(`refused: ${registration}`);
    ask(9);
    const [request] = told;
    if (!request) throw new Error('nothing was told');
    const { flags, privateData } = request;
    const hasToken = features !== 0;
    expect((flags & PageRequestFlags.PRIVATE_DATA) !== 0).toBe(hasToken);
    expect(privateData === undefined).toBe(!hasToken);
    expect(privateData).not.toBe(DATA);
    const code = PageResponseCode.SUCCESS;
    respondTo(registration, { grpid: 9, pasid: 0, code, ...(hasToken && { privateData: DATA }) });
    expect(answered()).toBe(hasToken ? 0n : DATA);
    if (privateData !== undefined)
      respondTo(registration, { grpid: 9, pasid: 0, code, privateData });
    expect([get(0x80), answered()]).toEqual([BigInt(DONE), DATA]);
    registration.unregister();
  });
});

function respondTo(
  registration: FaultRegistration,
  response: Parameters<FaultRegistration['respond']>[0],
): void {
  registration.respond(response);
  machine.iommufd.sim.settle();
}
