// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import * as t from '../abi/iommufd_test.ts';
import { Errno, type ErrnoError } from '../base/errno.ts';
import type { MockDevice } from '../drivers/mock/mock_device.ts';
import { MockIommu } from '../drivers/mock/mock_iommu.ts';
import { NO_PASID } from '../iommu/device.ts';
import { type PageResponse, PageResponseCode } from '../iommu/fault.ts';
import { reportDeviceFault } from '../iommu/io_pgfault.ts';
import { type DeviceFile, Poll } from '../kernel/file.ts';
import { Sim } from '../sim/sim.ts';
import { attachDevice, detachDevice, replaceDevice } from './change_pt.ts';
import { IommufdDevice } from './device.ts';
import { FaultQueue } from './fault.ts';
import { Iommufd } from './iommufd.ts';
import { LocalClient } from './local_client.ts';

/* The numbers of iommufd.h, written out again. */
const FAULT_ID_VALID = 4;
const PASID_FLAG = 8;
const FAULT = 40;
const RESPONSE = 8;

const BUFFER = 0x20_0000n;
const NOWHERE = 0x7000_0000n;

let iommufd: Iommufd;
let mock: MockIommu;
let client: LocalClient;
let answers: PageResponse[];
let stdev: number;
let idev: number;
let ioas: number;
let fault: { out_fault_id: number; out_fault_fd: number };
let file: DeviceFile;

beforeEach(() => {
  iommufd = new Iommufd({ sim: new Sim({ checkLocks: true }) });
  mock = new MockIommu(iommufd.core);
  iommufd.testHardware = mock;
  answers = [];
  mock.onPageResponse = (_device, response) => answers.push(response);
  client = new LocalClient(iommufd);
  client.process.mm.map(BUFFER, 0x1000);
  ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const made = client.call('IOMMU_TEST_CMD', {
    op: t.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
    id: ioas,
    u: { mock_domain_flags: { dev_flags: t.MOCK_FLAGS_DEVICE_PASID } },
  });
  stdev = made.u.mock_domain.out_stdev_id;
  idev = made.u.mock_domain.out_idev_id;
  fault = newQueue();
  file = fileOf(fault.out_fault_fd);
  return expectQuiet;
});

function expectQuiet(): void {
  expect(iommufd.core.warnings).toEqual([]);
  expect(iommufd.core.spuriousPageResponses).toBe(0);
  iommufd.sim.assertNothingHeld();
}

function newQueue(): { out_fault_id: number; out_fault_fd: number } {
  const { out_fault_id, out_fault_fd } = client.call('IOMMU_FAULT_QUEUE_ALLOC', {});
  return { out_fault_id, out_fault_fd };
}

function fileOf(fd: number): DeviceFile {
  const open = client.process.get(fd);
  if (open?.kind !== 'device') throw new Error(`${fd} is no device file`);
  return open.file;
}

const hwpt = (flags: number, fault_id = fault.out_fault_id): number =>
  client.call('IOMMU_HWPT_ALLOC', { dev_id: idev, pt_id: ioas, flags, fault_id }).out_hwpt_id;
const faulting = (flags = 0): number => hwpt(flags | FAULT_ID_VALID);
const replace = (pt_id: number) =>
  client.call('IOMMU_TEST_CMD', {
    op: t.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
    id: stdev,
    u: { mock_domain_replace: { pt_id } },
  });
const trigger = (grpid: number, pasid = 0, dev_id = idev) =>
  client.call('IOMMU_TEST_CMD', {
    op: t.IOMMU_TEST_OP_TRIGGER_IOPF,
    u: { trigger_iopf: { dev_id, pasid, grpid, perm: 1, addr: 0x1000n } },
  });
const read = (count: number, address = BUFFER): number =>
  file.read?.(client.process, address, count) ?? 0;

/** The n-th fault that was read, as words of 32 bits: flags, device, PASID, group, perm, reserved, address (2), length, cookie. */
function word(index: number, which: number): number {
  const bytes = new Uint8Array(4);
  client.process.mm.copyIn(BUFFER + BigInt(index * FAULT + which * 4), bytes);
  return new DataView(bytes.buffer).getUint32(0, true);
}
const cookie = (index = 0): number => word(index, 9);
const group = (index = 0): number => word(index, 3);

function respond(...pairs: readonly (readonly [cookie: number, code: number])[]): number {
  const words = Uint32Array.from(pairs.flat());
  client.process.mm.copyOut(BUFFER, new Uint8Array(words.buffer));
  return file.write?.(client.process, BUFFER, pairs.length * RESPONSE) ?? 0;
}

