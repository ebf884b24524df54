// SPDX-License-Identifier: Apache-2.0
import type {
  DeviceDescription,
  MachineDescription,
  MockIommuDescription,
  PagingIommuDescription,
  PciDeviceDescription,
  VtdDescription,
} from './description.ts';

const mock = (devices: readonly DeviceDescription[] = []): MockIommuDescription => {
  return { name: 'iommu0', driver: 'mock', devices };
};
const paging = (devices: readonly PciDeviceDescription[]): PagingIommuDescription => {
  return { name: 'iommu1', driver: 'paging', devices };
};

const vtd = (devices: readonly PciDeviceDescription[]): VtdDescription => {
  return { name: 'dmar0', driver: 'intel-vtd', devices };
};

const edu: PciDeviceDescription = { name: 'edu0', model: 'edu', address: '0000:00:02.0' };

const iommuTest: PciDeviceDescription = {
  name: 'test0',
  model: 'iommu_test',
  address: '0000:00:02.0',
};

/** The machine where nobody asks for another. */
export const defaultMachine: MachineDescription = {
  name: 'edu',
  summary: "an edu device on PCI, beside the test driver's IOMMU (the default)",
  iommus: [mock(), paging([edu])],
};

/** Common shapes, by name. */
export const presets: readonly MachineDescription[] = [
  defaultMachine,
  {
    name: 'test-driver',
    summary: "the test driver's IOMMU alone, as a kernel with CONFIG_IOMMUFD_TEST has it",
    iommus: [mock()],
  },
  {
    name: 'two-edu-in-one-group',
    summary: 'two edu devices that their IOMMU cannot keep apart: one owner, one table',
    iommus: [
      paging([
        { ...edu, group: 'shared' },
        { ...edu, name: 'edu1', address: '0000:00:03.0', group: 'shared' },
      ]),
    ],
  },
  {
    name: 'vtd',
    summary: 'an edu device behind Intel VT-d in scalable mode: real tables, real caches',
    iommus: [vtd([edu])],
  },
  {
    name: 'vtd-legacy',
    summary: 'the same in legacy mode',
    iommus: [{ ...vtd([edu]), mode: 'legacy' }],
  },
  {
    name: 'page-faults',
    summary: 'a device that faults and waits for the answer, with PASIDs and a cache of its own',
    iommus: [paging([iommuTest])],
  },
  {
    name: 'vtd-page-faults',
    summary: 'the same behind Intel VT-d in scalable mode',
    iommus: [vtd([iommuTest])],
  },
  {
    name: 'one-device',
    summary: 'one device in a group of its own, with PASIDs',
    iommus: [mock([{ name: 'dev0', pasid: true }])],
  },
  {
    name: 'two-in-one-group',
    summary: 'two devices that share a group: attached, replaced and detached together',
    iommus: [
      mock([
        { name: 'dev0', group: 'shared' },
        { name: 'dev1', group: 'shared' },
      ]),
    ],
  },
  {
    name: 'reserved-regions',
    summary: 'a device with a message-interrupt window and a region for its firmware',
    iommus: [
      mock([
        {
          name: 'dev0',
          reserved: [
            { start: 0xfee0_0000n, last: 0xfeef_ffffn, kind: 'msi' },
            { start: 0x2000_0000n, last: 0x200f_ffffn, kind: 'reserved' },
          ],
        },
      ]),
    ],
  },
  {
    name: 'no-iommu',
    summary: 'no IOMMU: address spaces work, devices can not be made',
    iommus: [],
  },
];
