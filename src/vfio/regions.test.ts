// SPDX-License-Identifier: Apache-2.0
/** What a client reads and writes: BARs and config space, and what GET_INFO and GET_REGION_INFO say of them. */
import { beforeEach, describe, expect, it } from 'vitest';
import * as vfio from '../abi/vfio.ts';
import { errnoName, type ErrnoName } from '../base/errno.ts';
import { BAR_BYTES, FakeRegisters, FakeRig } from './fake_rig.ts';
import type { LocalVfioClient } from './local_client.ts';
import { regionAt, regionName, regionOffset } from './regions.ts';

const wholePage = { offset: 0n, length: 0x1000n, shared: true, executable: false };

const { VFIO_PCI_CONFIG_REGION_INDEX: CONFIG, VFIO_PCI_BAR0_REGION_INDEX: BAR0 } = vfio;
const COMMAND = 0x04;
const BARS = 0x10;

let rig: FakeRig;
let device: LocalVfioClient;

/** BAR 0: 4 KiB of registers. BAR 2 and 3: 8 GiB, prefetchable. */
beforeEach(() => {
  rig = make();
  device = rig.device;
});

function make(options: ConstructorParameters<typeof FakeRig>[0] = {}): FakeRig {
  const made: FakeRig = new FakeRig({
    interruptPin: 1,
    msi: { vectors: 4 },
    msix: { vectors: 4, bar: 0, tableOffset: 0x804 & ~7, pbaOffset: 0x900 },
    bars: [
      {
        index: 0,
        size: BAR_BYTES,
        handler: {
          read: (offset, width) => made.registers.read(offset, width),
          write: (offset, width, value) => made.registers.write(offset, width, value),
        },
      },
      { index: 2, size: 2 ** 33, bits: 64, prefetchable: true, handler: new FakeRegisters(16) },
    ],
    ...options,
  });
  return made;
}

function thrown(body: () => unknown): ErrnoName | undefined {
  try {
    body();
  } catch (error) {
    return (error as { code: ErrnoName }).code;
  }
  return undefined;
}

const accesses = (body: () => unknown): string[] => {
  rig.registers.accesses.length = 0;
  body();
  return [...rig.registers.accesses];
};

describe('GET_INFO', () => {
  it('says what the device is, and where it can be reset', () => {
    expect(device.call('VFIO_DEVICE_GET_INFO', { cap_offset: 9, flags: 0xffff })).toMatchObject({
      argsz: 24,
      flags: vfio.VFIO_DEVICE_FLAGS_PCI | vfio.VFIO_DEVICE_FLAGS_RESET,
      num_regions: 9,
      num_irqs: 5,
      cap_offset: 0,
    });
    const plain = make({ express: undefined as never }).device;
    expect(plain.call('VFIO_DEVICE_GET_INFO', {}).flags).toBe(vfio.VFIO_DEVICE_FLAGS_PCI);
    expect(thrown(() => plain.reset())).toBe('EINVAL');
  });

  it('writes no more than argsz; less than the first version is EINVAL', () => {
    const short = device.call('VFIO_DEVICE_GET_INFO', { argsz: 16, cap_offset: 9 });
    expect([short.num_irqs, short.cap_offset]).toEqual([5, 9]);
    expect(thrown(() => device.call('VFIO_DEVICE_GET_INFO', { argsz: 15 }))).toBe('EINVAL');
  });
});

