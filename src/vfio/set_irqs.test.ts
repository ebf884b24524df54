// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import * as vfio from '../abi/vfio.ts';
import { errnoName } from '../base/errno.ts';
import { BAR_BYTES, FakeRegisters, FakeRig } from './fake_rig.ts';
import type { LocalEventFd } from './local_client.ts';

const {
  VFIO_PCI_INTX_IRQ_INDEX: INTX,
  VFIO_PCI_MSI_IRQ_INDEX: MSI,
  VFIO_PCI_MSIX_IRQ_INDEX: MSIX,
  VFIO_PCI_ERR_IRQ_INDEX: ERR,
  VFIO_PCI_REQ_IRQ_INDEX: REQ,
  VFIO_IRQ_SET_DATA_NONE: NONE,
  VFIO_IRQ_SET_DATA_BOOL: BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD: EVENTFD,
  VFIO_IRQ_SET_ACTION_MASK: MASK,
  VFIO_IRQ_SET_ACTION_UNMASK: UNMASK,
  VFIO_IRQ_SET_ACTION_TRIGGER: TRIGGER,
} = vfio;

const COMMAND = 4;
const INTX_DISABLE = 0x400n;
const CONFIG = vfio.VFIO_PCI_CONFIG_REGION_INDEX;

let rig: FakeRig;

/** A function with a line, four vectors of MSI that can be masked, and eight of MSI-X. */
beforeEach(() => {
  const handler = new FakeRegisters(BAR_BYTES);
  rig = new FakeRig({
    interruptPin: 1,
    msi: { vectors: 4, maskable: true },
    msix: { vectors: 8, bar: 0, tableOffset: 0x800, pbaOffset: 0x900 },
    bars: [{ index: 0, size: BAR_BYTES, handler }],
  });
  rig.device.set(CONFIG, COMMAND, 6n, 2); // a message is a write: Bus Master Enable
  return () => rig.sim.assertNothingHeld();
});

interface Request {
  readonly flags: number;
  readonly index: number;
  readonly start?: number;
  readonly count?: number;
  readonly argsz?: number;
}

/** The errno of a SET_IRQS, or '0'. */
function set(request: Request, data: Uint8Array = new Uint8Array()): string {
  const { result } = rig.device.tryCall('VFIO_DEVICE_SET_IRQS', { count: 1, ...request }, data);
  return result.value === 0 ? '0' : errnoName(-result.value);
}

const fdData = (...fds: number[]): Uint8Array => new Uint8Array(Int32Array.from(fds).buffer);
const setFds = (index: number, fds: readonly number[], start = 0): string =>
  set({ flags: EVENTFD | TRIGGER, index, start, count: fds.length }, fdData(...fds));
const disable = (index: number): string => set({ flags: NONE | TRIGGER, index, count: 0 });
const counts = (events: readonly LocalEventFd[]): number[] => events.map(({ count }) => count);
const held = (events: readonly LocalEventFd[]): number[] => events.map((event) => event.held);

describe('GET_IRQ_INFO', () => {
  const info = (index: number) => rig.device.call('VFIO_DEVICE_GET_IRQ_INFO', { index });

  it('MSI-X that is not there does not grow', () => {
    const plain = new FakeRig();
    const { device } = plain;
    expect(device.call('VFIO_DEVICE_GET_IRQ_INFO', { index: MSIX })).toMatchObject({
      count: 0,
      flags: 0b1001,
    });
    plain.sim.assertNothingHeld();
  });

  it('INTx can be masked and masks itself; MSI comes as a whole; MSI-X grows', () => {
    expect(info(INTX)).toMatchObject({ count: 1, flags: 0b0111 });
    expect(info(MSI)).toMatchObject({ count: 4, flags: 0b1001 });
    expect(info(MSIX)).toMatchObject({ count: 8, flags: 0b0001 });
    expect(info(ERR)).toMatchObject({ count: 1, flags: 0b1001 });
    expect(info(REQ)).toMatchObject({ count: 1, flags: 0b1001 });
  });

  it('indexes that are not there are EINVAL, ERR without PCI Express too', () => {
    expect(() => info(5)).toThrow('no interrupt index 5');
    rig = new FakeRig({ express: undefined as never });
    expect(() => info(ERR)).toThrow('not PCI Express');
    expect(info(MSI).count).toBe(0);
    expect(info(INTX).count).toBe(0);
  });
});

