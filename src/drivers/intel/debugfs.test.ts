// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { LocalClient } from '../../iommufd/local_client.ts';
import { Machine } from '../../machine/machine.ts';
import { presets } from '../../machine/presets.ts';
import { LocalVfioClient } from '../../vfio/local_client.ts';

const COLUMNS =
  'IOVA_PFN         \tPML5E             \tPML4E             \tPDPE              \tPDE               \tPTE';

function shown(name: string, lengths: readonly bigint[]): string[] {
  const description = presets.find((preset) => preset.name === name);
  if (!description) throw new Error(`no preset ${name}`);
  const machine = new Machine({ description });
  const iommu = new LocalClient(machine.iommufd);
  iommu.process.mm.map(0x4000_0000n, 0x40_0000);
  const cdev = machine.vfio.cdev('vfio0');
  if (!cdev) throw new Error('no device');
  const device = new LocalVfioClient(cdev, iommu.process);
  device.call('VFIO_DEVICE_BIND_IOMMUFD', { iommufd: iommu.fd });
  const { out_ioas_id: ioas } = iommu.call('IOMMU_IOAS_ALLOC', {});
  device.call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', { pt_id: ioas });
  let iova = 0x4000_0000n;
  for (const length of lengths) {
    const map = { flags: 7, ioas_id: ioas, user_va: 0x4000_0000n, length, iova };
    iommu.call('IOMMU_IOAS_MAP', map);
    iova += 0x40_0000n;
  }
  const fn = cdev.device.pci.fn;
  return (machine.translationStructOf(fn) ?? 'none').split('\n');
}

const entry = String.raw`0x[0-9a-f]{16}`;

describe('domain_translation_struct', () => {
  it('has a line for each leaf, with the entries above it (scalable mode, five levels)', () => {
    const [head, columns, small, large, end] = shown('vtd', [0x1000n, 0x20_0000n]);
    expect(head).toMatch(/^Device 0000:00:02\.0 with pasid 0 @0x[0-9a-f]+$/);
    expect(columns).toBe(COLUMNS);
    expect(small).toMatch(new RegExp(`^0x0000000040000 \\|\t${entry}(\t${entry}){4}$`));
    // Of a large page there is no last entry.
    expect(large).toMatch(new RegExp(`^0x0000000040400 \\|\t${entry}(\t${entry}){3}$`));
    expect(end).toBe('');
  });

  it('shows no fifth level where there is none (legacy mode)', () => {
    const [head, , leaf] = shown('vtd-legacy', [0x1000n]);
    expect(head).toMatch(/^Device 0000:00:02\.0 @0x[0-9a-f]+$/);
    expect(leaf).toMatch(/^0x0000000040000 \|\t0x0{16}\t0x[0-9a-f]{16}\t/);
  });

  it('is there for devices behind Intel IOMMUs only', () => {
    expect(shown('edu', [])).toEqual(['none']);
  });
});
