// SPDX-License-Identifier: Apache-2.0
import {
  IOMMU_TEST_HW_QUEUE_MAX,
  IOMMU_TEST_INVALIDATE_FLAG_ALL,
  iommu_viommu_event_selftest,
  iommu_viommu_invalidate_selftest,
  iommu_viommu_selftest,
  MOCK_DEV_CACHE_ID_MAX,
} from '../../abi/iommufd_test.ts';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_VEVENTQ_TYPE_SELFTEST,
  IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
} from '../../abi/iommufd_test_types.ts';
import { Errno } from '../../base/errno.ts';
import type { NestedDomain, PagingDomain } from '../../iommu/domain.ts';
import {
  copyFullUserArray,
  copyStructFromUser,
  type Invalidation,
  type UserData,
  type UserDataArray,
} from '../../iommu/user_data.ts';
import type {
  DriverPart,
  HwQueueHost,
  SharedPages,
  ViommuDriver,
  ViommuHost,
} from '../../iommu/viommu_ops.ts';
import { MockDevice } from './mock_device.ts';
import { MockNestedDomain } from './mock_nested.ts';

const SHARED_PAGES = 2;
const REQUEST = iommu_viommu_invalidate_selftest;
/** Linux gets the requests of one call in one piece of memory, which it can not have larger than this; in bytes. */
const MOST_REQUEST_BYTES = 4 * 1024 * 1024;

/** The test driver's part of a virtual IOMMU: caches of its devices, two queues, two pages. Counterpart of `struct mock_viommu`. */
export class MockViommu implements ViommuDriver {
  readonly host: ViommuHost;
  private readonly parent: PagingDomain;
  private readonly allocFails: () => boolean;
  private readonly queues: (HwQueueHost | undefined)[] = [];
  private shared: SharedPages | undefined = undefined;

  /** See {@link MockViommu.create}. */
  private constructor(host: ViommuHost, parent: PagingDomain, allocFails: () => boolean) {
    this.host = host;
    this.parent = parent;
    this.allocFails = allocFails;
  }

  /** With data of the client, which is optional, it also has pages to share; or -EINVAL, -EFAULT, -ENOMEM. */
  static create(
    host: ViommuHost,
    parent: PagingDomain,
    options: { readonly userData: UserData | undefined; readonly allocFails: () => boolean },
  ): MockViommu | number {
    const viommu = new MockViommu(host, parent, options.allocFails);
    const rc = options.userData ? viommu.share(options.userData) : 0;
    return rc === 0 ? viommu : rc;
  }

  /** Sends the client's word back, in the structure and in the first word of the shared pages. */
  private share(userData: UserData): number {
    const type = IOMMU_VIOMMU_TYPE_SELFTEST;
    const { size } = iommu_viommu_selftest;
    const least = iommu_viommu_selftest.offsetofend('out_data');
    const bytes = copyStructFromUser(userData, type, size, least);
    if (typeof bytes === 'number') return bytes;
    const shared = this.host.sharePages(SHARED_PAGES);
    if (typeof shared === 'number') return shared;
    const data = iommu_viommu_selftest.on(new DataView(bytes.buffer));
    const { in_data: word } = data;
    data.out_data = word;
    data.out_mmap_length = BigInt(shared.length);
    data.out_mmap_offset = shared.offset;
    shared.write(0, bytes.subarray(0, iommu_viommu_selftest.offsetofend('in_data')));
    if (!userData.copyOut(0, bytes.subarray(0, userData.length))) {
      shared.free();
      return -Errno.EFAULT;
    }
    this.shared = shared;
    return 0;
  }

  destroy(): void {
    this.shared?.free();
  }

  allocDomainNested(flags: number, userData: UserData): NestedDomain | number {
    return MockNestedDomain.create(flags, userData, { viommu: this, allocFails: this.allocFails });
  }

  /** All entries are read before the first is carried out. */
  invalidate(array: UserDataArray): Invalidation {
    const { type, entryCount } = array;
    if (entryCount === 0 && type === IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST)
      return { result: 0, handled: 0 };
    // As Linux has it: all of them count as handled where there is no memory to read them into.
    if (entryCount * REQUEST.size > MOST_REQUEST_BYTES || this.allocFails())
      return { result: -Errno.ENOMEM, handled: entryCount };
    const bytes = copyFullUserArray(array, IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST, REQUEST.size);
    if (typeof bytes === 'number') return { result: bytes, handled: 0 };
    const view = new DataView(bytes.buffer);
    for (let index = 0; index < entryCount; index++) {
      const result = this.invalidateOne(REQUEST.on(view, index * REQUEST.size));
      if (result !== 0) return { result, handled: index };
    }
    return { result: 0, handled: entryCount };
  }

  private invalidateOne(request: ReturnType<typeof REQUEST.on>): number {
    const { flags, cache_id: id, vdev_id: virtualId } = request;
    if ((flags & ~IOMMU_TEST_INVALIDATE_FLAG_ALL) !== 0) return -Errno.EOPNOTSUPP;
    if (id > MOCK_DEV_CACHE_ID_MAX) return -Errno.EINVAL;
    const device = this.host.deviceOf(BigInt(virtualId));
    if (!(device instanceof MockDevice)) return -Errno.EINVAL;
    if (flags & IOMMU_TEST_INVALIDATE_FLAG_ALL) device.cache.fill(0);
    else device.cache[id] = 0;
    return 0;
  }

  hasHwQueue(type: number): boolean {
    return type === IOMMU_HW_QUEUE_TYPE_SELFTEST;
  }

  /** Queue 1 needs queue 0. -EINVAL (no such index), -EEXIST, -EIO (no queue 0), -EFAULT (not where the parent says). */
  hwQueueInit(queue: HwQueueHost, index: number, basePhys: bigint): DriverPart | number {
    const { queues } = this;
    if (index >= IOMMU_TEST_HW_QUEUE_MAX) return -Errno.EINVAL;
    if (queues[index]) return -Errno.EEXIST;
    const previous = queues[index - 1];
    if (index > 0 && !previous) return -Errno.EIO;
    if (basePhys !== this.parent.iovaToPhys(queue.baseAddress)) return -Errno.EFAULT;
    previous?.hold();
    queues[index] = queue;
    return {
      destroy: () => {
        queues[index] = undefined;
        previous?.release();
      },
    };
  }

  /** An event of one of its devices. 0, or what `ViommuHost.reportEvent` answers. */
  reportEvent(virtualId: bigint): number {
    const bytes = new Uint8Array(iommu_viommu_event_selftest.size);
    const event = iommu_viommu_event_selftest.on(new DataView(bytes.buffer));
    event.virt_id = Number(BigInt.asUintN(32, virtualId));
    return this.host.reportEvent(IOMMU_VEVENTQ_TYPE_SELFTEST, bytes);
  }
}
