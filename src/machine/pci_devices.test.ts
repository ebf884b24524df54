// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { IOMMU_TEST_OP_MOCK_DOMAIN } from '../abi/iommufd_test.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import type { MachineDescription, PciDeviceDescription } from './description.ts';
import { Machine } from './machine.ts';
import { presets } from './presets.ts';

function start(...devices: readonly PciDeviceDescription[]): Machine {
  const iommus = [{ name: 'i', driver: 'paging' as const, devices }];
  const description: MachineDescription = { name: 'm', summary: 's', iommus };
  return new Machine({ description });
}

const edu = (address: string, more: Partial<PciDeviceDescription> = {}): PciDeviceDescription => {
  return { name: address, model: 'edu', address, ...more };
};

describe('the PCI functions of a machine', () => {
  it('come by ascending address, each behind its IOMMU and in its group', () => {
    const { pciDevices } = start(
      edu('0000:00:03.0', { group: 'g' }),
      edu('00:02.0'),
      edu('0000:00:03.1', { group: 'g' }),
    );
    expect(
      pciDevices.map(({ bdf, device }) => [bdf, device.iommu?.name, device.group?.id]),
    ).toEqual([
      ['0000:00:02.0', 'i', 1],
      ['0000:00:03.0', 'i', 0],
      ['0000:00:03.1', 'i', 0],
    ]);
  });

  it('have BARs at addresses of their own, aligned to their size, and are disabled', () => {
    const { pciDevices } = start(edu('00:02.0'), edu('00:03.0'));
    expect(pciDevices.map((fn) => fn.barAddress(0))).toEqual([0xc000_0000n, 0xc010_0000n]);
    expect(pciDevices.map((fn) => fn.config.read(4, 2))).toEqual([0, 0]);
  });

  it('have the DMA width and the reserved regions that are described', () => {
    const { pciDevices, iommufd } = start(
      edu('00:02.0', {
        dmaBits: 12,
        reserved: [{ start: 0x1000n, last: 0x1fffn, kind: 'reserved' }],
      }),
    );
    const [fn] = pciDevices;
    if (!fn) throw new Error('no function');
    expect(iommufd.core.resvRegions(fn.device).map(({ start: from }) => from)).toEqual([
      0x1000n,
      0xfee0_0000n,
    ]);
    const seen: bigint[] = [];
    const machine = start(edu('00:02.0', { dmaBits: 12 }));
    machine.dmaObserver = { dma: ({ iova }) => seen.push(iova) };
    const [narrow] = machine.pciDevices;
    narrow?.config.write(4, 2, 6);
    const bar = narrow?.bars[0];
    bar?.write(0x80, 8, 0x5678n);
    bar?.write(0x88, 8, 0x4_0000n);
    bar?.write(0x90, 8, 4n);
    bar?.write(0x98, 4, 1n);
    expect(seen).toEqual([0x678n]);
  });

  it('cannot be at one address, or at none', () => {
    expect(() => start(edu('00:02.0'), edu('0000:00:02.0'))).toThrow(
      'two functions at 0000:00:02.0',
    );
    expect(() => start(edu('2'))).toThrow('"2" is no PCI address');
  });

  it('do not change what the test driver hands out', () => {
    const ids = ['edu', 'test-driver'].map((name) => {
      const description = presets.find((preset) => preset.name === name);
      if (!description) throw new Error(`no preset ${name}`);
      const client = new LocalClient(new Machine({ description }).iommufd);
      const { out_ioas_id: id } = client.call('IOMMU_IOAS_ALLOC', {});
      const op = IOMMU_TEST_OP_MOCK_DOMAIN;
      const { out_stdev_id, out_idev_id, out_hwpt_id } = client.call('IOMMU_TEST_CMD', { op, id }).u
        .mock_domain;
      return [out_stdev_id, out_idev_id, out_hwpt_id];
    });
    expect(ids).toEqual([
      [2, 3, 4],
      [2, 3, 4],
    ]);
  });
});