describe('GET_REGION_INFO', () => {
  const info = (index: number) => device.call('VFIO_DEVICE_GET_REGION_INFO', { index });

  it('gives size, place and rights; none can be mapped', () => {
    expect(info(BAR0)).toMatchObject({ flags: 3, size: 0x1000n, offset: 0n });
    expect(info(2)).toMatchObject({ flags: 3, size: 2n ** 33n, offset: 2n << 40n });
    expect(info(CONFIG)).toMatchObject({ flags: 3, size: 4096n, offset: 7n << 40n });
    expect(device.file.mmap(device.process, wholePage)).toBeLessThan(0);
    expect(device.file.refusal).toContain('BAR0 can not be mapped');
  });

  it('regions that are not there: BARs and ROM have size 0, VGA and others are EINVAL', () => {
    for (const index of [1, 3, 5, vfio.VFIO_PCI_ROM_REGION_INDEX]) {
      expect(info(index)).toMatchObject({ flags: 0, size: 0n, offset: BigInt(index) << 40n });
    }
    expect(thrown(() => info(vfio.VFIO_PCI_VGA_REGION_INDEX))).toBe('EINVAL');
    expect(thrown(() => info(9))).toBe('EINVAL');
    expect(thrown(() => device.call('VFIO_DEVICE_GET_REGION_INFO', { argsz: 31 }))).toBe('EINVAL');
  });

  it('a function of conventional PCI has 256 bytes of config space', () => {
    device = make({ express: undefined as never }).device;
    expect(info(CONFIG).size).toBe(256n);
    expect(thrown(() => device.read(CONFIG, 256, 1))).toBe('EFAULT');
  });

  it('offsets are taken apart as they were put together', () => {
    expect(regionAt(regionOffset(7) + 0x34n)).toEqual({ index: 7, offset: 0x34 });
    expect([0, 7, 8, 9].map(regionName)).toEqual(['BAR0', 'CONFIG', 'VGA', undefined]);
  });
});

describe('a BAR', () => {
  it('is accessed as wide as alignment allows', () => {
    expect(accesses(() => device.read(BAR0, 0x10, 8))).toEqual(['r8@0x10']);
    expect(accesses(() => device.read(BAR0, 0x11, 15))).toEqual([
      'r1@0x11',
      'r2@0x12',
      'r4@0x14',
      'r8@0x18',
    ]);
    expect(accesses(() => device.write(BAR0, 0x14, new Uint8Array(7)))).toEqual([
      'w4@0x14',
      'w2@0x18',
      'w1@0x1a',
    ]);
  });

  it('keeps what was written, byte by byte', () => {
    const bytes = Uint8Array.from({ length: 15 }, (_, i) => i + 1);
    expect(device.write(BAR0, 0x21, bytes)).toBe(15);
    expect(device.read(BAR0, 0x20, 17)).toEqual(Uint8Array.of(0, ...bytes, 0));
  });

  it('ends: what goes beyond is cut off, what begins beyond is EINVAL', () => {
    expect(device.read(BAR0, BAR_BYTES - 4, 16)).toHaveLength(4);
    expect(device.write(BAR0, BAR_BYTES - 1, new Uint8Array(8))).toBe(1);
    expect(thrown(() => device.read(BAR0, BAR_BYTES, 4))).toBe('EINVAL');
    expect(device.read(BAR0, BAR_BYTES, 0)).toHaveLength(0);
  });

  it('that is not there, ROM, VGA and indexes beyond are EINVAL', () => {
    for (const region of [1, 3, 6, 8, 9, 0xff_ffff]) {
      expect([region, thrown(() => device.read(region, 0, 4))]).toEqual([region, 'EINVAL']);
      expect([region, thrown(() => device.set(region, 0, 0n))]).toEqual([region, 'EINVAL']);
    }
  });

  it('does not answer while Memory Space Enable is off: EIO', () => {
    device.set(CONFIG, COMMAND, 0n, 2);
    expect(accesses(() => expect(thrown(() => device.read(BAR0, 0, 4))).toBe('EIO'))).toEqual([]);
    expect(thrown(() => device.set(BAR0, 0, 1n))).toBe('EIO');
    device.set(CONFIG, COMMAND, 2n, 2);
    expect(device.get(BAR0, 0)).toBe(0n);
  });

  it('hides the table of MSI-X: ones are read, writes are dropped', () => {
    device.set(BAR0, 0x7f8, 0n, 8);
    expect(device.read(BAR0, 0x7fc, 8)).toEqual(Uint8Array.of(0, 0, 0, 0, 255, 255, 255, 255));
    device.set(BAR0, 0x800, 0xfee0_1234n);
    expect(rig.fn.msix?.message(0).address).toBe(0n);
    expect(accesses(() => device.read(BAR0, 0x7fe, 4))).toEqual(['r2@0x7fe']);
    expect(device.get(BAR0, 0x900, 8)).toBe(0n); // the pending bits can be read
    device.set(CONFIG, COMMAND, 0n, 2);
    expect(device.get(BAR0, 0x800)).toBe(0xffff_ffffn);
  });
});

