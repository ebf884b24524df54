// SPDX-License-Identifier: Apache-2.0
/** The layout of Linux include/uapi/linux/pci_regs.h by hand. */
import { describe, expect, it } from 'vitest';
import { FakePath } from './fake_path.ts';
import { type FunctionOptions, PciFunction } from './function.ts';

const identity = {
  ...{ vendorId: 1, deviceId: 2, revisionId: 0 },
  ...{ classCode: 0, subsystemVendorId: 0, subsystemId: 0 },
};
const address = { domain: 0, bus: 0, device: 3, function: 0 };
const make = (options: Partial<FunctionOptions> = {}) =>
  new PciFunction({ address, identity, express: {}, ...options }, new FakePath());

describe('extended capabilities', () => {
  it('are none where config space reads 0 at 0x100', () => {
    expect(make().config.read(0x100, 4)).toBe(0);
  });

  it('are a chain from 0x100 on, which ends with 0', () => {
    const { config } = make({
      acs: 0x1d,
      ats: { onInvalidate: () => undefined, queueDepth: 5 },
      sriov: { totalVfs: 3, deviceId: 9 },
      pri: { capacity: 7 },
      pasid: { width: 10, execute: true },
    });
    const seen: number[] = [];
    for (let at = 0x100; at !== 0; at = config.read(at, 4) >>> 20) seen.push(config.read(at, 2));
    expect(seen).toEqual([0x0d, 0x0f, 0x10, 0x13, 0x1b]);
    expect(config.read(0x104, 4)).toBe(0x001d_001d); // ACS: has, and has on
    expect(config.read(0x10c, 4)).toBe(0x25); // ATS: depth 5, aligned requests; off
    expect(config.read(0x110 + 0x0c, 4)).toBe(0x0003_0003); // SR-IOV: initial and total
    expect(config.read(0x160 + 4, 4)).toBe(0x0a02); // PASID: 10 bits, execute
  });

  it('change only in the bits that software has', () => {
    const { config } = make({
      ats: { onInvalidate: () => undefined },
      pasid: {},
      acs: 0x1d,
    });
    for (const at of [0x104, 0x10c, 0x114]) config.write(at, 4, 0xffff_ffff);
    expect(config.read(0x104, 4)).toBe(0x001f_001d);
    expect(config.read(0x10c, 4)).toBe(0x801f_0020);
    expect(config.read(0x114, 4)).toBe(0x0007_1400);
  });

  it('need PCI Express, and a virtual function has no PRI, PASID and SR-IOV of its own', () => {
    expect(() => new PciFunction({ address, identity, pasid: {} }, new FakePath())).toThrow(
      'not PCI Express',
    );
    const physicalFunction = make({ pri: { capacity: 1 } });
    expect(() => make({ physicalFunction, pri: { capacity: 1 } })).toThrow('virtual function');
    expect(make({ physicalFunction }).device.sharesPageRequests).toBe(true);
  });

  it('tell the model when ATS is turned off, by software or by a reset', () => {
    let offs = 0;
    const fn = make({ ats: { onInvalidate: () => undefined, onDisable: () => offs++ } });
    fn.config.write(0x106, 2, 0x8000);
    fn.config.write(0x106, 2, 0);
    expect(offs).toBe(1);
    fn.config.write(0x106, 2, 0x8000);
    fn.reset();
    expect(offs).toBe(2);
    expect(fn.invalidate({ itag: 0, pasid: undefined, range: 0n, global: false })).toBe(false);
  });
});

describe('SR-IOV', () => {
  function withVfs() {
    const counts: number[] = [];
    const onChange = (count: number) => counts.push(count);
    const fn = make({ sriov: { totalVfs: 3, deviceId: 9, offset: 4, stride: 2, onChange } });
    const numVfs = (value: number) => fn.config.write(0x110, 2, value);
    const control = (value: number) => fn.config.write(0x108, 2, value);
    return { fn, counts, numVfs, control };
  }

  it('makes as many as NumVFs says while VF Enable is set', () => {
    const { fn, counts, numVfs, control } = withVfs();
    numVfs(2);
    expect(counts).toEqual([]);
    control(9);
    numVfs(3);
    expect(fn.config.read(0x110, 2)).toBe(2);
    control(0);
    expect(counts).toEqual([2, 0]);
  });

  it('makes none where NumVFs is more than there can be, and none survive a reset', () => {
    const { fn, counts, numVfs, control } = withVfs();
    numVfs(4);
    control(1);
    expect(counts).toEqual([]);
    control(0);
    numVfs(3);
    control(1);
    fn.reset();
    expect(counts).toEqual([3, 0]);
  });

  it('gives each a requester id by offset and stride', () => {
    const { fn } = withVfs();
    expect([0, 1, 2].map((i) => fn.sriov?.requesterId(fn.requesterId, i))).toEqual([
      0x1c, 0x1e, 0x20,
    ]);
  });
});