describe('what every request is checked for', () => {
  it.each([
    ['argsz without the header', { flags: NONE | TRIGGER, index: INTX, argsz: 19 }],
    ['an index that is not there', { flags: NONE | TRIGGER, index: 5 }],
    ['no data flag', { flags: TRIGGER, index: INTX }],
    ['two data flags', { flags: NONE | BOOL | TRIGGER, index: INTX }],
    ['an unknown flag', { flags: NONE | TRIGGER | 64, index: INTX }],
    ['a start beyond', { flags: NONE | TRIGGER, index: MSI, start: 4, count: 0 }],
    ['a count beyond', { flags: NONE | TRIGGER, index: MSI, start: 1, count: 4 }],
    ['a sum that overflows', { flags: NONE | TRIGGER, index: MSI, start: 3, count: 0xffff_fffe }],
    ['less data than items', { flags: EVENTFD | TRIGGER, index: MSI, count: 2, argsz: 27 }],
    ['less bools than items', { flags: BOOL | TRIGGER, index: MSIX, count: 3, argsz: 22 }],
  ])('%s is EINVAL', (_what, request) => {
    expect(set(request, new Uint8Array(8))).toBe('EINVAL');
  });

  it('data that can not be read is EFAULT', () => {
    const { mm } = rig.device.process;
    mm.map(0x5000_0000n, 4096);
    const at = 0x5000_0fecn; // the header ends with the page
    const bytes = new Uint8Array(Uint32Array.from([24, EVENTFD | TRIGGER, MSI, 0, 1]).buffer);
    mm.copyOut(at, bytes);
    const { value } = rig.device.file.ioctl(rig.device.process, vfio.VFIO_DEVICE_SET_IRQS, at);
    expect(errnoName(-value)).toBe('EFAULT');
  });

  it('actions that an index has not, none and several are ENOTTY', () => {
    expect(set({ flags: NONE | MASK, index: MSI })).toBe('ENOTTY');
    expect(set({ flags: NONE | UNMASK, index: MSIX })).toBe('ENOTTY');
    expect(set({ flags: NONE | MASK, index: ERR })).toBe('ENOTTY');
    expect(set({ flags: NONE, index: INTX })).toBe('ENOTTY');
    expect(set({ flags: NONE | MASK | TRIGGER, index: INTX })).toBe('ENOTTY');
  });
});

