// SPDX-License-Identifier: Apache-2.0
/** What a client makes happen by signalling an eventfd: registers written, INTx unmasked; and who is told when a device wakes. */
import { beforeEach, describe, expect, it } from 'vitest';
import * as vfio from '../abi/vfio.ts';
import { errnoName } from '../base/errno.ts';
import { BAR_BYTES, FakeRegisters, FakeRig } from './fake_rig.ts';
import { regionOffset } from './regions.ts';

const { VFIO_PCI_BAR0_REGION_INDEX: BAR0, VFIO_PCI_CONFIG_REGION_INDEX: CONFIG } = vfio;
const { VFIO_PCI_INTX_IRQ_INDEX: INTX, VFIO_IRQ_SET_DATA_EVENTFD: EVENTFD } = vfio;
const COMMAND = 4;
const MEMORY = 2n;
const TABLE = 0x800;

let rig: FakeRig;
let registers: FakeRegisters;

beforeEach(() => {
  registers = new FakeRegisters(BAR_BYTES);
  rig = new FakeRig({
    interruptPin: 1,
    msix: { vectors: 8, bar: 0, tableOffset: TABLE, pbaOffset: 0x900 },
    bars: [{ index: 0, size: BAR_BYTES, handler: registers }],
  });
  rig.device.set(CONFIG, COMMAND, MEMORY, 2);
  return () => rig.sim.assertNothingHeld();
});

const text = (value: number): string => (value < 0 ? errnoName(-value) : `${value}`);

function eventfd() {
  const { events, fds } = rig.eventfds(1);
  const [event] = events;
  const [fd] = fds;
  if (!event || fd === undefined) throw new Error('no eventfd');
  return { event, fd };
}

describe('an eventfd for a write', () => {
  const ask = (
    fd: number,
    flags = 4,
    offset = 0x10,
    data = 0x1234_5678n,
    region: number = BAR0,
  ): string => {
    const at = regionOffset(region) + BigInt(offset);
    const { result } = rig.device.tryCall('VFIO_DEVICE_IOEVENTFD', { flags, offset: at, data, fd });
    return text(result.value);
  };

  it('makes it each time that it is signalled, in one access, until it is taken away', () => {
    const { event, fd } = eventfd();
    expect(ask(fd)).toBe('0');
    expect(event.held).toBe(1);
    event.write();
    event.write();
    expect(registers.accesses).toEqual(['w4@0x10', 'w4@0x10']);
    expect(registers.view.getUint32(0x10, true)).toBe(0x1234_5678);
    expect([ask(fd), ask(-1), ask(-1)]).toEqual(['EEXIST', '0', 'ENODEV']);
    event.write();
    expect([event.held, event.count, registers.accesses.length]).toEqual([0, 1, 2]);
  });

  it.each([1, 2, 4] as const)('has %i bytes, of which the register gets the low ones', (size) => {
    const { event, fd } = eventfd();
    expect(ask(fd, size, 0x21, 0xffff_ffff_ffff_fffen)).toBe('0');
    event.write();
    expect(registers.accesses).toEqual([`w${size}@0x21`]);
    expect(registers.view.getUint8(0x21)).toBe(0xfe);
  });

  it('that was signalled before makes it at once', () => {
    const { event, fd } = eventfd();
    event.write();
    expect(ask(fd)).toBe('0');
    expect(registers.accesses).toEqual(['w4@0x10']);
  });

  it('makes none while BARs are off', () => {
    const { event, fd } = eventfd();
    expect(ask(fd)).toBe('0');
    rig.device.set(CONFIG, COMMAND, 0n, 2);
    event.write();
    expect([registers.accesses, event.count]).toEqual([[], 0]);
  });

  it.each([
    ['no size', 0, 0x10],
    ['two sizes', 3, 0x10],
    ['a flag that is none', 0x14, 0x10],
    ['8 bytes', 8, 0x10],
    ['the end', 4, BAR_BYTES - 3],
    ['the table of MSI-X', 4, TABLE + 4],
    ['a part of the table', 4, TABLE - 2],
  ])('is refused for %s', (_what, flags, offset) => {
    const { event, fd } = eventfd();
    expect([ask(fd, flags, offset), event.held]).toEqual(['EINVAL', 0]);
  });

  it('is refused for what is no BAR, and no eventfd', () => {
    const { fd } = eventfd();
    expect(ask(fd, 4, 0x10, 0n, CONFIG)).toBe('EINVAL');
    expect(ask(fd, 4, 0x10, 0n, 1)).toBe('EINVAL');
    expect(ask(-2)).toBe('EINVAL');
    expect(ask(99)).toBe('EBADF');
    expect(ask(rig.iommu.process.add({ kind: 'other' }))).toBe('EINVAL');
    expect(ask(-1)).toBe('ENODEV');
  });

  it('can stand for a thousand writes and no more, which all end with the device', () => {
    const { event, fd } = eventfd();
    for (let i = 0n; i < 1000n; i++) expect(ask(fd, 4, 0x10, i)).toBe('0');
    expect(ask(fd, 4, 0x10, 1000n)).toBe('ENOSPC');
    expect(event.held).toBe(1000);
    rig.device.close();
    expect(event.held).toBe(0);
  });
});

