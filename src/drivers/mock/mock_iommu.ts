// SPDX-License-Identifier: Apache-2.0
import { IOMMU_HW_INFO_TYPE_DEFAULT, IOMMU_HWPT_DATA_NONE } from '../../abi/iommufd.ts';
import {
  IOMMU_HW_INFO_SELFTEST_REGVAL,
  iommu_hwpt_selftest,
  iommu_test_hw_info,
  MOCK_FLAGS_DEVICE_NO_DIRTY,
  MOCK_FLAGS_DEVICE_PASID,
  MOCK_IOMMUPT_DEFAULT,
  MOCK_IOMMUPT_HUGE,
  MOCK_PASID_WIDTH,
} from '../../abi/iommufd_test.ts';
import {
  IOMMU_HW_INFO_TYPE_SELFTEST,
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
} from '../../abi/iommufd_test_types.ts';
import { Errno } from '../../base/errno.ts';
import { IdTable } from '../../base/id_table.ts';
import type { IommuCore } from '../../iommu/core.ts';
import { type Device, IommuDevice, NO_PASID } from '../../iommu/device.ts';
import {
  DomainFlags,
  type DomainRequest,
  type HwInfo,
  IommuCap,
  type IommuOps,
} from '../../iommu/ops.ts';
import { copyStructFromUser, type UserData } from '../../iommu/user_data.ts';
import type { Domain, NestedDomain, PagingDomain } from '../../iommu/domain.ts';
import type { PageResponse } from '../../iommu/fault.ts';
import { IopfQueue } from '../../iommu/io_pgfault.ts';
import type { ViommuHost } from '../../iommu/viommu_ops.ts';
import type { TestHardware, TestNested, TestPaging } from '../../iommufd/test_hardware.ts';
import { Ram } from '../../memory/ram.ts';
import { translateInDomain } from '../../pci/domain_translation.ts';
import type {
  DmaAccess,
  TranslatedRun,
  TranslationFault,
  Translator,
} from '../../pci/translator.ts';
import { addFaultUser, removeFaultUser } from './mock_attach.ts';
import { MockDevice, type MockDeviceOptions } from './mock_device.ts';
import { MockBlockedDomain, MockPagingDomain } from './mock_domain.ts';
import { MockNestedDomain } from './mock_nested.ts';
import { MockViommu } from './mock_viommu.ts';

const DEVICE_FLAGS = MOCK_FLAGS_DEVICE_NO_DIRTY | MOCK_FLAGS_DEVICE_PASID;
const PAGING_FLAGS = DomainFlags.DIRTY_TRACKING | DomainFlags.NEST_PARENT | DomainFlags.PASID;

/**
 * The test driver's IOMMU: page tables that are real, devices that do no DMA. Counterpart of the mock driver in Linux's
 * drivers/iommu/iommufd/selftest.c, where nothing walks the tables; `translate` is ours, for tests that ask what a DMA would do.
 */
export class MockIommu implements TestHardware, Translator {
  readonly core: IommuCore;
  /** Where its tables live. */
  readonly ram: Ram;
  readonly ops: IommuOps;
  readonly iommu: IommuDevice;
  /** Page requests of its devices. */
  readonly pageRequests: IopfQueue;
  /** Told of each answer to a page request; the devices of this driver need none. */
  onPageResponse: ((device: Device, response: PageResponse) => void) | undefined = undefined;
  readonly #ids = new IdTable<MockDevice>(0);

  constructor(core: IommuCore, options: { readonly ram?: Ram } = {}) {
    this.core = core;
    this.ram = options.ram ?? new Ram({ faults: core.sim.faults });
    this.pageRequests = new IopfQueue(core);
    this.ops = this.#makeOps();
    this.iommu = new IommuDevice('iommufd_mock', this.ops, { maxPasids: 2 ** MOCK_PASID_WIDTH });
  }

  /**
   * A new device, in a group of its own unless told; `flags` are MOCK_FLAGS_DEVICE_*. Or -EINVAL for unknown flags, -ENOMEM, what
   * its default domain refuses.
   */
  createDevice(flags: number, options: MockDeviceOptions = {}): MockDevice | number {
    if ((flags & ~DEVICE_FLAGS) !== 0) return -Errno.EINVAL;
    if (this.core.allocFails()) return -Errno.ENOMEM;
    const id = this.#ids.reserve();
    const device = new MockDevice(id, flags, options);
    device.pageRequests = this.pageRequests;
    const rc = this.core.probeDevice(device, this.iommu);
    if (rc !== 0) {
      this.#ids.erase(id);
      return rc;
    }
    this.#ids.store(id, device);
    return device;
  }

  /** Takes a device away; nothing is attached to it any more. */
  destroyDevice(device: Device): void {
    if (!(device instanceof MockDevice) || this.#ids.get(device.id) !== device) {
      throw new Error(`${device.name} is no device of this mock IOMMU`);
    }
    this.core.releaseDevice(device);
    this.#ids.erase(device.id);
  }

  cacheEntry(device: Device, id: number): number | undefined {
    return device instanceof MockDevice ? device.cache[id] : undefined;
  }

  paging(domain: PagingDomain): TestPaging | undefined {
    return domain instanceof MockPagingDomain ? domain : undefined;
  }