describe.each([
  ['MSI', MSI, 4],
  ['MSI-X', MSIX, 8],
])('%s', (name, index, vectors) => {
  const send = (vector: number): void => rig.fn.interrupts.send(vector);

  it('signals the eventfd of each vector', () => {
    const { events, fds } = rig.eventfds(vectors);
    expect(setFds(index, fds)).toBe('0');
    for (let vector = 0; vector < vectors; vector++) send(vector);
    send(1);
    expect(counts(events)).toEqual(events.map((_, vector) => (vector === 1 ? 2 : 1)));
  });

  it('a vector without an eventfd is lost to nobody: it comes when it has one', () => {
    const { events, fds } = rig.eventfds(1);
    expect(setFds(index, [-1, -1])).toBe('0');
    send(1);
    expect(setFds(index, fds, 1)).toBe('0');
    expect(counts(events)).toEqual([1]);
  });

  it('an eventfd is held until it is replaced, taken away, or all is disabled', () => {
    const { events, fds } = rig.eventfds(3);
    const [a = -1, b = -1, c = -1] = fds;
    setFds(index, [a, b]);
    expect(held(events)).toEqual([1, 1, 0]);
    setFds(index, [c], 1);
    expect(held(events)).toEqual([1, 0, 1]);
    setFds(index, [-1], 0);
    expect(held(events)).toEqual([0, 0, 1]);
    expect(disable(index)).toBe('0');
    expect(held(events)).toEqual([0, 0, 0]);
    expect(disable(index)).toBe('EINVAL');
  });

  it('closing the descriptor of an eventfd, or the device, is no harm', () => {
    const { events, fds } = rig.eventfds(1);
    setFds(index, fds);
    rig.iommu.process.close(fds[0] ?? -1);
    send(0);
    expect(counts(events)).toEqual([1]);
    rig.device.close();
    send(0);
    expect([counts(events), held(events)]).toEqual([[1], [0]]);
  });

  it('a bad descriptor undoes the request, and the enabling where that was it', () => {
    const { events, fds } = rig.eventfds(2);
    const other = rig.iommu.process.add({ kind: 'other' });
    expect(setFds(index, [...fds, 99])).toBe('EBADF');
    expect(disable(index)).toBe('EINVAL'); // nothing was enabled
    setFds(index, fds);
    expect(setFds(index, [fds[0] ?? -1, other])).toBe('EINVAL');
    expect(held(events)).toEqual([0, 0]);
    expect(disable(index)).toBe('0'); // it still was
  });

  it('DATA_NONE and DATA_BOOL signal as if the device had', () => {
    const { events, fds } = rig.eventfds(2);
    expect(set({ flags: NONE | TRIGGER, index })).toBe('EINVAL');
    setFds(index, fds);
    expect(set({ flags: NONE | TRIGGER, index, count: vectors })).toBe('0');
    expect(set({ flags: BOOL | TRIGGER, index, count: 2 }, Uint8Array.of(0, 1))).toBe('0');
    expect(counts(events)).toEqual([1, 2]);
  });

  it('nothing asked for is ERANGE, and vectors without eventfds can be enabled', () => {
    expect(set({ flags: EVENTFD | TRIGGER, index, count: 0 })).toBe('ERANGE');
    expect(set({ flags: EVENTFD | TRIGGER, index, start: 2, count: 0 })).toBe('0');
    expect(disable(index)).toBe('0');
  });

  it('keeps the other kinds out until it is disabled', () => {
    const { fds } = rig.eventfds(1);
    setFds(index, fds);
    expect(setFds(INTX, fds)).toBe('EINVAL');
    expect(setFds(index === MSI ? MSIX : MSI, fds)).toBe('EINVAL');
    disable(index);
    expect(setFds(INTX, fds)).toBe('0');
  });

  it(`${name} goes on after a reset of the device`, () => {
    const { events, fds } = rig.eventfds(2);
    setFds(index, fds);
    rig.device.reset();
    expect(rig.resets).toBe(2); // the first was at bind
    send(1);
    expect(counts(events)).toEqual([0, 1]);
  });
});

describe('the number of vectors', () => {
  it('of MSI is settled when it is enabled', () => {
    const { fds } = rig.eventfds(2);
    setFds(MSI, fds);
    expect(setFds(MSI, fds, 2)).toBe('EINVAL');
    expect(setFds(MSI, [-1], 3)).toBe('0'); // to take away what is not there is no error
  });

  it('of MSI-X grows', () => {
    const { events, fds } = rig.eventfds(1);
    setFds(MSIX, fds);
    expect(setFds(MSIX, fds, 7)).toBe('0');
    rig.fn.interrupts.send(7);
    expect(counts(events)).toEqual([1]);
  });

  it('of MSI is what the hardware is told: a power of two', () => {
    const { fds } = rig.eventfds(3);
    setFds(MSI, fds);
    expect(rig.fn.msi?.enabledVectors).toBe(4);
  });
});