describe('config space', () => {
  it('shows vendor, device and class, and keeps them', () => {
    expect(device.get(CONFIG, 0)).toBe(0x5678_1234n);
    device.set(CONFIG, 0, 0xffff_ffffn);
    expect([device.get(CONFIG, 0), device.get(CONFIG, 8)]).toEqual([0x5678_1234n, 0x00ff_0001n]);
  });

  it('comes with memory enabled and bus mastering off, whatever was before', () => {
    expect(device.get(CONFIG, COMMAND, 2)).toBe(2n);
    device.set(CONFIG, COMMAND, 6n, 2);
    expect(rig.fn.isBusMaster).toBe(true);
    device.close();
    expect(rig.fn.isBusMaster).toBe(false);
  });

  it('answers the size of a BAR, while the address in the hardware stays', () => {
    const real = rig.fn.config.read(BARS, 4);
    for (const at of [0, 4, 8, 12, 16, 20]) device.set(CONFIG, BARS + at, 0xffff_ffffn);
    const sizes = [0, 4, 8, 12, 16, 20].map((at) => device.get(CONFIG, BARS + at));
    expect(sizes).toEqual([0xffff_f000n, 0n, 0xcn, 0xffff_fffen, 0n, 0n]);
    expect(rig.fn.config.read(BARS, 4)).toBe(real);
    device.set(CONFIG, BARS, 0xfe00_0abcn);
    expect(device.get(CONFIG, BARS)).toBe(0xfe00_0000n);
    device.set(CONFIG, 0x30, 0xffff_ffffn);
    expect(device.get(CONFIG, 0x30)).toBe(0n);
  });

  it('the interrupt line is the client’s own, the pin is read-only', () => {
    device.set(CONFIG, 0x3c, 0x0b07n, 2);
    expect(device.get(CONFIG, 0x3c, 2)).toBe(0x0107n);
    expect(rig.fn.config.read(0x3c, 1)).toBe(0xff);
  });

  it('a reset by the client through Device Control: the device is as new, its config space stays', () => {
    const express = rig.fn.express?.at ?? 0;
    device.set(CONFIG, COMMAND, 6n, 2);
    const { resets } = rig;
    const control = device.get(CONFIG, express + 8, 2);
    device.set(CONFIG, express + 8, control | 0x8000n, 2);
    expect(rig.resets).toBe(resets + 1);
    expect(device.get(CONFIG, express + 8, 2)).toBe(control);
    expect(device.get(CONFIG, COMMAND, 2)).toBe(6n);
  });

  it('VFIO_DEVICE_RESET keeps what the client had set', () => {
    device.set(CONFIG, COMMAND, 6n, 2);
    device.set(BAR0, 8, 7n);
    device.reset();
    expect([rig.fn.isBusMaster, rig.fn.isMemoryEnabled, rig.resets]).toEqual([true, true, 2]);
  });

  it('after a reset behind its back, base addresses are put back before they are enabled', () => {
    // A client that comes when firmware has placed the BARs:
    const placed = new FakeRig({
      bars: [{ index: 0, size: BAR_BYTES, handler: new FakeRegisters(BAR_BYTES) }],
    });
    placed.device.close();
    placed.fn.placeBar(0, 0xfd00_0000n);
    const client = placed.open();
    placed.fn.reset();
    expect(placed.fn.barAddress(0)).toBe(0n);
    client.set(CONFIG, COMMAND, 2n, 2);
    expect(placed.fn.barAddress(0)).toBe(0xfd00_0000n);
  });

  it('the largest payload is the host’s; read requests can be set', () => {
    const at = (rig.fn.express?.at ?? 0) + 8;
    device.set(CONFIG, at, 0x50ffn, 2);
    expect(device.get(CONFIG, at, 2) & 0x70e0n).toBe(0x50e0n);
    const real = rig.fn.config.read(at, 2);
    expect([(real >> 12) & 7, (real >> 5) & 7]).toEqual([5, 0]);
  });

  it('MSI can not be enabled here, nor with more vectors than SET_IRQS has enabled', () => {
    const at = rig.fn.msi?.at ?? 0;
    device.set(CONFIG, at + 2, 0x0041n, 2);
    expect(rig.fn.msi?.enabled).toBe(false);
    expect(device.get(CONFIG, at + 2, 1) & 0x71n).toBe(0n);
    device.setEventFds(vfio.VFIO_PCI_MSI_IRQ_INDEX, rig.eventfds(2).fds);
    const real = rig.fn.config.read(at + 4, 4);
    device.set(CONFIG, at + 4, 0x1234_5678n);
    expect(device.get(CONFIG, at + 4)).toBe(0x1234_5678n); // a client's message is only kept
    expect(rig.fn.config.read(at + 4, 4)).toBe(real);
    device.set(CONFIG, at + 2, 0x0071n, 2);
    expect(device.get(CONFIG, at + 2, 1) & 0x71n).toBe(0x11n);
  });

  it('shows MSI, MSI-X and PCI Express in one chain', () => {
    const ids: bigint[] = [];
    for (
      let at = device.get(CONFIG, 0x34, 1);
      at !== 0n;
      at = device.get(CONFIG, Number(at) + 1, 1)
    )
      ids.push(device.get(CONFIG, Number(at), 1));
    expect(ids).toEqual([0x05n, 0x11n, 0x10n]);
  });

  it('accesses are cut where registers have different owners, and end with the space', () => {
    expect(device.read(CONFIG, 0, 4096)).toHaveLength(4096);
    expect(device.read(CONFIG, 1, 64)).toEqual(device.read(CONFIG, 0, 128).subarray(1, 65));
    expect(thrown(() => device.read(CONFIG, 4090, 8))).toBe('EFAULT');
    expect(thrown(() => device.write(CONFIG, 4096, new Uint8Array(1)))).toBe('EFAULT');
    expect(device.file.refusal).toContain('4096 of config space');
  });
});

