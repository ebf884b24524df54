// SPDX-License-Identifier: Apache-2.0
/** Hardware page tables that a guest manages, on a nesting parent (the nested half of hw_pagetable.c). */
import { iommufd_hwpt_alloc_flags as HwptFlags } from '../abi/iommufd.ts';
import { withCleanup } from '../base/cleanup.ts';
import { ErrnoError } from '../base/errno.ts';
import { allocUserDomain, allocViommuDomain } from '../iommu/alloc.ts';
import { type Domain, isNestedDomain, type NestedDomain } from '../iommu/domain.ts';
import type { UserData } from '../iommu/user_data.ts';
import { checkErrno } from './check.ts';
import type { Context } from './context.ts';
import type { IommufdDevice } from './device.ts';
import type { FaultQueue } from './fault.ts';
import { HwPagetable, type HwptPaging } from './hw_pagetable.ts';
import type { Viommu } from './viommu.ts';

/** A guest's translation by an id (struct iommufd_hwpt_nested). It holds its parent, or the virtual IOMMU that holds it. */
export class HwptNested extends HwPagetable {
  readonly type = 'HWPT_NESTED';
  readonly pasidCompatible: boolean;
  readonly parent: HwptPaging;
  readonly viommu: Viommu | undefined;
  private domain_: NestedDomain | undefined = undefined;

  /** Takes a user of the parent, or of the virtual IOMMU. */
  constructor(parent: HwptPaging, flags: number, viommu: Viommu | undefined) {
    super();
    this.parent = parent;
    this.viommu = viommu;
    (viommu ?? parent).users++;
    this.pasidCompatible = (flags & HwptFlags.IOMMU_HWPT_ALLOC_PASID) !== 0;
  }

  get domain(): NestedDomain {
    if (!this.domain_) throw new Error('the hardware page table has no domain yet');
    return this.domain_;
  }

  set domain(domain: NestedDomain) {
    this.domain_ = domain;
  }

  get paging(): HwptPaging {
    return this.parent;
  }

  override destroy(): void {
    this.domain_?.free();
    this.dropFault();
    (this.viommu ?? this.parent).users--;
  }
}

export interface NestedRequest {
  /** IOMMU_HWPT_ALLOC_*, fault id included. */
  readonly flags: number;
  /** The driver's description of the guest's table; there is no nested table without. */
  readonly userData: UserData | undefined;
  readonly fault: FaultQueue | undefined;
}

const NESTED_FLAGS = HwptFlags.IOMMU_HWPT_FAULT_ID_VALID | HwptFlags.IOMMU_HWPT_ALLOC_PASID;

function checkRequest({ flags, userData }: NestedRequest, driverHasIt: boolean): void {
  const unknown = (flags & ~NESTED_FLAGS) >>> 0;
  if (unknown) {
    throw new ErrnoError('EOPNOTSUPP', `flags 0x${unknown.toString(16)} are not for nested tables`);
  }
  if (!userData) throw new ErrnoError('EOPNOTSUPP', 'a nested table needs data for its driver');
  if (!driverHasIt) throw new ErrnoError('EOPNOTSUPP', 'the driver has no nested tables here');
}

/** Takes an id for the table, then its domain; the caller finalizes it, or aborts and destroys it. */
function make(
  context: Context,
  hwpt: HwptNested,
  { flags, fault }: NestedRequest,
  alloc: (driverFlags: number) => Domain | number,
): HwptNested {
  return withCleanup((cleanup) => {
    cleanup.defer(() => hwpt.destroy());
    context.objects.reserve(hwpt);
    cleanup.defer(() => context.objects.abort(hwpt));
    const domain = alloc(flags & ~HwptFlags.IOMMU_HWPT_FAULT_ID_VALID);
    if (typeof domain === 'number')
      throw checkErrno(domain, 'the driver refused the nested domain');
    if (!isNestedDomain(domain)) throw new Error('a driver answered no nested domain for one');
    hwpt.domain = domain;
    domain.cookie = { kind: 'iommufd', hwpt };
    hwpt.takeFault(fault);
    return hwpt;
  });
}

/** A nested table on a parent, for a device. @throws EOPNOTSUPP, EINVAL (the parent can not be one), what the driver answers */
export function allocHwptNested(
  context: Context,
  parent: HwptPaging,
  device: IommufdDevice,
  request: NestedRequest,
): HwptNested {
  const ops = device.device.iommu?.ops;
  checkRequest(request, ops?.domainAllocNested !== undefined);
  if (parent.automatic || !parent.nestParent || parent.domain.owner !== ops) {
    const why = parent.nestParent
      ? "another driver's"
      : 'made without IOMMU_HWPT_ALLOC_NEST_PARENT';
    throw new ErrnoError('EINVAL', `hardware page table ${parent.id} can not be a parent: ${why}`);
  }
  const hwpt = new HwptNested(parent, request.flags, undefined);
  const { userData, fault: faultHandler } = request;
  return make(context, hwpt, request, (flags) =>
    allocUserDomain(device.device, { flags, parent: parent.domain, userData, faultHandler }),
  );
}

/** A nested table through a virtual IOMMU. Throws as {@link allocHwptNested}. */
export function allocHwptViommu(
  context: Context,
  viommu: Viommu,
  request: NestedRequest,
): HwptNested {
  const { driver, iommu } = viommu;
  checkRequest(request, driver.allocDomainNested !== undefined);
  const hwpt = new HwptNested(viommu.parent, request.flags, viommu);
  const { userData, fault: faultHandler } = request;
  return make(context, hwpt, request, (flags) =>
    allocViommuDomain(iommu.ops, driver, { flags, userData, faultHandler }),
  );
}