describe('INTx', () => {
  const raise = (): void => rig.fn.interrupts.setLevel(true);
  const lower = (): void => rig.fn.interrupts.setLevel(false);
  const unmask = (): string => set({ flags: NONE | UNMASK, index: INTX });
  let event: LocalEventFd;

  beforeEach(() => {
    const { events, fds } = rig.eventfds(1);
    const [first] = events;
    if (!first) throw new Error('no eventfd');
    event = first;
    expect(setFds(INTX, fds)).toBe('0');
  });

  it('tells once, and again when it is unmasked with the line still asserted', () => {
    raise();
    raise();
    expect(event.count).toBe(1);
    expect(unmask()).toBe('0');
    expect(event.count).toBe(2);
    lower();
    expect(unmask()).toBe('0');
    expect(event.count).toBe(2);
    raise();
    expect(event.count).toBe(3);
  });

  it('is asserted before it is enabled: told at once', () => {
    disable(INTX);
    raise();
    expect(event.count).toBe(0);
    const { events, fds } = rig.eventfds(1);
    setFds(INTX, fds);
    expect(counts(events)).toEqual([1]);
  });

  it('masked by the client, it is told when it is unmasked', () => {
    expect(set({ flags: NONE | MASK, index: INTX })).toBe('0');
    raise();
    expect(event.count).toBe(0);
    expect(set({ flags: BOOL | UNMASK, index: INTX }, Uint8Array.of(0))).toBe('0');
    expect(event.count).toBe(0);
    expect(set({ flags: BOOL | UNMASK, index: INTX }, Uint8Array.of(1))).toBe('0');
    expect(event.count).toBe(1);
  });

  it('Interrupt Disable in the Command register masks it', () => {
    const command = rig.device.get(CONFIG, COMMAND, 2);
    rig.device.set(CONFIG, COMMAND, command | INTX_DISABLE, 2);
    raise();
    expect(set({ flags: NONE | TRIGGER, index: INTX })).toBe('0');
    expect(event.count).toBe(0);
    rig.device.set(CONFIG, COMMAND, command, 2);
    expect(event.count).toBe(1);
  });

  it('DATA_NONE and DATA_BOOL trigger by hand', () => {
    expect(set({ flags: NONE | TRIGGER, index: INTX })).toBe('0');
    expect(set({ flags: BOOL | TRIGGER, index: INTX }, Uint8Array.of(1))).toBe('0');
    expect(set({ flags: BOOL | TRIGGER, index: INTX }, Uint8Array.of(0))).toBe('0');
    expect(event.count).toBe(2);
  });

  it('another eventfd replaces the first; -1 leaves none and INTx enabled', () => {
    const { events, fds } = rig.eventfds(1);
    expect(setFds(INTX, fds)).toBe('0');
    expect([event.held, held(events)]).toEqual([0, [1]]);
    expect(setFds(INTX, [-1])).toBe('0');
    expect(held(events)).toEqual([0]);
    raise();
    expect(unmask()).toBe('0');
    expect(disable(INTX)).toBe('0');
  });

  it('wrong counts, kinds and moments', () => {
    expect(setFds(INTX, [99])).toBe('EBADF');
    expect(set({ flags: EVENTFD | TRIGGER, index: INTX, count: 0 })).toBe('EINVAL');
    expect(set({ flags: EVENTFD | MASK, index: INTX }, fdData(0))).toBe('ENOTTY');
    expect(set({ flags: NONE | UNMASK, index: INTX, count: 0 })).toBe('EINVAL');
    expect(set({ flags: EVENTFD | UNMASK, index: INTX }, fdData(99))).toBe('EBADF');
    expect(set({ flags: EVENTFD | UNMASK, index: INTX }, fdData(-1))).toBe('0');
    expect(disable(INTX)).toBe('0');
    expect(unmask()).toBe('EINVAL');
    expect(set({ flags: NONE | TRIGGER, index: INTX })).toBe('EINVAL');
    expect(disable(INTX)).toBe('EINVAL');
  });
});

describe.each([
  ['ERR', ERR],
  ['REQ', REQ],
])('%s', (_name, index) => {
  it('has one eventfd, which can be triggered and taken away', () => {
    const { events, fds } = rig.eventfds(1);
    expect(set({ flags: NONE | TRIGGER, index })).toBe('EINVAL');
    expect(set({ flags: BOOL | TRIGGER, index }, Uint8Array.of(1))).toBe('0');
    expect(setFds(index, fds)).toBe('0');
    expect(set({ flags: NONE | TRIGGER, index })).toBe('0');
    expect(set({ flags: BOOL | TRIGGER, index }, Uint8Array.of(1))).toBe('0');
    expect(counts(events)).toEqual([2]);
    expect(set({ flags: NONE | TRIGGER, index, count: 0 })).toBe('0');
    expect(held(events)).toEqual([0]);
    expect(setFds(index, fds)).toBe('0');
    expect(setFds(index, [-1])).toBe('0');
    expect(setFds(index, [-2])).toBe('EINVAL');
    expect(set({ flags: EVENTFD | TRIGGER, index, count: 0 })).toBe('EINVAL');
    expect(held(events)).toEqual([0]);
  });

  it('works beside other interrupts, and is given back at close', () => {
    const { events, fds } = rig.eventfds(2);
    expect(setFds(MSI, fds.slice(0, 1))).toBe('0');
    expect(setFds(index, fds.slice(1))).toBe('0');
    expect(held(events)).toEqual([1, 1]);
    rig.device.close();
    expect(held(events)).toEqual([0, 0]);
  });
});
