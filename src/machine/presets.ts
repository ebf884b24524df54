// SPDX-License-Identifier: Apache-2.0
import type { DeviceDescription, MachineDescription } from './description.ts';

const mock = (devices: readonly DeviceDescription[]): MachineDescription['iommus'] => [
  { name: 'iommu0', driver: 'mock', devices },
];

/** The machine where nobody asks for another. */
export const defaultMachine: MachineDescription = {
  name: 'test-driver',
  summary: "the test driver's IOMMU, as a kernel with CONFIG_IOMMUFD_TEST has it (the default)",
  iommus: mock([]),
};

/** Common shapes, by name. */
export const presets: readonly MachineDescription[] = [
  defaultMachine,
  {
    name: 'one-device',
    summary: 'one device in a group of its own, with PASIDs',
    iommus: mock([{ name: 'dev0', pasid: true }]),
  },
  {
    name: 'two-in-one-group',
    summary: 'two devices that share a group: attached, replaced and detached together',
    iommus: mock([
      { name: 'dev0', group: 'shared' },
      { name: 'dev1', group: 'shared' },
    ]),
  },
  {
    name: 'reserved-regions',
    summary: 'a device with a message-interrupt window and a region for its firmware',
    iommus: mock([
      {
        name: 'dev0',
        reserved: [
          { start: 0xfee0_0000n, last: 0xfeef_ffffn, kind: 'msi' },
          { start: 0x2000_0000n, last: 0x200f_ffffn, kind: 'reserved' },
        ],
      },
    ]),
  },
  {
    name: 'no-iommu',
    summary: 'no IOMMU: address spaces work, devices can not be made',
    iommus: [],
  },
];