  nested(domain: NestedDomain): TestNested | undefined {
    return domain instanceof MockNestedDomain ? domain : undefined;
  }

  owns(device: Device): boolean {
    return device instanceof MockDevice;
  }

  reportEvent(device: Device): number {
    if (!(device instanceof MockDevice)) return -Errno.EINVAL;
    const { viommu, virtualId } = device;
    return viommu && virtualId !== 0n ? viommu.reportEvent(virtualId) : -Errno.ENOENT;
  }

  translate(
    device: Device,
    pasid: number,
    iova: bigint,
    access: DmaAccess,
  ): TranslatedRun | TranslationFault {
    const own = device instanceof MockDevice ? device.domain : undefined;
    return translateInDomain(
      pasid === NO_PASID ? own : device.group?.domainAt(pasid),
      iova,
      access,
    );
  }

  /** The devices there are, by ascending id. */
  get devices(): MockDevice[] {
    return [...this.#ids.entries()].map(([, device]) => device);
  }

  #makeOps(): IommuOps {
    const blocked = new MockBlockedDomain();
    return {
      name: 'iommufd_mock',
      defaultDomain: blocked,
      blockedDomain: blocked,
      userPasidTable: true,
      deviceGroup: (device) => (device instanceof MockDevice ? device.groupKey : undefined),
      capable: (device, cap) => capable(device, cap),
      hwInfo: (_device, type) => hwInfo(type),
      domainAllocPagingFlags: (device, request) => this.#allocPaging(device, request),
      domainAllocNested: (_device, request) => this.#allocNested(request),
      canFault: () => true,
      enableFaults: (device) =>
        device instanceof MockDevice ? addFaultUser(device) : -Errno.ENODEV,
      disableFaults: (device) => device instanceof MockDevice && removeFaultUser(device),
      pageResponse: (device, response) => this.onPageResponse?.(device, response),
      hasViommu: (_device, type) => type === IOMMU_VIOMMU_TYPE_SELFTEST,
      viommuInit: (host, parent, userData) => this.#initViommu(host, parent, userData),
    };
  }

  #allocNested(request: DomainRequest & { readonly parent: Domain }): MockNestedDomain | number {
    const { flags, parent, userData } = request;
    if (!(parent instanceof MockPagingDomain)) return -Errno.EINVAL;
    if (!userData) return -Errno.EOPNOTSUPP;
    return MockNestedDomain.create(flags, userData, { allocFails: this.core.allocFails });
  }

  #initViommu(
    host: ViommuHost,
    parent: PagingDomain,
    userData: UserData | undefined,
  ): MockViommu | number {
    if (!(parent instanceof MockPagingDomain)) return -Errno.EINVAL;
    return MockViommu.create(host, parent, { userData, allocFails: this.core.allocFails });
  }

  #allocPaging(device: Device, request: DomainRequest): MockPagingDomain | number {
    const { flags, userData } = request;
    const dirty = (flags & DomainFlags.DIRTY_TRACKING) !== 0;
    if ((flags & ~PAGING_FLAGS) !== 0) return -Errno.EOPNOTSUPP;
    if (dirty && !capable(device, IommuCap.DIRTY_TRACKING)) return -Errno.EOPNOTSUPP;
    const type = userData ? pagetableType(userData) : MOCK_IOMMUPT_DEFAULT;
    if (type < 0) return type;
    if (this.core.allocFails()) return -Errno.ENOMEM;
    const isKnown = type === MOCK_IOMMUPT_DEFAULT || type === MOCK_IOMMUPT_HUGE;
    return isKnown ? MockPagingDomain.create(this.ram, type, dirty) : -Errno.EOPNOTSUPP;
  }
}

function capable(device: Device, cap: IommuCap): boolean {
  if (cap === IommuCap.CACHE_COHERENCY) return true;
  return cap === IommuCap.DIRTY_TRACKING && device instanceof MockDevice && device.hasDirtyTracking;
}

function hwInfo(type: number): HwInfo | number {
  const isOurs = type === IOMMU_HW_INFO_TYPE_DEFAULT || type === IOMMU_HW_INFO_TYPE_SELFTEST;
  if (!isOurs) return -Errno.EOPNOTSUPP;
  const data = new Uint8Array(iommu_test_hw_info.size);
  const info = iommu_test_hw_info.on(new DataView(data.buffer));
  info.test_reg = IOMMU_HW_INFO_SELFTEST_REGVAL;
  return { type: IOMMU_HW_INFO_TYPE_SELFTEST, data };
}

/** What the client's structure asks for: MOCK_IOMMUPT_*, or a negative errno. */
function pagetableType(userData: UserData): number {
  const { type } = userData;
  if (type !== IOMMU_HWPT_DATA_SELFTEST && type !== IOMMU_HWPT_DATA_NONE) return -Errno.EOPNOTSUPP;
  const { size } = iommu_hwpt_selftest;
  const minSize = iommu_hwpt_selftest.offsetofend('iotlb');
  const bytes = copyStructFromUser(userData, IOMMU_HWPT_DATA_SELFTEST, size, minSize);
  if (typeof bytes === 'number') return bytes;
  return iommu_hwpt_selftest.on(new DataView(bytes.buffer)).pagetable_type;
}