describe('an eventfd that unmasks INTx', () => {
  const set = (action: number, fd: number): string => {
    const data = new Uint8Array(Int32Array.of(fd).buffer);
    const fields = { flags: EVENTFD | action, index: INTX, count: 1 };
    return text(rig.device.tryCall('VFIO_DEVICE_SET_IRQS', fields, data).result.value);
  };
  const { VFIO_IRQ_SET_ACTION_TRIGGER: TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK: UNMASK } = vfio;

  it('does what unmasking by a call does: a line that is asserted tells again', () => {
    const [told, unmask] = [eventfd(), eventfd()];
    expect(set(UNMASK, unmask.fd)).toBe('EINVAL');
    expect(set(TRIGGER, told.fd)).toBe('0');
    expect(set(UNMASK, unmask.fd)).toBe('0');
    rig.fn.interrupts.setLevel(true);
    expect(told.event.count).toBe(1);
    unmask.event.write();
    expect(told.event.count).toBe(2);
    rig.fn.interrupts.setLevel(false);
    unmask.event.write();
    rig.fn.interrupts.setLevel(true);
    expect([told.event.count, unmask.event.count]).toEqual([3, 0]);
  });

  it('is one at a time, and goes with the line or by -1', () => {
    const [told, one, two] = [eventfd(), eventfd(), eventfd()];
    set(TRIGGER, told.fd);
    expect([set(UNMASK, one.fd), set(UNMASK, two.fd)]).toEqual(['0', 'EBUSY']);
    expect([set(UNMASK, 99), set(UNMASK, -1), set(UNMASK, two.fd)]).toEqual(['EBADF', '0', '0']);
    expect([one.event.held, two.event.held]).toEqual([0, 1]);
    rig.device.close();
    expect(two.event.held).toBe(0);
  });
});

describe('low power', () => {
  const { VFIO_DEVICE_FEATURE_SET: SET, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: ENTRY } = vfio;
  const WAKEUP = vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
  const EXIT = vfio.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
  const set = (feature: number, ...fd: number[]): string => {
    const data = new Uint8Array(Int32Array.of(...fd, 0).buffer);
    const fields = { flags: feature | SET };
    return text(rig.device.tryCall('VFIO_DEVICE_FEATURE', fields, data).result.value);
  };

  it('ends with the first call where somebody wants to be told of that', () => {
    const { event, fd } = eventfd();
    expect(set(WAKEUP, fd)).toBe('0');
    expect([event.count, event.held]).toEqual([0, 1]);
    rig.device.get(BAR0, 0);
    expect([event.count, event.held]).toEqual([1, 0]);
    rig.device.get(BAR0, 0);
    expect([event.count, set(ENTRY), set(ENTRY), set(EXIT), set(EXIT)]).toEqual([
      1,
      '0',
      'EINVAL',
      '0',
      '0',
    ]);
  });

  it('goes on where nobody does, and masks INTx while the device sleeps', () => {
    const told = eventfd();
    const data = new Uint8Array(Int32Array.of(told.fd).buffer);
    const flags = EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER;
    rig.device.call('VFIO_DEVICE_SET_IRQS', { flags, index: INTX, count: 1 }, data);
    expect(set(ENTRY)).toBe('0');
    rig.fn.interrupts.setLevel(true);
    expect(told.event.count).toBe(0);
    rig.device.get(BAR0, 0);
    expect(told.event.count).toBe(1);
    const { fd, event } = eventfd();
    expect([set(WAKEUP, fd), event.held]).toEqual(['EINVAL', 0]);
    expect(set(EXIT)).toBe('0');
  });

  it('lets go of what it would have told when the device is closed', () => {
    const { event, fd } = eventfd();
    expect([set(WAKEUP, -1), set(WAKEUP, 99), set(WAKEUP, fd)]).toEqual(['EINVAL', 'EBADF', '0']);
    rig.device.close();
    expect([event.count, event.held]).toEqual([0, 0]);
  });
});
