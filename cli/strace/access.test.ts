// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import { Machine } from '../../src/machine/machine.ts';
import { LocalProcess } from '../../src/kernel/local_process.ts';
import type { VfioDeviceFile } from '../../src/vfio/device_file.ts';
import { regionOffset } from '../../src/vfio/regions.ts';
import { plainStyle } from '../style.ts';
import { accessText, bytesText } from './access.ts';

describe('bytes', () => {
  it('are characters where all of them are', () => {
    expect(bytesText(new TextEncoder().encode('a "b"\n'), 6)).toBe(String.raw`"a \"b\"\n"`);
  });

  it('are in hexadecimal where one is not', () => {
    expect(bytesText(Uint8Array.of(0x61, 0x12), 2)).toBe(String.raw`"\x61\x12"`);
  });

  it('are cut after 32, and where not all were kept', () => {
    expect(bytesText(new Uint8Array(40).fill(0x61), 40)).toBe(`"${'a'.repeat(32)}"...`);
    expect(bytesText(Uint8Array.of(0x61), 2)).toBe('"a"...');
  });
});

describe('an access to a region', () => {
  let file: VfioDeviceFile;
  beforeEach(() => {
    const cdev = new Machine().vfio.cdev('vfio0');
    if (!cdev) throw new Error('the default machine has no edu device');
    file = cdev.openDevice(new LocalProcess());
  });
  const text = (offset: bigint, bytes: Uint8Array, rest = {}) => {
    const access = { name: 'pread64', write: false, offset, count: bytes.length, bytes, why: '' };
    return accessText(5, file, { ...access, result: bytes.length, ...rest }, plainStyle);
  };
  const [bar0, config] = [VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX].map(
    regionOffset,
  );

  it('names the region and the register of the device, with its value', () => {
    expect(text((bar0 ?? 0n) + 0x98n, Uint8Array.of(5, 0, 0, 0))).toBe(
      String.raw`pread(5, "\x05\x00\x00\x00", 4, VFIO_PCI_BAR0_REGION+0x98 /* DMA command: 0x5 */) = 4`,
    );
  });

  it('names registers of config space', () => {
    expect(text((config ?? 0n) + 4n, Uint8Array.of(6, 0), { name: 'pwrite64', write: true })).toBe(
      String.raw`pwrite(5, "\x06\x00", 2, VFIO_PCI_CONFIG_REGION+0x4 /* Command: 0x6 */) = 2`,
    );
  });

  it('has no name where the device has no register', () => {
    expect(text((bar0 ?? 0n) + 0x50n, Uint8Array.of(0xff))).toContain('BAR0_REGION+0x50) = 1');
  });

  it('ends with why it was refused', () => {
    const refused = { result: -22, why: 'there is no region 20', count: 4 };
    expect(text(20n << 40n, new Uint8Array(), refused)).toBe(
      'pread(5, ..., 4, 0x140000000000) = -1 EINVAL (there is no region 20)',
    );
  });
});