function code(body: () => unknown): string {
  try {
    body();
    return 'OK';
  } catch (error) {
    return (error as ErrnoError).code;
  }
}

const destroy = (id: number): string => code(() => client.call('IOMMU_DESTROY', { id }));

describe('a fault queue', () => {
  it('is busy while its descriptor is open, and answers no flags', () => {
    expect(code(() => client.call('IOMMU_FAULT_QUEUE_ALLOC', { flags: 1 }))).toBe('EOPNOTSUPP');
    expect(destroy(fault.out_fault_id)).toBe('EBUSY');
    client.process.close(fault.out_fault_fd);
    expect(destroy(fault.out_fault_id)).toBe('OK');
  });

  it('keeps its context open when /dev/iommu is closed first', () => {
    replace(faulting());
    trigger(1);
    client.close();
    expect(iommufd.contexts).toHaveLength(1);
    expect(read(FAULT)).toBe(FAULT);
    file.release();
    expect(iommufd.contexts).toEqual([]);
    expect(answers.map(({ code }) => code)).toEqual([PageResponseCode.INVALID]);
  });

  it('is not left behind where no descriptor can be made, or the answer can not be written', () => {
    const before = [...client.file.context.objects].length;
    const full = client.process;
    const opened: number[] = [];
    expect(
      code(() => {
        for (;;) opened.push(full.add({ kind: 'other' }));
      }),
    ).toBe('EMFILE');
    expect(code(newQueue)).toBe('EMFILE');
    for (const fd of opened) full.close(fd);
    expect([...client.file.context.objects]).toHaveLength(before);
    const next = newQueue();
    expect(next.out_fault_id).toBeGreaterThan(fault.out_fault_id);
  });

  it('always polls writable, and readable while there is a fault to read', () => {
    let woken = 0;
    file.pollChanged = () => woken++;
    replace(faulting());
    expect(file.poll?.()).toBe(Poll.OUT);
    trigger(1);
    expect(woken).toBe(1);
    expect(file.poll?.()).toBe(Poll.OUT | Poll.IN | Poll.RDNORM);
    read(FAULT);
    expect(woken).toBe(2);
    expect(file.poll?.()).toBe(Poll.OUT);
  });
});

describe('reading faults', () => {
  beforeEach(() => replace(faulting()));

  it('C2: says which device it was, and what it wanted', () => {
    trigger(7);
    expect(read(FAULT)).toBe(FAULT);
    const words = Array.from({ length: 10 }, (_, which) => word(0, which));
    expect(words).toEqual([2, idev, 0, 7, 1, 0, 0x1000, 0, 0, 1]);
  });

  it('never blocks: 0 where there is none', () => {
    expect(read(FAULT)).toBe(0);
    expect(read(0)).toBe(0);
  });

  it('is by multiples of a fault, and of whole groups', () => {
    expect(read(FAULT - 1)).toBe(-Errno.ESPIPE);
    trigger(1);
    expect(read(0)).toBe(-Errno.EINVAL);
    const [device] = mock.devices;
    if (!device) throw new Error('no device');
    reportDeviceFault(device, { flags: 0, pasid: 0, grpid: 2, perm: 2, addr: 0x5000n });
    reportDeviceFault(device, { flags: 2, pasid: 0, grpid: 2, perm: 2, addr: 0x6000n });
    expect(read(2 * FAULT)).toBe(FAULT); // the first group; the second has two
    expect(read(FAULT)).toBe(-Errno.EINVAL);
    expect(read(3 * FAULT)).toBe(2 * FAULT);
    expect([word(0, 6), word(1, 6)]).toEqual([0x5000, 0x6000]);
    expect(cookie(0)).toBe(cookie(1));
  });

  it('loses nothing where the memory can not be written', () => {
    trigger(1);
    expect(read(FAULT, NOWHERE)).toBe(-Errno.EFAULT);
    expect(file.refusal).toMatch(/0x70000000/);
    trigger(2);
    // The second fault would lie beyond the end of the memory.
    expect(read(2 * FAULT, BUFFER + 0x1000n - BigInt(FAULT))).toBe(FAULT);
    expect(read(FAULT)).toBe(FAULT);
    expect([group(), cookie()]).toEqual([2, 2]);
  });

  it('refuses addresses that are no client’s before anything else', () => {
    expect(read(FAULT - 1, 0xffff_8000_0000_0000n)).toBe(-Errno.EFAULT);
  });

  it('gives the lowest free cookies, from 1', () => {
    for (const grpid of [1, 2, 3]) trigger(grpid);
    read(3 * FAULT);
    expect([cookie(0), cookie(1), cookie(2)]).toEqual([1, 2, 3]);
    expect(respond([2, 0])).toBe(RESPONSE);
    trigger(4);
    read(FAULT);
    expect(cookie()).toBe(2);
  });
});

