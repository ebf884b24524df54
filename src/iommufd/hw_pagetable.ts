// SPDX-License-Identifier: Apache-2.0
import { iommufd_hwpt_alloc_flags as HwptFlags } from '../abi/iommufd.ts';
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { allocUserDomain } from '../iommu/alloc.ts';
import { NO_PASID } from '../iommu/device.ts';
import { type Domain, isPagingDomain, type PagingDomain } from '../iommu/domain.ts';
import { IommuCap } from '../iommu/ops.ts';
import type { UserData } from '../iommu/user_data.ts';
import { checkErrno } from './check.ts';
import type { Context } from './context.ts';
import type { IommufdDevice } from './device.ts';
import { attachHwpt, detachHwpt } from './attach.ts';
import type { FaultQueue } from './fault.ts';
import type { Ioas } from './ioas.ts';
import { IommufdObject } from './objects.ts';

/** A domain that clients know by an id (struct iommufd_hw_pagetable). */
export abstract class HwPagetable extends IommufdObject {
  abstract readonly domain: Domain;
  /** Made for use with PASIDs: IOMMU_HWPT_ALLOC_PASID. */
  abstract readonly pasidCompatible: boolean;
  /** The paging table whose address space the translations of this one end in. */
  abstract readonly paging: HwptPaging | undefined;
  private fault_: FaultQueue | undefined = undefined;

  /** Where its page faults go; decided when it is allocated (A2). */
  get fault(): FaultQueue | undefined {
    return this.fault_;
  }

  /** At its allocation: becomes a user of the queue that its domain was made with. */
  takeFault(fault: FaultQueue | undefined): void {
    this.fault_ = fault;
    if (fault) fault.users++;
  }

  /** At its end, after the domain is freed. */
  protected dropFault(): void {
    if (this.fault_) this.fault_.users--;
  }
}

/** A domain that carries a copy of an address space. */
export class HwptPaging extends HwPagetable {
  readonly type = 'HWPT_PAGING';
  readonly ioas: Ioas;
  readonly pasidCompatible: boolean;
  readonly nestParent: boolean;
  /** Made by iommufd on attach to an IOAS; goes with its last device. */
  automatic = false;
  enforceCacheCoherency = false;
  private domain_: PagingDomain | undefined = undefined;

  /** Takes a user of the IOAS. */
  constructor(ioas: Ioas, flags: number) {
    super();
    this.ioas = ioas;
    ioas.users++;
    this.pasidCompatible = (flags & HwptFlags.IOMMU_HWPT_ALLOC_PASID) !== 0;
    this.nestParent = (flags & HwptFlags.IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
  }

  get domain(): PagingDomain {
    if (!this.domain_) throw new Error('the hardware page table has no domain yet');
    return this.domain_;
  }

  set domain(domain: PagingDomain) {
    this.domain_ = domain;
  }

  get paging(): HwptPaging {
    return this;
  }

  /** Fills the domain from its IOAS and keeps it in step. */
  join(): void {
    this.ioas.table.addDomain(this.domain);
    this.ioas.hwpts.push(this);
  }

  override destroy(): void {
    const at = this.ioas.hwpts.indexOf(this);
    if (at >= 0) {
      this.ioas.hwpts.splice(at, 1);
      this.ioas.table.removeDomain(this.domain);
    }
    this.domain_?.free();
    this.dropFault();
    this.ioas.users--;
  }
}

const PAGING_FLAGS =
  HwptFlags.IOMMU_HWPT_ALLOC_NEST_PARENT |
  HwptFlags.IOMMU_HWPT_ALLOC_DIRTY_TRACKING |
  HwptFlags.IOMMU_HWPT_FAULT_ID_VALID |
  HwptFlags.IOMMU_HWPT_ALLOC_PASID;

/** What the flags may be for a device; throws EOPNOTSUPP. */
function checkPagingFlags(
  device: IommufdDevice,
  flags: number,
  userData: UserData | undefined,
): void {
  const ops = device.device.iommu?.ops;
  if ((flags || userData) && !ops?.domainAllocPagingFlags) {
    throw new ErrnoError(
      'EOPNOTSUPP',
      `the driver of ${device.device.name} has no choices for its domains`,
    );
  }
  const unknown = (flags & ~PAGING_FLAGS) >>> 0;
  if (unknown) throw new ErrnoError('EOPNOTSUPP', `unknown flags 0x${unknown.toString(16)}`);
  const dirty = (flags & HwptFlags.IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0;
  if (dirty && !device.capable(IommuCap.DIRTY_TRACKING)) {
    throw new ErrnoError('EOPNOTSUPP', `the IOMMU of ${device.device.name} has no dirty tracking`);
  }
  const fault = (flags & HwptFlags.IOMMU_HWPT_FAULT_ID_VALID) !== 0;
  if (fault && flags & HwptFlags.IOMMU_HWPT_ALLOC_NEST_PARENT) {
    throw new ErrnoError('EOPNOTSUPP', 'a nesting parent can not have faults');
  }
}

export interface PagingRequest {
  readonly flags: number;
  readonly userData?: UserData | undefined;
  /** Where its page faults go (A2). */
  readonly fault?: FaultQueue | undefined;
  /** Attach the device at this PASID before the domain is filled: what drivers that finish a domain at attach need. */
  readonly attachPasid?: number | undefined;
}

/**
 * Makes a domain for a device, filled with the map of an IOAS; the caller finalizes it, or aborts and destroys it.
 * Counterpart of iommufd_hwpt_paging_alloc().
 */
export function allocHwptPaging(
  context: Context,
  ioas: Ioas,
  device: IommufdDevice,
  request: PagingRequest,
): HwptPaging {
  const { flags, userData, fault, attachPasid } = request;
  checkPagingFlags(device, flags, userData);
  return withCleanup((cleanup) => {
    const hwpt = new HwptPaging(ioas, flags);
    cleanup.defer(() => hwpt.destroy());
    context.objects.reserve(hwpt);
    cleanup.defer(() => context.objects.abort(hwpt));
    const driverFlags = flags & ~HwptFlags.IOMMU_HWPT_FAULT_ID_VALID;
    const wanted = { flags: driverFlags, userData, faultHandler: fault };
    const domain = allocUserDomain(device.device, wanted);
    if (typeof domain === 'number')
      throw checkErrno(domain, `the driver of ${device.device.name} refused the domain`);
    if (!isPagingDomain(domain))
      throw new Error('a driver answered a nested domain for a paging one');
    hwpt.domain = domain;
    domain.cookie = { kind: 'iommufd', hwpt };
    hwpt.takeFault(fault);
    if (device.enforceCacheCoherency) {
      hwpt.enforceCacheCoherency = domain.enforceCacheCoherency?.() ?? false;
      if (!hwpt.enforceCacheCoherency) {
        throw new ErrnoError(
          'EINVAL',
          'the driver promised cache coherency and does not enforce it',
        );
      }
    }
    if (attachPasid !== undefined) {
      attachHwpt(hwpt, device, attachPasid);
      cleanup.defer(() => detachHwpt(device, attachPasid));
    }
    hwpt.join();
    return hwpt;
  });
}

/** Puts a reference of a table that was just detached: an automatic one goes with its last. */
export function putHwpt(context: Context, hwpt: HwPagetable): void {
  if (hwpt instanceof HwptPaging && hwpt.automatic) context.objects.putAndTryDestroy(hwpt);
  else hwpt.users--;
}

/** No PASID: the device's own requests. */
export { NO_PASID };
