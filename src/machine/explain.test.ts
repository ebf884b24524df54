// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from 'vitest';
import { LocalClient } from '../iommufd/local_client.ts';
import { LocalVfioClient } from '../vfio/local_client.ts';
import { explain } from './explain.ts';
import { Machine } from './machine.ts';
import { presets } from './presets.ts';

const BDF = '0000:00:02.0';
const MEMORY = 0x10_0000n;
const IOVA = 0x20_0000n;

describe.each(['edu', 'vtd', 'vtd-legacy'])('the way of an address in machine %s', (name) => {
  let machine: Machine;
  let iommu: LocalClient;
  let device: LocalVfioClient;
  const way = (iova: bigint, pasid = 0): string[] => explain(machine, BDF, pasid, iova);

  beforeEach(() => {
    const description = presets.find((preset) => preset.name === name);
    if (!description) throw new Error(`no preset ${name}`);
    machine = new Machine({ description });
    iommu = new LocalClient(machine.iommufd);
    iommu.process.mm.map(MEMORY, 0x1000);
    const cdev = machine.vfio.cdev('vfio0');
    if (!cdev) throw new Error('no device');
    device = new LocalVfioClient(cdev, iommu.process);
    device.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: iommu.fd });
    const { out_ioas_id: ioas } = iommu.call('IOMMU_IOAS_ALLOC', {});
    device.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: ioas });
    const map = { flags: 5, ioas_id: ioas, user_va: MEMORY, length: 0x1000n, iova: IOVA };
    iommu.call('IOMMU_IOAS_MAP', map);
  });

  it('ends at the page, and names the map call', () => {
    const lines = way(IOVA);
    expect(lines[0]).toBe(`${BDF} at 0x200000:`);
    expect(lines.at(-2)).toMatch(/ends at (frame )?0x[0-9a-f]+$/);
    expect(lines.at(-1)).toContain('the map at [0x200000, 0x200fff] of user_va 0x100000, readable');
    expect(lines.at(-1)).not.toContain('writable');
  });

  it('says where it breaks off', () => {
    const lines = way(IOVA + 0x1000n);
    expect(lines.at(-2)).toMatch(/^refused: .*not mapped/);
    expect(lines.at(-1)).toContain('no map at 0x201000');
  });

  it('is none while nothing is attached', () => {
    device.call('VFIO_DEVICE_DETACH_IOMMUFD_PT', {});
    const lines = way(IOVA);
    expect(lines.at(-2)).toMatch(/^refused: .*blocked$/);
    expect(lines.at(-1)).toMatch(/is attached to nothing there$/);
  });

  it('changes nothing: what it reads, translates as before', () => {
    expect(way(IOVA)).toEqual(way(IOVA));
  });

  it('is asked of functions that are there', () => {
    expect(() => explain(machine, '0000:00:1f.0', 0, 0n)).toThrow(
      /those of the machine: 0000:00:02.0/,
    );
  });
});