describe('answering faults', () => {
  beforeEach(() => {
    replace(faulting());
    trigger(1);
    trigger(2);
    read(2 * FAULT);
  });

  it('C7: passes SUCCESS and INVALID on, and knows no other code', () => {
    expect(respond([1, 2])).toBe(-Errno.EINVAL);
    expect(answers).toEqual([]);
    expect(respond([1, 0], [2, 1])).toBe(2 * RESPONSE);
    expect(answers).toEqual([
      { pasid: 0, grpid: 1, code: PageResponseCode.SUCCESS },
      { pasid: 0, grpid: 2, code: PageResponseCode.INVALID },
    ]);
  });

  it('C8: an unknown cookie, and one that had its answer, are EINVAL', () => {
    expect(respond([9, 0])).toBe(-Errno.EINVAL);
    expect(respond([1, 0])).toBe(RESPONSE);
    expect(respond([1, 0])).toBe(-Errno.EINVAL);
    expect(answers).toHaveLength(1);
  });

  it('C8: the cookies of one queue are unknown to another', () => {
    const other = fileOf(newQueue().out_fault_fd);
    client.process.mm.copyOut(BUFFER, new Uint8Array(Uint32Array.of(1, 0).buffer));
    expect(other.write?.(client.process, BUFFER, RESPONSE)).toBe(-Errno.EINVAL);
    expect(answers).toEqual([]);
    expect(respond([1, 0])).toBe(RESPONSE);
  });

  it('takes answers up to the first bad one', () => {
    expect(respond([1, 0], [7, 0], [2, 0])).toBe(RESPONSE);
    expect(answers).toHaveLength(1);
    expect(file.write?.(client.process, BUFFER, RESPONSE - 1)).toBe(-Errno.ESPIPE);
    expect(file.write?.(client.process, NOWHERE, RESPONSE)).toBe(-Errno.EFAULT);
  });

  it('for cookie 0 is EINVAL, and makes 0 a cookie while others wait, as on Linux', () => {
    expect(respond([0, 0])).toBe(-Errno.EINVAL);
    trigger(3);
    read(FAULT);
    expect(cookie()).toBe(0);
    expect(respond([0, 0])).toBe(RESPONSE);
    expect(answers.map(({ grpid }) => grpid)).toEqual([3]);
  });

  it('for cookie 0 changes nothing while none waits', () => {
    respond([1, 0], [2, 0]);
    expect(respond([0, 0])).toBe(-Errno.EINVAL);
    trigger(3);
    read(FAULT);
    expect(cookie()).toBe(1);
  });
});

describe('fault-capable tables', () => {
  it('A2: hold their queue, and want one that is there', () => {
    const table = faulting();
    client.process.close(fault.out_fault_fd);
    expect(destroy(fault.out_fault_id)).toBe('EBUSY');
    expect(destroy(table)).toBe('OK');
    expect(destroy(fault.out_fault_id)).toBe('OK');
    const before = [...client.file.context.objects].length;
    expect(code(() => hwpt(FAULT_ID_VALID, 999))).toBe('ENOENT');
    expect(code(() => hwpt(FAULT_ID_VALID, idev))).toBe('ENOENT');
    expect(code(() => hwpt(FAULT_ID_VALID | 1, 999))).toBe('EOPNOTSUPP'); // flags come first
    expect([...client.file.context.objects]).toHaveLength(before);
    expect(hwpt(0, 999)).toBeGreaterThan(0);
  });

  it('C1: turn faults on while they are attached', () => {
    const [device] = mock.devices;
    expect(device?.faultParam).toBeUndefined();
    replace(faulting());
    expect(device?.faultParam).toBeDefined();
    replace(ioas);
    expect(device?.faultParam).toBeUndefined();
  });

  it('C4: a detach answers what was read and what was not', () => {
    client.call('IOMMU_TEST_CMD', {
      op: t.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
      id: stdev,
      u: { mock_domain_replace: { pt_id: hwpt(PASID_FLAG) } },
    });
    const table = faulting(PASID_FLAG);
    client.call('IOMMU_TEST_CMD', {
      op: t.IOMMU_TEST_OP_PASID_ATTACH,
      id: stdev,
      u: { pasid_attach: { pasid: 9, pt_id: table } },
    });
    trigger(1, 9);
    trigger(2, 9);
    expect(read(FAULT)).toBe(FAULT);
    expect(word(0, 0)).toBe(3);
    expect(word(0, 2)).toBe(9);
    client.call('IOMMU_TEST_CMD', {
      op: t.IOMMU_TEST_OP_PASID_DETACH,
      id: stdev,
      u: { pasid_detach: { pasid: 9 } },
    });
    const { INVALID: code } = PageResponseCode;
    expect(answers.toSorted((a, b) => a.grpid - b.grpid)).toEqual([
      { pasid: 9, grpid: 1, code },
      { pasid: 9, grpid: 2, code },
    ]);
    expect(read(FAULT)).toBe(0);
    expect(respond([1, 0])).toBe(-Errno.EINVAL);
    expect(destroy(table)).toBe('OK');
  });

  it('C5: a replace answers what is owed to the old attachment, from fault-capable to fault-capable too', () => {
    replace(faulting());
    trigger(1);
    const second = faulting();
    replace(second);
    expect(answers).toEqual([{ pasid: 0, grpid: 1, code: PageResponseCode.INVALID }]);
    expect(read(FAULT)).toBe(0);
    trigger(2);
    expect(read(FAULT)).toBe(FAULT);
    expect(group()).toBe(2);
  });

  it('C5: a replace that fails leaves the faults of the old attachment alone', () => {
    replace(faulting());
    trigger(1);
    expect(code(() => replace(999))).toBe('ENOENT');
    const queue = [...client.file.context.objects].find((object) => object instanceof FaultQueue);
    expect(queue?.outstanding).toEqual({ queued: 1, unanswered: 0 });
    expect(answers).toEqual([]);
  });

  it('C13: a fault where none are taken is answered INVALID, and the trigger says nothing', () => {
    trigger(1);
    expect(answers).toEqual([{ pasid: 0, grpid: 1, code: PageResponseCode.INVALID }]);
    expect(read(FAULT)).toBe(0);
    expect(code(() => trigger(1, 0, ioas))).toBe('ENOENT');
  });
});

