// SPDX-License-Identifier: Apache-2.0
import { Errno } from '../base/errno.ts';
import type { Mm } from '../memory/mm.ts';
import type { Device } from './device.ts';
import {
  DomainType,
  isPagingDomain,
  type NestedDomain,
  type PagingDomain,
  type SvaDomain,
} from './domain.ts';
import type { DomainRequest, IommuOps } from './ops.ts';
import { svaFaultHandler } from './sva_fault.ts';
import type { ViommuDriver } from './viommu_ops.ts';

/*
 * The three ways to a domain (A1). A driver declares by its operations which it has; what it lacks is refused here, and what it
 * returns is checked here, so that no user has to.
 */

/** A paging domain without choices: for the core's own use and simple users. Or a negative errno. */
export function allocPagingDomain(
  device: Device,
  type: PagingDomain['type'] = DomainType.UNMANAGED,
): PagingDomain | number {
  const ops = device.iommu?.ops;
  if (!ops) return -Errno.ENODEV;
  const domain = ops.domainAllocPaging
    ? ops.domainAllocPaging(device)
    : (ops.domainAllocPagingFlags?.(device, { flags: 0 }) ?? -Errno.EOPNOTSUPP);
  if (typeof domain === 'number') return domain;
  domain.seal(ops, { type });
  return domain;
}

/**
 * A domain with a user's choices: flags, a parent to nest on, the driver's own data, page faults. Or a negative errno:
 * -EOPNOTSUPP where the driver lacks any of it, -EINVAL for a parent that is none, or what the driver answers.
 */
export function allocUserDomain(
  device: Device,
  request: DomainRequest,
): PagingDomain | NestedDomain | number {
  const ops = device.iommu?.ops;
  if (!ops) return -Errno.ENODEV;
  const domain = request.parent
    ? nested(ops, device, { ...request, parent: request.parent })
    : paging(ops, device, request);
  if (typeof domain === 'number') return domain;
  domain.seal(ops, { faultHandler: request.faultHandler });
  return domain;
}

/** A guest's translation made through its virtual IOMMU, whose driver part is `viommu` and belongs to `ops`. Or a negative errno. */
export function allocViommuDomain(
  ops: IommuOps,
  viommu: ViommuDriver,
  request: DomainRequest,
): NestedDomain | number {
  const { flags, userData, faultHandler } = request;
  if (!viommu.allocDomainNested || !userData) return -Errno.EOPNOTSUPP;
  const domain = viommu.allocDomainNested(flags, userData);
  if (typeof domain === 'number') return domain;
  domain.seal(ops, { faultHandler });
  return domain;
}

/**
 * A domain that is the address space of a process, whole at once; its page faults are that process's. Or a negative errno: -EOPNOTSUPP,
 * -ENODEV, or what the driver answers.
 */
export function allocSvaDomain(device: Device, mm: Mm): SvaDomain | number {
  const ops = device.iommu?.ops;
  if (!ops) return -Errno.ENODEV;
  const domain = ops.domainAllocSva?.(device, mm) ?? -Errno.EOPNOTSUPP;
  if (typeof domain === 'number') return domain;
  domain.seal(ops, { faultHandler: svaFaultHandler });
  return domain;
}

function paging(ops: IommuOps, device: Device, request: DomainRequest): PagingDomain | number {
  if (ops.domainAllocPagingFlags) return ops.domainAllocPagingFlags(device, request);
  const hasChoices = request.flags !== 0 || request.userData || request.faultHandler;
  if (hasChoices || !ops.domainAllocPaging) return -Errno.EOPNOTSUPP;
  return ops.domainAllocPaging(device);
}

function nested(
  ops: IommuOps,
  device: Device,
  request: DomainRequest & { readonly parent: NonNullable<DomainRequest['parent']> },
): NestedDomain | number {
  if (!ops.domainAllocNested || !request.userData) return -Errno.EOPNOTSUPP;
  if (!isPagingDomain(request.parent) || request.parent.owner !== ops) return -Errno.EINVAL;
  return ops.domainAllocNested(device, request);
}