describe('ioctls that are about more than the device', () => {
  it('hot reset: ENODEV on a root bus, after its checks', () => {
    const tried = (fields: object) => {
      const { value } = device.tryCall('VFIO_DEVICE_PCI_HOT_RESET', fields).result;
      return errnoName(-value);
    };
    expect(tried({ argsz: 11 })).toBe('EINVAL');
    expect(tried({ flags: 1 })).toBe('EINVAL');
    expect(tried({ count: 1 })).toBe('EINVAL');
    expect(tried({})).toBe('ENODEV');
    expect(thrown(() => device.call('VFIO_DEVICE_GET_PCI_HOT_RESET_INFO', {}))).toBe('ENODEV');
  });

  it('features: what needs a capable device is not there, and wrong flags come first', () => {
    const tried = (flags: number) => {
      const { value } = device.tryCall('VFIO_DEVICE_FEATURE', { flags }).result;
      return errnoName(-value);
    };
    const { VFIO_DEVICE_FEATURE_GET: GET, VFIO_DEVICE_FEATURE_SET: SET } = vfio;
    const { VFIO_DEVICE_FEATURE_PROBE: PROBE } = vfio;
    expect(tried(1 << 19)).toBe('EINVAL');
    expect(tried(GET | SET | vfio.VFIO_DEVICE_FEATURE_MIGRATION)).toBe('EINVAL');
    expect(tried(PROBE | GET | SET | vfio.VFIO_DEVICE_FEATURE_MIGRATION)).toBe('ENOTTY');
    expect(tried(PROBE | GET | vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)).toBe('ENOTTY');
    expect(tried(PROBE | SET | vfio.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2)).toBe('EINVAL');
    expect(tried(GET | 0xfff)).toBe('ENOTTY');
  });

  it('ioctls without a number of ours are ENOTTY', () => {
    expect(errnoName(-device.file.ioctl(device.process, 0x3b7a, 0n).value)).toBe('ENOTTY');
  });
});