describe('devices', () => {
  function bind(options: { group?: number; sharesPageRequests?: boolean }): {
    bound: IommufdDevice;
    device: MockDevice;
  } {
    const device = mock.createDevice(t.MOCK_FLAGS_DEVICE_PASID, options);
    if (typeof device === 'number') throw new Error('no device');
    const { context } = client.file;
    return { device, bound: IommufdDevice.claim(context, device, { selftest: true }) };
  }

  it('C3: that share page requests with a physical function take no fault-capable table', () => {
    const { bound } = bind({ sharesPageRequests: true });
    const table = faulting(PASID_FLAG);
    expect(code(() => attachDevice(bound, NO_PASID, table))).toBe('EINVAL');
    expect(code(() => attachDevice(bound, 5, table))).toBe('EINVAL');
    const plain = hwpt(PASID_FLAG);
    attachDevice(bound, NO_PASID, plain);
    expect(code(() => replaceDevice(bound, NO_PASID, table))).toBe('EINVAL');
    detachDevice(client.file.context, bound, NO_PASID);
    bound.unbind();
  });

  it('C2: of one group are told apart in their faults', () => {
    const [first, second] = [bind({ group: 1 }), bind({ group: 1 })];
    const table = faulting();
    attachDevice(first.bound, NO_PASID, table);
    attachDevice(second.bound, NO_PASID, table);
    const request = { flags: 2, pasid: 0, grpid: 1, perm: 1, addr: 0n };
    expect(reportDeviceFault(second.device, request)).toBe(0);
    expect(reportDeviceFault(first.device, request)).toBe(0);
    expect(read(2 * FAULT)).toBe(2 * FAULT);
    expect([word(0, 1), word(1, 1)]).toEqual([second.bound.id, first.bound.id]);
    for (const { bound } of [first, second]) {
      detachDevice(client.file.context, bound, NO_PASID);
      bound.unbind();
    }
    expect(answers).toHaveLength(2);
  });

  it('C2: lead back to their object also where another attached their group, and to one that is there where they went', () => {
    const [first, second] = [bind({ group: 1 }), bind({ group: 1 })];
    attachDevice(first.bound, NO_PASID, faulting());
    const request = { flags: 2, pasid: 0, grpid: 1, perm: 1, addr: 0n };
    reportDeviceFault(second.device, request);
    reportDeviceFault(second.device, { ...request, grpid: 2 });
    expect(read(FAULT)).toBe(FAULT);
    expect(word(0, 1)).toBe(second.bound.id);
    second.bound.unbind();
    expect(client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id).toBe(second.bound.id);
    expect(read(FAULT)).toBe(FAULT);
    expect(word(0, 1)).toBe(first.bound.id);
    detachDevice(client.file.context, first.bound, NO_PASID);
    first.bound.unbind();
  });
});
