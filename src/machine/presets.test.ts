// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { iommu_iova_range } from '../abi/iommufd.ts';
import {
  IOMMU_TEST_OP_MOCK_DOMAIN,
  IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
} from '../abi/iommufd_test.ts';
import { LocalClient } from '../iommufd/local_client.ts';
import { Machine } from './machine.ts';
import { presets } from './presets.ts';

function start(name: string) {
  const description = presets.find((preset) => preset.name === name);
  if (!description) throw new Error(`no preset ${name}`);
  const machine = new Machine({ description });
  const client = new LocalClient(machine.iommufd);
  const ioas = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
  const mock = (id = ioas) =>
    client.call('IOMMU_TEST_CMD', { op: IOMMU_TEST_OP_MOCK_DOMAIN, id }).u.mock_domain;
  return { machine, client, ioas, mock };
}

describe('a described machine', () => {
  it.each(presets.map(({ name }) => name))('%s has a summary and works without devices', (name) => {
    const { machine, client, ioas } = start(name);
    expect(machine.description.summary).not.toBe('');
    expect(client.tryCall('IOMMU_DESTROY', { id: ioas }).result.value).toBe(0);
  });

  it('puts two devices in one group, which then has one table', () => {
    const { client, mock } = start('two-in-one-group');
    const first = mock();
    const second = mock();
    expect(second.out_hwpt_id).toBe(first.out_hwpt_id);
    const other = client.call('IOMMU_IOAS_ALLOC', {}).out_ioas_id;
    expect(() => mock(other)).not.toThrow(); // the third has no shape: a plain device of its own
    const move = { op: IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id: first.out_stdev_id };
    client.call('IOMMU_TEST_CMD', { ...move, u: { mock_domain_replace: { pt_id: other } } });
    // The whole group has moved: its old table has gone with its last device.
    expect(client.tryCall('IOMMU_DESTROY', { id: first.out_hwpt_id }).result.value).toBe(-2);
  });

  it('keeps the reserved regions of its device out of the address space, while it is attached', () => {
    const { client, ioas, mock } = start('reserved-regions');
    const ranges = (): string[] => {
      const bytes = client.process.mm.map(0x5000_0000n, 0x1000);
      const { num_iovas } = client.call('IOMMU_IOAS_IOVA_RANGES', {
        ioas_id: ioas,
        num_iovas: 16,
        allowed_iovas: 0x5000_0000n,
      });
      const view = new DataView(bytes.buffer);
      const seen = Array.from({ length: num_iovas }, (_, i) => iommu_iova_range.on(view, i * 16));
      const text = seen.map(({ start: from, last }) => `${from.toString(16)}-${last.toString(16)}`);
      client.process.mm.unmap(0x5000_0000n);
      return text;
    };
    const { out_stdev_id } = mock();
    expect(ranges()).toEqual(['1000000-1fffffff', '20100000-7fffffff']);
    client.call('IOMMU_DESTROY', { id: out_stdev_id });
    expect(ranges()).toEqual(['0-ffffffffffffffff']);
  });

  it('gives a shape to the next device when its device has gone', () => {
    const { client, mock } = start('two-in-one-group');
    const first = mock();
    const second = mock();
    client.call('IOMMU_DESTROY', { id: first.out_stdev_id });
    expect(mock().out_hwpt_id).toBe(second.out_hwpt_id);
  });

  it('without an IOMMU makes no devices, and says so', () => {
    expect(() => start('no-iommu').mock()).toThrow('this machine has no test IOMMU');
  });
});
